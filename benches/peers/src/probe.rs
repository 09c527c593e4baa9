//! Budgets that do not swing with the machine's mood: system calls and user-space instructions.
//!
//! In: processes. Out: what strace(1) or perf(1) counted in them until [`Probing::finish`].

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// strace and perf say nothing when they have attached.
const ATTACH_TIME: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Probe {
    SystemCalls,
    Instructions,
}

/// Counts by name, the largest first.
pub(crate) struct Probed(pub(crate) Vec<(String, f64)>);

pub(crate) struct Probing {
    probe: Probe,
    child: Child,
    output: PathBuf,
}

impl Probe {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "syscalls" => Some(Self::SystemCalls),
            "instructions" => Some(Self::Instructions),
            _ => None,
        }
    }

    /// # Errors
    /// The tool is not installed.
    pub(crate) fn attach(self, pids: &[u32]) -> io::Result<Probing> {
        let pids = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let file = format!("evenkeel-peers-{}.probe", std::process::id());
        let output = std::env::temp_dir().join(file);
        let (program, arguments) = match self {
            Self::SystemCalls => ("strace", ["-c", "-f"].as_slice()),
            Self::Instructions => ("perf", ["stat", "-x", ",", "-e", "instructions:u"].as_slice()),
        };
        let child = Command::new(program)
            .args(arguments)
            .args(["-p", &pids, "-o"])
            .arg(&output)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| {
                let reason = format!("{program} could not be started: {error}");
                io::Error::new(error.kind(), reason)
            })?;
        thread::sleep(ATTACH_TIME);
        Ok(Probing { probe: self, child, output })
    }
}

impl Probing {
    /// # Errors
    /// The tool counted nothing, as where it may not trace, or has no hardware to count with.
    pub(crate) fn finish(mut self) -> io::Result<Probed> {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            kill_process(pid, Signal::INT)?;
        }
        self.child.wait()?;
        let text = fs::read_to_string(&self.output)?;
        fs::remove_file(&self.output)?;
        let mut counts = match self.probe {
            Probe::SystemCalls => strace_counts(&text),
            Probe::Instructions => perf_count(&text).into_iter().collect(),
        };
        if counts.is_empty() {
            let what = match self.probe {
                Probe::SystemCalls => "strace counted nothing: is ptrace(2) allowed here?",
                Probe::Instructions => "perf has no instruction counter on this machine",
            };
            return Err(io::Error::new(io::ErrorKind::Unsupported, what));
        }
        counts.sort_by(|a, b| b.1.total_cmp(&a.1));
        Ok(Probed(counts))
    }
}

impl Drop for Probing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Probed {
    pub(crate) fn divided_by(mut self, operations: f64) -> Self {
        self.0.iter_mut().for_each(|(_, count)| *count /= operations);
        self
    }
}

/// Rows of `strace -c`: % time, seconds, usecs/call, calls, (errors), name.
fn strace_counts(text: &str) -> Vec<(String, f64)> {
    text.lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let count = fields.get(3)?.parse().ok()?;
            Some(((*fields.last()?).to_owned(), count))
        })
        .collect()
}

fn perf_count(text: &str) -> Option<(String, f64)> {
    let line = text.lines().find(|line| line.contains("instructions:u"))?;
    Some(("instructions:u".to_owned(), line.split(',').next()?.parse().ok()?))
}
