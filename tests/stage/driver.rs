//! What a run of the tests has for a driver.

use std::{env, io::Write};

use evenkeel::ring::Capabilities;

/// Whether this run of the tests is to do without io_uring, which is refused to it then:
/// EVENKEEL_DRIVER is `epoll`.
pub(crate) fn is_epoll() -> bool {
    match env::var("EVENKEEL_DRIVER").as_deref() {
        Ok("epoll") => true,
        Ok(other) => panic!("EVENKEEL_DRIVER is {other:?}: write epoll, or leave it out"),
        Err(_) => false,
    }
}

/// Whether the test `name`, which is about io_uring, can run here. Where not, says so, and fails in
/// CI, unless the run is to do without.
pub(crate) fn has_io_uring(name: &str) -> bool {
    let Err(refused) = Capabilities::probe() else { return true };
    let reason = match is_epoll() {
        true => "it is about io_uring, and this run is without (EVENKEEL_DRIVER=epoll)".to_owned(),
        false => refused.to_string(),
    };
    let in_ci = env::var_os("CI").is_some_and(|ci| ci == "true");
    assert!(is_epoll() || !in_ci, "{name} cannot run: {reason}");
    // Not eprintln!, which the test runner would keep to itself.
    std::io::stderr().write_all(format!("SKIPPED {name}: {reason}\n").as_bytes()).unwrap();
    false
}
