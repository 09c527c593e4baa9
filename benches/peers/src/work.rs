//! What a proxy on a ring did in its life, as it says itself on its last line.
//!
//! In: counts. Out: a line, and the same read back by the process that measures.

use std::fmt;
use std::str::FromStr;

/// What a proxy did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Work {
    pub(crate) turns: u64,
    pub(crate) completions: u64,
}

impl Work {
    pub(crate) fn completions_per_turn(self) -> f64 {
        self.completions as f64 / self.turns as f64
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.turns, self.completions)
    }
}

impl FromStr for Work {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let unknown = || format!("{line:?} is no account of turns and completions");
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [turns, completions] = fields[..] else { return Err(unknown()) };
        Ok(Self {
            turns: turns.parse().map_err(|_| unknown())?,
            completions: completions.parse().map_err(|_| unknown())?,
        })
    }
}
