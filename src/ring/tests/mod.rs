//! The slots and the two halves of a stream against simple models, over arbitrary sequences of
//! what may happen to them.

mod at_once;
mod custom;
mod doorbells;
mod reactor;
mod receive;
mod send;
mod slots;

use std::io::Write;

use super::Capabilities;

/// Whether the test can run here. Where not, says so, and fails in CI, unless EVENKEEL_DRIVER=epoll
/// says that io_uring is refused on purpose.
fn has_io_uring(test: &str) -> bool {
    let Err(refused) = Capabilities::probe() else { return true };
    let is = |name: &str, value: &str| std::env::var_os(name).is_some_and(|is| is == value);
    let on_purpose = is("EVENKEEL_DRIVER", "epoll");
    assert!(on_purpose || !is("CI", "true"), "{test} cannot run: {refused}");
    // Not eprintln!, which the test runner would keep to itself.
    std::io::stderr().write_all(format!("SKIPPED {test}: {refused}\n").as_bytes()).unwrap();
    false
}
