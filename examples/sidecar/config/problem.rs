//! What is wrong with a configuration, and where.
//!
//! In: byte offsets and messages, in any order. Out: lines of the form
//! `FILE:LINE:COL: error: MESSAGE`, sorted by position. Owns the translation of byte offsets into
//! lines and columns; never decides what is wrong.

use std::{
    fmt::{self, Write},
    ops::Range,
    path::{Path, PathBuf},
};

/// Bytes of the file, half open.
pub(super) type Span = Range<usize>;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration is taken; it may not do what its author means.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// A place in the file. Both numbers count from 1; columns count characters, not bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Position {
    /// The position of a byte offset; an offset past the end, or inside a character, is moved back.
    pub(super) fn of(text: &str, offset: usize) -> Self {
        let before = &text[..text.floor_char_boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: 1 + before.bytes().filter(|byte| *byte == b'\n').count(),
            column: 1 + before[line_start..].chars().count(),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Problem {
    /// `None` only when the file could not be read at all.
    position: Option<Position>,
    severity: Severity,
    message: String,
}

/// Everything that is wrong with one file, in the order of the file. Displays as one line a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problems {
    file: PathBuf,
    list: Vec<Problem>,
}

impl Problems {
    fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), list: Vec::new() }
    }

    /// The one problem of a file that could not be read.
    pub(super) fn unreadable(file: &Path, why: impl fmt::Display) -> Self {
        let mut problems = Self::new(file);
        problems.push(None, Severity::Error, format!("cannot be read: {why}"));
        problems
    }

    fn push(&mut self, position: Option<Position>, severity: Severity, message: impl Into<String>) {
        self.list.push(Problem { position, severity, message: message.into() });
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Problem { position, severity, message } in &self.list {
            write!(f, "{}:", self.file.display())?;
            if let Some(Position { line, column }) = position {
                write!(f, "{line}:{column}:")?;
            }
            write!(f, " {severity}: ")?;
            one_line(message, f)?;
            f.write_char('\n')?;
        }
        Ok(())
    }
}

/// Messages quote the file, and a string in it can have any character. A line end would split the
/// message, an escape sequence would reach the reader's terminal.
fn one_line(message: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for character in message.chars() {
        match character.is_control() {
            true => write!(f, "{}", character.escape_default())?,
            false => f.write_char(character)?,
        }
    }
    Ok(())
}

impl std::error::Error for Problems {}

/// Gathers problems by byte offset while a file is read.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<(usize, Severity, String)>,
}

impl Findings {
    pub(super) fn error(&mut self, at: Span, message: impl Into<String>) {
        self.list.push((at.start, Severity::Error, message.into()));
    }

    pub(super) fn warning(&mut self, at: Span, message: impl Into<String>) {
        self.list.push((at.start, Severity::Warning, message.into()));
    }

    pub(super) fn has_errors(&self) -> bool {
        self.list.iter().any(|(_, severity, _)| *severity == Severity::Error)
    }

    /// Keeps only what satisfies the predicate over the offset.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
        self.list.retain(|(offset, _, _)| keep(*offset));
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.list.append(&mut other.list);
    }

    pub(super) fn into_problems(mut self, file: &Path, text: &str) -> Problems {
        self.list.sort_by_key(|(offset, _, _)| *offset);
        let mut problems = Problems::new(file);
        for (offset, severity, message) in self.list {
            problems.push(Some(Position::of(text, offset)), severity, message);
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_stays_on_its_line_whatever_it_quotes() {
        let mut findings = Findings::default();
        findings.error(2..3, "\"a\nb\t\u{1b}[31mé\" is no name");
        let problems = findings.into_problems(Path::new("f"), "\n\nx");
        assert_eq!(problems.to_string(), "f:3:1: error: \"a\\nb\\t\\u{1b}[31mé\" is no name\n");
    }
}
