//! What a relay did in its life, as it says itself on its last line.
//!
//! In: counts, and the CPU times of the shards' threads. Out: a line, and the same read back by the
//! process that measures.

use std::fmt;
use std::fs;
use std::io;
use std::str::FromStr;

/// What a relay did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Work {
    pub(crate) turns: u64,
    pub(crate) completions: u64,
    /// The CPU time of the shard that used most, over the mean of all: 1 is even.
    pub(crate) busiest: f64,
}

impl Work {
    pub(crate) fn completions_per_turn(self) -> f64 {
        self.completions as f64 / self.turns as f64
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.turns, self.completions, self.busiest)
    }
}

impl FromStr for Work {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let unknown = || format!("{line:?} is no account of turns, completions and evenness");
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [turns, completions, busiest] = fields[..] else { return Err(unknown()) };
        Ok(Self {
            turns: turns.parse().map_err(|_| unknown())?,
            completions: completions.parse().map_err(|_| unknown())?,
            busiest: busiest.parse().map_err(|_| unknown())?,
        })
    }
}

/// The largest of some values over their mean; 1 where there is nothing to compare.
pub(crate) fn largest_over_mean(values: &[f64]) -> f64 {
    let sum: f64 = values.iter().sum();
    if sum > 0.0 {
        values.iter().copied().fold(0.0, f64::max) * values.len() as f64 / sum
    } else {
        1.0
    }
}

/// The time that each thread of this process whose name `selects` chooses has run, in seconds.
///
/// # Errors
/// The kernel keeps no such account (`/proc/self/task/*/schedstat`).
pub(crate) fn thread_times(selects: impl Fn(&str) -> bool) -> io::Result<Vec<f64>> {
    let mut times = Vec::new();
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        if selects(fs::read_to_string(task.join("comm"))?.trim_end()) {
            let account = fs::read_to_string(task.join("schedstat"))?;
            let nanoseconds = account.split(' ').next().and_then(|time| time.parse::<f64>().ok());
            let unknown = || io::Error::other(format!("{account:?} is no schedstat"));
            times.push(nanoseconds.ok_or_else(unknown)? / 1e9);
        }
    }
    Ok(times)
}
