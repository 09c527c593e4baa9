//! The order of the modules, held by a test: what may import what, where `unsafe` may stand, and how
//! long a file may get. ARCHITECTURE.md says why.
//!
//! The sources are read as tokens, so comments, documentation and strings count for nothing, and
//! whatever is compiled for tests only is left out where imports are concerned.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// From the top down. The modules of one layer may import each other and every layer below.
const LAYERS: &[&[&str]] = &[
    &["guests", "proxy", "signal", "simulation"],
    &["admin", "http"],
    &["detect", "relay"],
    &["upstream"],
    &["tls"],
    // A connection arrives: from the accept queue to the service, as one layer.
    &["accept", "connection", "listener", "service", "shard"],
    &["limits", "net", "original_dst", "proxy_protocol"],
    &["runtime"],
    &["ring"],
    &["sys"],
];

/// Anyone may import these, and they import nothing but each other.
const LEAVES: &[&str] = &["config", "drain", "sync", "telemetry"];

/// Anyone may import it, and it imports the errors of all layers: it is their sum.
const SUM_OF_ERRORS: &str = "error";

/// The only folders in which `unsafe` may stand.
const UNSAFE: &[&str] = &["ring", "sys"];

const LONGEST_FILE: usize = 700;

/// A file of `src`.
struct Source {
    path: PathBuf,
    /// Its module, from the crate's root; empty for the root itself.
    module: Vec<String>,
    text: String,
}

impl Source {
    fn tokens(&self) -> TokenStream {
        self.text.parse().unwrap_or_else(|error| panic!("{}: {error}", self.path.display()))
    }

    /// The top-level module that it belongs to; none for the crate's root.
    fn top(&self) -> Option<&str> {
        self.module.first().map(String::as_str)
    }

    /// Whether it holds tests only, as its name says.
    fn is_test(&self) -> bool {
        self.module.iter().any(|name| name == "tests")
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inside = path.strip_prefix(&root).unwrap().with_extension("");
                let module = inside
                    .iter()
                    .map(|part| part.to_str().unwrap().to_owned())
                    .filter(|part| part != "mod" && part != "lib")
                    .collect();
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source { path: inside.with_extension("rs"), module, text });
            }
        }
    }
    assert!(found.len() > 20, "the sources were not found");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The top-level modules that tokens in `module` name, by `crate::` or by `super::` up to the root.
fn imports(tokens: TokenStream, module: &[String]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect_imports(&tokens.into_iter().collect::<Vec<_>>(), module.len(), &mut found);
    found
}

/// `depth` is how many `super` lead to the crate's root.
fn collect_imports(tokens: &[TokenTree], depth: usize, found: &mut BTreeSet<String>) {
    let mut rest = tokens;
    while let Some((token, behind)) = rest.split_first() {
        if is_test_attribute(rest) {
            rest = behind_item(&rest[2..]);
            continue;
        }
        if let TokenTree::Group(group) = token {
            let inner: Vec<_> = group.stream().into_iter().collect();
            // Inside `mod name { … }`, one more `super` leads to the root.
            let before = &tokens[..tokens.len() - rest.len()];
            let is_module = group.delimiter() == Delimiter::Brace
                && matches!(before, [.., keyword, TokenTree::Ident(_)] if is(keyword, "mod"));
            collect_imports(&inner, depth + usize::from(is_module), found);
        }
        rest = match root_path(rest, depth) {
            Some(path) => {
                first_names(path, found);
                path
            }
            None => behind,
        };
    }
}

/// What follows `crate::`, or as many `super::` as lead to the root, at the start of `tokens`.
fn root_path(tokens: &[TokenTree], depth: usize) -> Option<&[TokenTree]> {
    if let Some(path) = behind_prefix("crate", tokens) {
        return Some(path);
    }
    let mut rest = tokens;
    let mut climbed = 0;
    while let Some(path) = behind_prefix("super", rest) {
        rest = path;
        climbed += 1;
    }
    (climbed > 0 && climbed == depth).then_some(rest)
}

/// What follows `name::` at the start of `tokens`.
fn behind_prefix<'t>(name: &str, tokens: &'t [TokenTree]) -> Option<&'t [TokenTree]> {
    match tokens {
        [first, a, b, rest @ ..] if is(first, name) && is(a, ":") && is(b, ":") => Some(rest),
        _ => None,
    }
}

/// The first name of a path, or of each path of a braced list.
fn first_names(path: &[TokenTree], found: &mut BTreeSet<String>) {
    match path.first() {
        Some(TokenTree::Ident(name)) => {
            found.insert(name.to_string());
        }
        Some(TokenTree::Group(list)) if list.delimiter() == Delimiter::Brace => {
            let list: Vec<_> = list.stream().into_iter().collect();
            for path in list.split(|token| is(token, ",")) {
                first_names(path, found);
            }
        }
        _ => {}
    }
}

