//! Whatever a file holds is taken or refused, and each problem has its place.

use proptest::prelude::*;

use super::{EVERY_KEY, host, lines, read};
use crate::config::{Loaded, problem::Position};

/// Damage that editors, merges and templates do to a file.
#[derive(Debug, Clone)]
enum Damage {
    Delete(prop::sample::Index),
    Repeat(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    Garble(prop::sample::Index, prop::sample::Index, char),
    Cut(prop::sample::Index, prop::sample::Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        index().prop_map(Damage::Delete),
        index().prop_map(Damage::Repeat),
        (index(), index()).prop_map(|(a, b)| Damage::Swap(a, b)),
        (index(), index(), any::<char>()).prop_map(|(line, at, c)| Damage::Garble(line, at, c)),
        (
            index(),
            index(),
            prop::sample::select(vec!['"', '[', ']', '=', '#', '\n', '{', '0', '.'])
        )
            .prop_map(|(line, at, c)| Damage::Garble(line, at, c)),
        (index(), index()).prop_map(|(line, at)| Damage::Cut(line, at)),
    ]
}

fn apply(lines: &mut Vec<String>, damage: Damage) {
    if lines.is_empty() {
        return;
    }
    let boundary =
        |line: &str, at: prop::sample::Index| line.floor_char_boundary(at.index(line.len() + 1));
    match damage {
        Damage::Delete(line) => {
            lines.remove(line.index(lines.len()));
        }
        Damage::Repeat(line) => {
            let line = line.index(lines.len());
            lines.insert(line, lines[line].clone());
        }
        Damage::Swap(a, b) => {
            let count = lines.len();
            lines.swap(a.index(count), b.index(count));
        }
        Damage::Garble(line, at, c) => {
            let count = lines.len();
            let line = &mut lines[line.index(count)];
            line.insert(boundary(line, at), c);
        }
        Damage::Cut(line, at) => {
            let count = lines.len();
            let line = &mut lines[line.index(count)];
            line.truncate(boundary(line, at));
        }
    }
}

/// What must hold of any text: it is taken and reads back as the same, or it is refused with at least
/// one error, and every problem stands within the text and in its order.
fn taken_or_refused(text: &str) -> Result<(), TestCaseError> {
    let problems = match read(text, &host()) {
        Ok(Loaded { config, warnings }) => {
            let printed = config.to_toml().unwrap();
            let again = read(&printed, &host());
            prop_assert!(again.is_ok(), "{:?}\n{printed}", again.err());
            prop_assert_eq!(again.unwrap().config, config);
            lines(&warnings.to_string())
        }
        Err(problems) => {
            prop_assert!(problems.iter().any(|line| line.contains(": error: ")), "{problems:?}");
            problems
        }
    };
    let mut last = Position { line: 1, column: 1 };
    for problem in problems {
        let mut parts = problem.splitn(3, ':');
        let mut number = || parts.next().unwrap().parse::<usize>().unwrap();
        let position = Position { line: number(), column: number() };
        prop_assert!(last <= position, "{problem}");
        last = position;
        let line = text.split('\n').nth(position.line - 1);
        let length = line.map(|line| line.chars().count());
        prop_assert!(length.is_some_and(|length| position.column <= length + 1), "{problem}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_damaged_file_is_taken_or_refused(damages in prop::collection::vec(damage(), 1..8)) {
        let mut lines: Vec<_> = EVERY_KEY.lines().map(str::to_owned).collect();
        for damage in damages {
            apply(&mut lines, damage);
        }
        taken_or_refused(&lines.join("\n"))?;
    }

    #[test]
    fn any_text_is_taken_or_refused(text in any::<String>()) {
        taken_or_refused(&text)?;
    }
}
