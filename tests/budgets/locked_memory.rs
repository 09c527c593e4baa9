//! Locked memory, which the kernel charges rings to: all those of a user together.

use std::fs;

use evenkeel::Driver;
use rustix::process::geteuid;

use crate::{
    driver::has_io_uring,
    process::{RelayProcess, possible},
    traffic,
};

/// Bytes that a ring may lock.
const BUDGET: u64 = 112 << 10;
const SHARDS: usize = 8;
/// Beside those of the shards: the acceptor's, and the one that finds out at the start what the kernel
/// can do. It is closed by then, but the kernel ends its charge only after a while.
const OTHER_RINGS: usize = 2;

fn not_root() -> Option<String> {
    (!geteuid().is_root()).then(|| "only root can become a user that has no other rings".to_owned())
}

fn can_limit(test: &str) -> bool {
    has_io_uring(test) && possible(not_root())
}

#[test]
fn a_ring_locks_little_memory() {
    if !can_limit("a_ring_locks_little_memory") {
        return;
    }
    let memory = (SHARDS + OTHER_RINGS) as u64 * BUDGET;
    if let Err(refused) = RelayProcess::start_unprivileged(SHARDS, memory, Driver::IoUring) {
        panic!("a ring needs more than {BUDGET} bytes: {refused}");
    }
}

#[test]
fn too_little_locked_memory_for_io_uring_is_refused_with_the_remedy() {
    if !can_limit("too_little_locked_memory_for_io_uring_is_refused_with_the_remedy") {
        return;
    }
    // For no ring at all, and for some of those that are needed.
    for memory in [64 << 10, 4 * BUDGET] {
        let refused = RelayProcess::start_unprivileged(SHARDS, memory, Driver::IoUring).err();
        let refused = refused.expect("the rings do not fit");
        let limit = format!("RLIMIT_MEMLOCK is {} KiB", memory >> 10);
        for part in [limit.as_str(), "ulimit -l", "CAP_IPC_LOCK", "fewer shards"] {
            assert!(refused.contains(part), "no {part:?} in {refused:?}");
        }
    }
}

#[test]
fn too_little_locked_memory_makes_all_threads_use_epoll() {
    if !can_limit("too_little_locked_memory_makes_all_threads_use_epoll") {
        return;
    }
    for memory in [64 << 10, 4 * BUDGET] {
        let relay = RelayProcess::start_unprivileged(SHARDS, memory, Driver::Auto).unwrap();
        assert_eq!(relay.driver, "epoll: memlock");
        let descriptors = fs::read_dir(format!("/proc/{}/fd", relay.pid())).unwrap();
        let names = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        let rings: Vec<_> =
            names.filter(|name| name.to_string_lossy().contains("[io_uring]")).collect();
        assert_eq!(rings, Vec::<std::path::PathBuf>::new(), "a thread has kept its ring");
        let mut connections = traffic::open(&relay, 2 * SHARDS);
        traffic::round_trip(&mut connections);
    }
}
