//! Whether this machine has the io_uring that a test needs.

use std::{env, io::Write, thread};

use evenkeel::ring::Capabilities;

/// Ends the test that begins with it where the machine has no io_uring.
macro_rules! needs_io_uring {
    () => {
        if !crate::io_uring::is_there() {
            return;
        }
    };
}

/// Whether io_uring can be used here. Where not, says that the test that runs on this thread is
/// skipped, and fails in CI.
pub(crate) fn is_there() -> bool {
    let Err(refused) = Capabilities::probe() else { return true };
    let test = thread::current().name().unwrap_or("a test").to_owned();
    assert!(env::var_os("CI").is_none_or(|ci| ci != "true"), "{test} cannot run: {refused}");
    // Not eprintln!, which the test runner would keep to itself.
    std::io::stderr().write_all(format!("SKIPPED {test}: {refused}\n").as_bytes()).unwrap();
    false
}
