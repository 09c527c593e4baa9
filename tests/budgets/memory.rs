//! What an idle connection costs in user space.

use std::{thread, time::Duration};

use crate::{
    process::{RelayProcess, raise_file_limit},
    traffic,
};

/// Bytes.
const BUDGET: u64 = 1024;
const CONNECTIONS: usize = 2000;

/// The kernel's side of a socket comes on top; it is not the relay's to save.
#[test]
fn an_idle_relayed_connection_costs_little_memory() {
    raise_file_limit();
    let relay = RelayProcess::start(2);
    // What is paid once: the shards' services, the first pages of everything.
    let first = traffic::open(&relay, 8);
    let before = relay.anonymous_memory();
    let idle = traffic::open(&relay, CONNECTIONS);
    // The last of them are still being joined.
    thread::sleep(Duration::from_millis(200));
    let grown = relay.anonymous_memory().saturating_sub(before);
    let each = grown / CONNECTIONS as u64;
    assert!(each > 0, "{CONNECTIONS} connections cannot cost nothing");
    assert!(each <= BUDGET, "an idle relayed connection costs {each} bytes of at most {BUDGET}");
    println!("an idle relayed connection costs {each} bytes");
    drop((first, idle));
}
