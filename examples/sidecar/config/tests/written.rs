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
driver = "auto"
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
proxy_protocol = "off"
protocol = "tcp"
max_connections = 0
access_log = "off"
access_log_format = "istio"
access_log_sample = 1.0

[listener.timeouts]
idle = "1h"
half_close = "1h"

[[listener]]
via = "outbound"
name = "web"
match = "*:80"
cluster = "web"
protocol = "tcp"
max_connections = 0
access_log = "off"
access_log_format = "istio"
access_log_sample = 1.0

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
proxy_protocol = "off"
protocol = "tcp"
max_connections = 0
access_log = "off"
access_log_format = "istio"
access_log_sample = 1.0

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
protocol = "tcp"
max_connections = 0
access_log = "off"
access_log_format = "istio"
access_log_sample = 1.0

[listener.timeouts]
idle = "1h"
half_close = "1h"

[[listener]]
name = "plain"
bind = "127.0.0.1:0"
direction = "outbound"
cluster = "web"
proxy_protocol = "off"
protocol = "tcp"
max_connections = 0
access_log = "off"
access_log_format = "istio"
access_log_sample = 1.0

[listener.timeouts]
idle = "1h"
half_close = "1h"

[[cluster]]
name = "web"
endpoints = ["127.0.0.1:8000"]
policy = "least-request"
source = "off"
mark = 0
proxy_protocol = "off"

[cluster.timeouts]
connect = "5s"
pool_idle = "4s"

[cluster.limits]
connections = 0
pending = 0
requests = 0
retries = 0
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
    let said_otherwise = [
        "original_dst = \"none\"",
        "endpoints = [{",
        "headers = {",
        "clusters = [",
        "policy = {",
        "access_log_only = {",
    ];
    // Tables that are written inline there.
    for entry in [
        "x-canary = \"1\"",
        "weight = 9",
        "weight = 0",
        "hash = \"x-user\"",
        "errors = true",
        "slower_than = \"500ms\"",
    ] {
        assert!(printed.contains(entry), "{entry}:\n{printed}");
    }
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
    let cluster = |name: &str| {
        let clusters = dump["cluster"].as_array().unwrap();
        clusters.iter().find(|cluster| cluster["name"] == name).unwrap().clone()
    };
    assert_eq!(cluster("reviews")["timeouts"]["connect"], "250ms");
    assert_eq!(cluster("web")["policy"]["hash"], "x-user");
    assert_eq!(dump["route"][0]["retry"]["statuses"][1], 503);
}

#[test]
fn http_has_defaults() {
    let config = config(
        r#"
        [[listener]]
        name = "web"
        bind = "127.0.0.1:0"
        protocol = "http"
        cluster = "web"
        [[listener]]
        name = "either"
        bind = "127.0.0.1:0"
        protocol = "auto"
        cluster = "web"
        [[route]]
        listener = "web"
        respond = { status = 204 }
        [[route]]
        listener = "web"
        path = "/x"
        redirect = { host = "b.example" }
        [[route]]
        listener = "web"
        path_prefix = "/y"
        clusters = [{ name = "web" }]
        retry = {}
        [[cluster]]
        name = "web"
        endpoints = ["127.0.0.1:8000"]
        outlier = {}
        retry = {}
        health = {}
        "#,
    );
    let expected = r#"
[[listener]]
name = "web"
bind = "127.0.0.1:0"
direction = "outbound"
cluster = "web"
proxy_protocol = "off"
protocol = "http"
max_connections = 0
access_log = "off"
access_log_format = "istio"
access_log_sample = 1.0

[listener.timeouts]
half_close = "1h"
head = "10s"
request = "off"
stream_idle = "5m"
max_age = "off"

[listener.http]
max_head = "64KiB"
max_fields = 100
max_body = "off"
forwarded = "append"
via = "off"
paths = "refuse"
connect = false

[[listener]]
name = "either"
bind = "127.0.0.1:0"
direction = "outbound"
cluster = "web"
proxy_protocol = "off"
protocol = "auto"
max_connections = 0
access_log = "off"
access_log_format = "istio"
access_log_sample = 1.0

[listener.timeouts]
half_close = "1h"
head = "10s"
request = "off"
stream_idle = "5m"
max_age = "off"
detect = "100ms"

[listener.http]
max_head = "64KiB"
max_fields = 100
max_body = "off"
forwarded = "append"
via = "off"
paths = "refuse"
connect = false

[[route]]
name = "route-1"
listener = "web"
path_prefix = "/"

[route.respond]
status = 204

[[route]]
name = "route-2"
listener = "web"
path = "/x"

[route.redirect]
host = "b.example"
status = 302

[[route]]
name = "route-3"
listener = "web"
path_prefix = "/y"

[[route.clusters]]
name = "web"
weight = 1

[route.retry]
attempts = 1
statuses = []
on = ["connect-failure", "reset"]

[[cluster]]
name = "web"
endpoints = ["127.0.0.1:8000"]
policy = "least-request"
source = "off"
mark = 0
proxy_protocol = "off"

[cluster.timeouts]
connect = "5s"
pool_idle = "4s"

[cluster.limits]
connections = 0
pending = 0
requests = 0
retries = 0

[cluster.outlier]
consecutive_failures = 5
ejection = "30s"
max_ejection = "5m"
max_percent = 10

[cluster.retry]
attempts = 1
backoff = "25ms"
max_backoff = "250ms"
budget_percent = 0

[cluster.health]
interval = "5s"
timeout = "1s"
healthy = 2
unhealthy = 3
"#;
    let printed = config.to_toml().unwrap();
    let listeners = printed.find("\n[[listener]]").unwrap();
    assert_eq!(&printed[listeners..], expected);
    assert_eq!(self::config(&printed), config);
}

