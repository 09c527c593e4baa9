//! A test in a process of its own, for what is measured or limited by the process.

use std::{
    env,
    process::{Command, Stdio},
};

const ALONE: &str = "EVENKEEL_TEST_ALONE";

/// Whether this process runs one test only, for [`run_alone`] or [`alone`].
pub(crate) fn is_alone() -> bool {
    env::var_os(ALONE).is_some()
}

/// This test program, told to run one test only.
pub(crate) fn alone(test: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(ALONE, "1");
    command
}

/// Runs the test of this name in a process of its own, and fails if it fails there.
pub(crate) fn run_alone(test: &str) {
    let output = alone(test).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "alone, {test} failed:\n{text}\n{errors}");
    assert!(text.contains("1 passed"), "no test is called {test}: {text}");
}
