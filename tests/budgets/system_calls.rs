//! System calls a message, as strace counts them.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    driver::has_io_uring,
    process::{RelayProcess, possible},
    traffic,
};

/// `io_uring_enter` for each message that is relayed.
const BUDGET: f64 = 0.6;
const CONNECTIONS: usize = 64;
const ROUNDS: usize = 50;
const MESSAGES: usize = 2 * CONNECTIONS * ROUNDS;

/// strace, attached to a process.
struct Strace {
    child: Child,
    messages: BufReader<ChildStderr>,
}

impl Strace {
    /// Counts from when this returns.
    fn attach(pid: u32, output: &Path) -> Result<Strace, String> {
        let mut command = Command::new("strace");
        command.args(["-f", "-c", "-p", &pid.to_string(), "-o"]).arg(output);
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("strace cannot be run: {error}"))?;
        let mut messages = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        messages.read_line(&mut said).unwrap();
        let strace = Strace { child, messages };
        match said.contains(" attached") {
            true => Ok(strace),
            false => Err(format!("strace cannot attach: {}", said.trim())),
        }
    }

    /// Detaches. The process goes on.
    fn finish(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        std::io::copy(&mut self.messages, &mut std::io::sink()).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Calls of each name in a summary of `strace -c`: its fourth column, beside the name in the last.
fn calls(summary: &str) -> BTreeMap<&str, usize> {
    let rows = summary.lines().filter_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        Some((*columns.last()?, columns.get(3)?.parse().ok()?))
    });
    rows.filter(|(name, _)| *name != "total").collect()
}

#[test]
fn a_relayed_message_costs_less_than_a_system_call() {
    if !has_io_uring("a_relayed_message_costs_less_than_a_system_call") {
        return;
    }
    let relay = RelayProcess::start(2);
    let mut connections = traffic::open(&relay, CONNECTIONS);
    traffic::round_trip(&mut connections);
    let directory = tempfile::tempdir().unwrap();
    let summary = directory.path().join("summary");
    let strace = match Strace::attach(relay.pid(), &summary) {
        Ok(strace) => strace,
        Err(refused) => {
            possible(Some(refused));
            return;
        }
    };
    for _ in 0..ROUNDS {
        traffic::round_trip(&mut connections);
    }
    strace.finish();
    let summary = fs::read_to_string(summary).unwrap();
    let calls = calls(&summary);
    let enters = calls.get("io_uring_enter").copied().unwrap_or_default();
    assert!(enters > 0, "nothing was counted: {summary}");
    let each = enters as f64 / MESSAGES as f64;
    println!("{each:.3} io_uring_enter a message");
    assert!(each <= BUDGET, "{each:.3} io_uring_enter a message of at most {BUDGET}: {summary}");
    // What else there is belongs to the time, not to the messages.
    let others: usize = calls.values().sum::<usize>() - enters;
    assert!(others < MESSAGES / 100, "{others} other calls for {MESSAGES} messages: {summary}");
}
