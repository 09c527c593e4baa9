//! What a reload cannot change, and what it can.

use super::{EVERY_KEY, config, host, read};
use crate::config::reload_refusals;

#[test]
fn a_reload_cannot_change_what_the_threads_stand_on() {
    let old = config(EVERY_KEY);
    assert_eq!(reload_refusals(&old, &old), []);
    let refused = |from: &str, to: &str| {
        assert!(EVERY_KEY.contains(from));
        let new = read(&EVERY_KEY.replace(from, to), &host()).unwrap().config;
        assert_ne!(old, new);
        reload_refusals(&old, &new).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let refusal = |key: &str, running: &str, wanted: &str| {
        format!(
            "`{key}` cannot change by a reload (from {running} to {wanted}): restart the sidecar"
        )
    };
    assert_eq!(
        refused("cpus = \"1-3,0\"", "shards = 2"),
        [refusal("shards", "nothing", "2"), refusal("cpus", "\"1-3,0\"", "nothing")]
    );
    assert_eq!(
        refused("cpus = \"1-3,0\"", "cpus = \"0-2\""),
        [refusal("cpus", "\"1-3,0\"", "\"0-2\"")]
    );
    assert_eq!(refused("\"always\"", "\"never\""), [refusal("pin", "\"always\"", "\"never\"")]);
    assert_eq!(refused("acceptors = 2", "acceptors = 3"), [refusal("acceptors", "2", "3")]);
    assert_eq!(
        refused("\"io_uring\"", "\"epoll\""),
        [refusal("driver", "\"io_uring\"", "\"epoll\"")]
    );
    assert_eq!(
        refused("admin = \"127.0.0.1:15000\"", ""),
        [refusal("admin", "\"127.0.0.1:15000\"", "nothing")]
    );
    assert_eq!(
        refused("\"least-busy\"", "\"kernel\""),
        [refusal("balance", "\"least-busy\"", "\"kernel\"")]
    );
    for (from, to) in [
        ("\"least-busy\"", "\"round-robin\""),
        ("telemetry = \"0.0.0.0:15090\"", ""),
        ("\nlog_format = \"json\"", "\nlog_format = \"text\""),
        ("connections = 1000", "connections = 2000"),
        ("connections_per_shard = 100", ""),
        ("max_connections = 10", "max_connections = 12"),
        ("log = \"debug\"", "log = \"info\""),
        ("deadline = \"1m\"", "deadline = \"2m\""),
        ("idle = \"10m\"", "idle = \"11m\""),
        ("\"10.1.0.1:80\"", "\"10.1.0.3:80\""),
    ] {
        assert_eq!(refused(from, to), Vec::<String>::new(), "{to}");
    }
}