/// Whether `#[cfg(…)]` with `test` in it stands here, other than as `not(test)`.
fn is_test_attribute(tokens: &[TokenTree]) -> bool {
    let [hash, TokenTree::Group(attribute), ..] = tokens else { return false };
    let text = attribute.stream().to_string().replace(' ', "");
    let condition = text.strip_prefix("cfg(").unwrap_or_default();
    is(hash, "#") && (condition.starts_with("test") || condition.starts_with("all(test"))
}

/// What follows the item at the start of `tokens`: behind its braces, or its semicolon.
fn behind_item(tokens: &[TokenTree]) -> &[TokenTree] {
    let end = tokens.iter().position(|token| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        other => is(other, ";"),
    });
    end.map_or(&[], |end| &tokens[end + 1..])
}

fn is(token: &TokenTree, text: &str) -> bool {
    match token {
        TokenTree::Ident(name) => name == text,
        TokenTree::Punct(punct) => text.chars().eq([punct.as_char()]),
        _ => false,
    }
}

fn contains_unsafe(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Group(group) => contains_unsafe(group.stream()),
        other => is(&other, "unsafe"),
    })
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Why `from` may not import `to`, if it may not.
fn objection(from: &str, to: &str) -> Option<String> {
    let open_to_all = |module| LEAVES.contains(&module) || module == SUM_OF_ERRORS;
    if from == to || from == SUM_OF_ERRORS {
        return None;
    }
    if LEAVES.contains(&from) {
        let allowed = LEAVES.contains(&to);
        return (!allowed).then(|| format!("{from} is a leaf and must not import {to}"));
    }
    if open_to_all(to) {
        return None;
    }
    match (layer(from), layer(to)) {
        (Some(upper), Some(lower)) if upper <= lower => None,
        (Some(_), Some(_)) => Some(format!("{from} is below {to} and must not import it")),
        // A name that is no module: something that the root exports.
        (Some(_), None) => Some(format!("{from} imports {to}: name the module that has it")),
        (None, _) => Some(format!("{from} has no place in LAYERS or LEAVES yet")),
    }
}

#[test]
fn imports_point_down() {
    let mut objections = BTreeSet::new();
    for source in sources() {
        let Some(from) = source.top().filter(|_| !source.is_test()) else { continue };
        let path = source.path.display();
        if layer(from).is_none() && !LEAVES.contains(&from) && from != SUM_OF_ERRORS {
            objections.insert(format!("{path}: {from} has no place in LAYERS or LEAVES yet"));
        }
        for to in imports(source.tokens(), &source.module) {
            objections.extend(objection(from, &to).map(|objection| format!("{path}: {objection}")));
        }
    }
    let list = objections.into_iter().collect::<Vec<_>>().join("\n");
    assert!(list.is_empty(), "imports that point up:\n{list}");
}

#[test]
fn unsafe_stands_in_ring_and_sys_only() {
    let (inside, outside): (Vec<_>, Vec<_>) = sources()
        .into_iter()
        .filter(|source| contains_unsafe(source.tokens()))
        .partition(|source| source.top().is_some_and(|top| UNSAFE.contains(&top)));
    assert!(!inside.is_empty(), "there is some, or this test does not see it");
    let outside: Vec<_> = outside.iter().map(|source| source.path.display().to_string()).collect();
    assert!(outside.is_empty(), "unsafe code in {}", outside.join(", "));
}

#[test]
fn no_file_is_too_long_to_read() {
    let long: Vec<_> = sources()
        .iter()
        .map(|source| (source.text.lines().count(), source.path.display().to_string()))
        .filter(|(lines, _)| *lines > LONGEST_FILE)
        .collect();
    assert!(long.is_empty(), "longer than {LONGEST_FILE} lines: {long:?}");
}

#[test]
fn imports_are_found_in_every_form() {
    let text = r#"
        //! crate::comment
        use crate::{accept::{self, Balancer}, net};
        use super::super::ring::Chunk;
        use super::neighbour;
        #[cfg(test)]
        use crate::test_only;
        #[cfg(all(test, loom))]
        mod models { use crate::test_only; }
        #[cfg(not(loom))]
        use crate::sync;
        fn call() { crate::sys::limits(); log!("crate::text", crate::telemetry::now()); }
        mod inner { use super::super::super::runtime; use super::super::cousin; }
    "#;
    let module = ["shard".to_owned(), "load".to_owned()];
    let found = imports(text.parse().unwrap(), &module);
    let expected = ["accept", "net", "ring", "runtime", "sync", "sys", "telemetry"];
    assert_eq!(found, expected.map(str::to_owned).into());
}

#[test]
fn an_import_that_points_up_is_refused() {
    assert_eq!(objection("relay", "ring"), None);
    assert_eq!(objection("shard", "accept"), None, "one layer");
    assert_eq!(objection("sys", "telemetry"), None, "a leaf");
    assert_eq!(objection("ring", "error"), None);
    assert!(objection("ring", "runtime").is_some());
    assert!(objection("net", "shard").is_some());
    assert!(objection("relay", "proxy").is_some());
    assert!(objection("telemetry", "shard").is_some());
    assert!(objection("telemetry", "error").is_some(), "it imports all layers");
    assert!(objection("unheard_of", "sys").is_some());
}
