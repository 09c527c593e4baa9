//! Every key and its default, and that what is printed reads back.

use super::{EVERY_KEY, config, host, lines, read};
use crate::config::{Host, Loaded, schema::Shards};

#[test]
fn nothing_written_is_every_default() {
    let Loaded { config, warnings } = read("", &host()).unwrap();
    assert_eq!(
        lines(&warnings.to_string()),
        ["1:1: warning: no [[listener]]: nothing will be accepted"]
    );
    let expected = r#"shards = 0
pin = "auto"
acceptors = 1
balance = "least-connections"
log = "info"
log_format = "text"
listener = []
cluster = []

[limits]
connections = 0
connections_per_shard = 0

[drain]
keep_accepting = "0s"
deadline = "30s"
"#;
    assert_eq!(config.to_toml().unwrap(), expected);
}

#[test]
fn listeners_and_clusters_have_defaults() {
    let config = config(
        r#"
        [[listener]]
        name = "outbound"
        bind = "127.0.0.1:15001"
        original_dst = "redirect"
        [[listener]]
        name = "inbound"
        bind = "[::]:15006"
        direction = "inbound"
        original_dst = "redirect"
        [[listener]]
        name = "plain"
        bind = "127.0.0.1:0"
        cluster = "web"
        [[listener]]
        name = "web"
        match = "*:80"
        via = "outbound"
        cluster = "web"
        [[listener]]
        name = "other"
        match = "*:81"
        via = "inbound"
        cluster = "passthrough"
        [[cluster]]
        name = "web"
        endpoints = ["127.0.0.1:8000"]
        "#,
    );
    let expected = r#"
[[listener]]
name = "outbound"
bind = "127.0.0.1:15001"
direction = "outbound"
original_dst = "redirect"
fallback = "passthrough"
source = "off"
mark = 0
max_connections = 0
proxy_protocol = "off"

[listener.timeouts]
idle = "1h"
half_close = "1h"

[[listener]]
via = "outbound"
name = "web"
match = "*:80"
cluster = "web"
max_connections = 0

[listener.timeouts]
idle = "1h"
half_close = "1h"

[[listener]]
name = "inbound"
bind = "[::]:15006"
direction = "inbound"
original_dst = "redirect"
fallback = "passthrough"
source = ["127.0.0.6", "::6"]
mark = 0
max_connections = 0
proxy_protocol = "off"

[listener.timeouts]
idle = "1h"
half_close = "1h"

[[listener]]
via = "inbound"
name = "other"
match = "*:81"
cluster = "passthrough"
source = ["127.0.0.6", "::6"]
mark = 0
max_connections = 0

[listener.timeouts]
idle = "1h"
half_close = "1h"

[[listener]]
name = "plain"
bind = "127.0.0.1:0"
direction = "outbound"
cluster = "web"
max_connections = 0
proxy_protocol = "off"

[listener.timeouts]
idle = "1h"
half_close = "1h"

[[cluster]]
name = "web"
endpoints = ["127.0.0.1:8000"]
source = "off"
mark = 0
proxy_protocol = "off"

[cluster.timeouts]
connect = "5s"
"#;
    let printed = config.to_toml().unwrap();
    let listeners = printed.find("\n[[listener]]").unwrap();
    assert_eq!(&printed[listeners..], expected);
}

#[test]
fn every_key_is_taken_and_reads_back() {
    let config = config(EVERY_KEY);
    let printed = config.to_toml().unwrap();
    assert_eq!(self::config(&printed), config, "{printed}");
    let said_otherwise = ["original_dst = \"none\"", "protocol = \"tcp\"", "endpoints = [{"];
    for line in EVERY_KEY.lines().filter(|line| line.contains('=')) {
        if said_otherwise.iter().any(|start| line.starts_with(start)) {
            continue;
        }
        assert!(printed.contains(line), "{line} is not in what was made of it:\n{printed}");
    }
}

#[test]
fn the_dump_is_json_with_the_keys_of_the_file() {
    let dump: serde_json::Value = serde_json::from_str(&config(EVERY_KEY).dump().unwrap()).unwrap();
    assert_eq!(dump["cpus"], "1-3,0");
    assert_eq!(dump["listener"][0]["bind"], "0.0.0.0:15001");
    assert_eq!(dump["listener"][1]["via"], "outbound");
    assert_eq!(dump["cluster"][1]["timeouts"]["connect"], "250ms");
}

/// The keys that a build of the relay has, with the values of the reference.
#[test]
fn the_reference_is_taken() {
    let text = r#"
        cpus = "0-3,8"
        pin = "auto"
        acceptors = 1
        balance = "least-connections"
        admin = "127.0.0.1:15000"
        telemetry = "0.0.0.0:15090"
        log = "info"
        log_format = "text"
        [limits]
        connections = 0
        connections_per_shard = 0
        [drain]
        keep_accepting = "0s"
        deadline = "30s"
        [[listener]]
        name = "outbound"
        bind = "127.0.0.1:15001"
        direction = "outbound"
        original_dst = "redirect"
        fallback = "passthrough"
        protocol = "tcp"
        source = "127.0.0.6"
        mark = 1337
        max_connections = 0
        proxy_protocol = "off"
        [listener.timeouts]
        idle = "1h"
        half_close = "1h"
        [[listener]]
        name = "reviews"
        match = "10.0.0.7:9080"
        via = "outbound"
        protocol = "tcp"
        cluster = "reviews"
        [[cluster]]
        name = "reviews"
        endpoints = ["127.0.0.1:8000", { address = "127.0.0.2:80" }]
        source = "client"
        mark = 1337
        proxy_protocol = "off"
        [cluster.timeouts]
        connect = "5s"
        "#;
    let host = Host { cpus: (0..16).collect(), ..host() };
    let loaded = read(text, &host).unwrap();
    assert_eq!(loaded.warnings.to_string(), "");
    let Shards::Cpus(cpus) = &loaded.config.shards else { panic!("{:?}", loaded.config.shards) };
    assert_eq!(cpus.cpus(), [0, 1, 2, 3, 8]);
    // `shards = 0` only says that no number is given.
    assert!(read(&format!("shards = 0\n{text}"), &host).is_ok());
}