/// The keys that this build has, with the values of the reference.
#[test]
fn the_reference_is_taken() {
    let text = r#"
        cpus = "0-3,8"
        pin = "auto"
        acceptors = 1
        driver = "auto"
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
        access_log = "off"
        access_log_format = "istio"
        [listener.timeouts]
        idle = "1h"
        half_close = "1h"
        [[listener]]
        name = "reviews"
        match = "10.0.0.7:9080"
        via = "outbound"
        protocol = "http"
        cluster = "reviews"
        [listener.timeouts]
        idle = "60s"
        head = "10s"
        request = "off"
        max_age = "off"
        handshake = "10s"
        [listener.http]
        max_head = "64KiB"
        max_fields = 100
        max_body = "off"
        [listener.tls]
        mode = "strict"
        certificate = "server.pem"
        key = "server.key"
        roots = { "cluster.local" = "ca.pem", "partner.example" = "partner.pem" }
        peers = ["spiffe://cluster.local/ns/default/*"]
        crl = "ca.crl"
        alpn = ["http/1.1"]
        drain_after = "off"
        [[route]]
        listener = "reviews"
        hosts = ["*.a.example"]
        path_prefix = "/v1"
        method = "GET"
        headers = { x-canary = "1" }
        cluster = "reviews"
        timeout = "off"
        [[cluster]]
        name = "reviews"
        endpoints = ["127.0.0.1:8000", { address = "b.example:80", weight = 2 }]
        policy = "least-request"
        source = "client"
        mark = 1337
        proxy_protocol = "off"
        [cluster.timeouts]
        connect = "5s"
        pool_idle = "4s"
        [cluster.limits]
        connections = 1024
        pending = 1024
        requests = 1024
        retries = 3
        [cluster.outlier]
        consecutive_failures = 5
        [cluster.retry]
        attempts = 2
        [cluster.tls]
        mode = "mutual"
        certificate = "client.pem"
        key = "client.key"
        roots = "ca.pem"
        sni = "localhost"
        peers = ["spiffe://cluster.local/ns/default/sa/server"]
        alpn = ["http/1.1"]
        "#;
    let host = Host { cpus: (0..16).collect(), ..host() };
    let loaded = read(text, &host).unwrap();
    assert_eq!(loaded.warnings.to_string(), "");
    let Shards::Cpus(cpus) = &loaded.config.shards else { panic!("{:?}", loaded.config.shards) };
    assert_eq!(cpus.cpus(), [0, 1, 2, 3, 8]);
    // `shards = 0` only says that no number is given.
    assert!(read(&format!("shards = 0\n{text}"), &host).is_ok());
}
