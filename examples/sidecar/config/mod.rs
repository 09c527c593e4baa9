//! The configuration of the sidecar: from a TOML file to values that need no further checking.
//!
//! In: the text of a file, and the machine that it is meant for. Out: a [`Config`] with every default
//! filled in, or everything that is wrong with the file, each with its line, column and remedy. Owns
//! the names and meanings of all keys. Never opens a socket that stays open, and never changes
//! anything.
//!
//! ```text
//! text ──toml──► document ──section, value, address──► Draft ──check──► build ──► Config
//!        syntax            keys and single values            relations, machine
//!          └────────────────────────┴───────────────────────────┴──► Problems
//! ```
//!
//! All of the file is read before anything is reported. Only where the syntax is broken, so that what
//! belongs together may have come apart, do the relations between sections have to wait.

mod address;
mod build;
mod check;
mod draft;
mod host;
mod keys;
pub(crate) mod log_filter;
mod nearest;
mod problem;
mod reload;
mod route;
pub(crate) mod schema;
mod section;
mod tls;
mod value;
mod written;

#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read},
    path::Path,
};

use toml::de::DeTable;

use self::{draft::Draft, problem::Findings};
pub(crate) use self::{host::Host, problem::Problems, reload::reload_refusals, schema::Config};

/// The largest file that is read, in bytes; a path that names something endless must not take all
/// memory.
const LARGEST_FILE: u64 = 16 << 20;

/// A file that can be run.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// What is hardly meant as it is written.
    pub(crate) warnings: Problems,
}

/// Reads a configuration from a file.
///
/// # Errors
/// Everything that is wrong with the file, or that it could not be read.
pub(crate) fn load(file: &Path, host: &Host) -> Result<Loaded, Problems> {
    let text = read(file).map_err(|error| Problems::unreadable(file, error))?;
    // A relative path must mean the same for as long as the process runs.
    let directory = file.parent().unwrap_or(Path::new(""));
    let directory = match directory.as_os_str().is_empty() {
        true => std::env::current_dir(),
        false => std::path::absolute(directory),
    };
    let directory = directory.map_err(|error| Problems::unreadable(file, error))?;
    match str::from_utf8(&text) {
        Ok(text) => parse(text, file, &directory, host),
        Err(error) => {
            let valid = String::from_utf8_lossy(&text[..error.valid_up_to()]);
            let mut findings = Findings::default();
            findings.error(valid.len()..valid.len(), "not UTF-8, which TOML has to be");
            Err(findings.into_problems(file, &valid))
        }
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(file)?.take(LARGEST_FILE + 1).read_to_end(&mut text)?;
    match text.len() as u64 {
        length if length > LARGEST_FILE => {
            Err(io::Error::other(format!("larger than {} MiB", LARGEST_FILE >> 20)))
        }
        _ => Ok(text),
    }
}

/// Reads a configuration from text. `file` is only for the messages; relative paths are relative to
/// `directory`.
///
/// # Errors
/// Everything that is wrong with the text, in its order.
pub(crate) fn parse(
    text: &str,
    file: &Path,
    directory: &Path,
    host: &Host,
) -> Result<Loaded, Problems> {
    let (document, syntax_errors) = DeTable::parse_recoverable(text);
    let mut findings = Findings::default();
    let draft = Draft::read(document.get_ref(), directory, &mut findings);
    if !syntax_errors.is_empty() {
        return Err(broken(syntax_errors, findings, text).into_problems(file, text));
    }
    let via = check::check(&draft, host, text, &mut findings);
    let has_errors = findings.has_errors();
    let config = build::build(draft, &via);
    let problems = findings.into_problems(file, text);
    match config {
        Some(config) if !has_errors => Ok(Loaded { config, warnings: problems }),
        _ => Err(problems),
    }
}

/// The findings of a file whose syntax is broken. What was read from a broken line, or below a broken
/// header, is not what was written there, so it is not held against it.
fn broken(syntax_errors: Vec<toml::de::Error>, mut findings: Findings, text: &str) -> Findings {
    let line_start = |offset: usize| {
        let before = &text.as_bytes()[..offset.min(text.len())];
        before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1)
    };
    let mut broken = Findings::default();
    let mut unreliable = HashSet::new();
    for error in syntax_errors {
        let at = error.span().unwrap_or(0..0);
        unreliable.insert(line_start(at.start));
        let message = match text.get(at.clone()) {
            Some(key) if error.message() == "duplicate key" => {
                format!("`{key}` is written twice: remove one")
            }
            _ => error.message().to_owned(),
        };
        broken.error(at, message);
    }
    let (mut start, mut below_broken_header) = (0, false);
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with('[') {
            below_broken_header = unreliable.contains(&start);
        } else if below_broken_header {
            unreliable.insert(start);
        }
        start += line.len();
    }
    findings.retain(|offset| !unreliable.contains(&line_start(offset)));
    broken.append(findings);
    broken
}
