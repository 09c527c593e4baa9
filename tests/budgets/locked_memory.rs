//! Locked memory, which the kernel charges rings to: all those of a user together.

use rustix::process::geteuid;

use crate::process::{RelayProcess, possible};

/// Bytes that a ring may lock.
const BUDGET: u64 = 112 << 10;
const SHARDS: usize = 8;
/// Beside those of the shards: the acceptor's, and the one that finds out at the start what the kernel
/// can do. It is closed by then, but the kernel ends its charge only after a while.
const OTHER_RINGS: usize = 2;

fn not_root() -> Option<String> {
    (!geteuid().is_root()).then(|| "only root can become a user that has no other rings".to_owned())
}

#[test]
fn a_ring_locks_little_memory() {
    if !possible(not_root()) {
        return;
    }
    let rings = SHARDS + OTHER_RINGS;
    if let Err(refused) = RelayProcess::start_unprivileged(SHARDS, rings as u64 * BUDGET) {
        panic!("{rings} rings need more than {BUDGET} bytes each: {refused}");
    }
}

#[test]
fn too_little_locked_memory_is_refused_with_the_remedy() {
    if !possible(not_root()) {
        return;
    }
    let refused = RelayProcess::start_unprivileged(SHARDS, 64 << 10).err();
    let refused = refused.expect("a ring does not fit into 64 KiB");
    for part in ["RLIMIT_MEMLOCK is 64 KiB", "ulimit -l", "CAP_IPC_LOCK", "fewer shards"] {
        assert!(refused.contains(part), "no {part:?} in {refused:?}");
    }
}
