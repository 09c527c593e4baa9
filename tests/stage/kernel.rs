//! The kernel that a run of the tests behaves as.

use evenkeel::ring::Capabilities;

/// What the io_uring of the kernel that EVENKEEL_KERNEL names can do; everything, where it names none.
///
/// A mask: what the running kernel lacks stays away.
pub(crate) fn capabilities() -> Capabilities {
    match std::env::var("EVENKEEL_KERNEL").as_deref() {
        Ok("6.1") => Capabilities::LINUX_6_1,
        Ok("6.12") => Capabilities::LINUX_6_12,
        Ok(other) => panic!("EVENKEEL_KERNEL is {other:?}: write 6.1 or 6.12"),
        Err(_) => Capabilities::ALL,
    }
}
