//! One command: a program, its arguments and its input.
//!
//! In: the parts. Out: text for a shell, or, by [`system`](super::system), a process. Arguments
//! contain nothing that a shell would have to be told to leave alone.

use std::fmt;

/// A command that changes or reads the state of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Invocation {
    pub(super) program: &'static str,
    pub(super) arguments: Vec<String>,
    /// What it reads on standard input; empty for none. Lines end in a newline.
    pub(super) input: String,
}

impl Invocation {
    /// `program` with `arguments`, separated by spaces.
    pub(super) fn new(program: &'static str, arguments: &str) -> Self {
        let arguments = arguments.split_ascii_whitespace().map(str::to_owned).collect();
        Self { program, arguments, input: String::new() }
    }

    /// The command without its input, in one line.
    pub(super) fn summary(&self) -> String {
        format!("{} {}", self.program, self.arguments.join(" "))
    }
}

/// As a shell would take it.
impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary())?;
        if !self.input.is_empty() {
            write!(f, " <<'END'\n{}END", self.input)?;
        }
        Ok(())
    }
}
