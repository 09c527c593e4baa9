//! What the admin server shows of a sidecar, and what it lets change.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use rustix::process::Signal;

use super::{
    origin::{echo, exchange, refusing},
    process::{HEAD, Sidecar, eventually, plain},
};

const PLAIN: &str = "listener=\"plain\"";
const WEB: &str = "cluster=\"web\"";

#[test]
fn traffic_shows_in_the_metrics() {
    let sidecar = Sidecar::start(&plain(echo()));
    let mut clients: Vec<_> = (0..4).map(|_| sidecar.connect("plain")).collect();
    clients.iter_mut().for_each(|client| exchange(client, b"0123456789"));
    for (metric, labels, value) in [
        ("evenkeel_accepts_total", &[PLAIN][..], 4.0),
        ("evenkeel_accepting", &[PLAIN], 1.0),
        ("evenkeel_accept_queue_length", &[PLAIN], 0.0),
        ("evenkeel_downstream_connections_total", &[PLAIN], 4.0),
        ("evenkeel_downstream_connections_total", &[PLAIN, "shard=\"0\""], 2.0),
        ("evenkeel_downstream_connections_active", &[PLAIN], 4.0),
        ("evenkeel_downstream_received_bytes_total", &[PLAIN], 40.0),
        ("evenkeel_downstream_sent_bytes_total", &[PLAIN], 40.0),
        ("evenkeel_shard_connections_active", &["shard=\"1\""], 2.0),
        ("evenkeel_upstream_connections_total", &[WEB], 4.0),
        ("evenkeel_upstream_connections_active", &[WEB, "shard=\"0\""], 2.0),
        ("evenkeel_upstream_received_bytes_total", &[WEB], 40.0),
        ("evenkeel_upstream_sent_bytes_total", &[WEB], 40.0),
        ("evenkeel_build_info", &[concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"")], 1.0),
    ] {
        sidecar.metric_becomes(metric, labels, value);
    }
    drop(clients);
    sidecar.metric_becomes("evenkeel_downstream_connections_closed_total", &[PLAIN], 4.0);
    let done = [PLAIN, "reason=\"done\""];
    sidecar.metric_becomes("evenkeel_downstream_connections_closed_total", &done, 4.0);
    for gauge in ["downstream_connections_active", "upstream_connections_active"] {
        sidecar.metric_becomes(&format!("evenkeel_{gauge}"), &[], 0.0);
    }
    sidecar.metric_becomes("evenkeel_shard_connections_active", &[], 0.0);
}

#[test]
fn the_metrics_of_the_relay_are_all_there() {
    let config = plain(refusing());
    let sidecar = Sidecar::start(&config);
    // A failure, so that its counters come to be.
    let mut client = sidecar.connect("plain");
    assert!(client.read(&mut [0]).is_err(), "reset");
    let refused = [WEB, "reason=\"refused\""];
    sidecar.metric_becomes("evenkeel_upstream_connect_failures_total", &refused, 1.0);
    let failed = [PLAIN, "reason=\"upstream_failed\""];
    sidecar.metric_becomes("evenkeel_downstream_connections_closed_total", &failed, 1.0);
    let metrics = sidecar.ask("GET", "/metrics");
    assert!(metrics.head.contains("Content-Type: text/plain; version=0.0.4"), "{}", metrics.head);
    for name in [
        "shard_busy_ratio",
        "shard_busy_seconds_total",
        "shard_free_buffers",
        "completion_queue_overflows_total",
        "shard_turn_duration_seconds_bucket",
        "connections_rejected_total",
        "acceptor_last_turn_timestamp_seconds",
        "handoffs_redealt_total",
        "shards_failed_total",
        "config_reloads_total",
    ] {
        let found = metrics.body.lines().any(|line| line.starts_with(&format!("evenkeel_{name}")));
        assert!(found, "{name} is not in:\n{}", metrics.body);
    }
    for name in ["process_open_fds", "process_resident_memory_bytes", "process_cpu_seconds_total"] {
        assert!(metrics.body.contains(&format!("\n{name} ")), "{name}");
    }
    // Every shard is there, at zero too.
    for shard in ["shard=\"0\"", "shard=\"1\""] {
        let series =
            format!("evenkeel_downstream_connections_active{{listener=\"plain\",{shard}}} 0");
        assert!(metrics.body.contains(&series), "{series} is not in:\n{}", metrics.body);
    }
    assert_eq!(sidecar.ask("GET", "/stats/prometheus").status, 200);
}

#[test]
fn listeners_and_shards_show_where_connections_are() {
    let sidecar = Sidecar::start(&plain(echo()));
    let mut clients: Vec<_> = (0..6).map(|_| sidecar.connect("plain")).collect();
    clients.iter_mut().for_each(|client| exchange(client, b"x"));
    assert_eq!(sidecar.ask("GET", "/ready").body, "ready\n");
    let listener = &sidecar.json("/listeners")["listeners"][0];
    assert_eq!(listener["name"], "plain");
    assert_eq!(listener["bind"], sidecar.address("plain").to_string());
    assert_eq!(listener["match"], serde_json::Value::Null);
    let row = |shard| serde_json::json!({ "shard": shard, "active": 3, "total": 3 });
    assert_eq!(listener["shards"], serde_json::json!([row(0), row(1)]));
    let shards = &sidecar.json("/shards")["shards"];
    for shard in [0, 1] {
        assert_eq!(shards[shard]["shard"], shard);
        assert_eq!(shards[shard]["connections"], 3);
    }
}

#[test]
fn the_configuration_is_shown_with_its_defaults() {
    let origin = echo();
    let sidecar = Sidecar::start(&plain(origin));
    let dump = sidecar.json("/config_dump");
    assert_eq!(dump["listener"][0]["timeouts"]["idle"], "1h");
    assert_eq!(dump["cluster"][0]["endpoints"][0], origin.to_string());
}

#[test]
fn only_a_post_changes_something() {
    let sidecar = Sidecar::start(&plain(echo()));
    for path in ["/drain", "/quitquitquit", "/reload", "/logging?level=debug"] {
        let answer = sidecar.ask("GET", path);
        assert_eq!(answer.status, 405, "{path}");
        assert!(answer.head.contains("Allow: POST"), "{}", answer.head);
    }
    assert_eq!(sidecar.ask("POST", "/config_dump").status, 405);
    assert_eq!(sidecar.ask("POST", "/drain?exit=perhaps").status, 400);
    assert_eq!(sidecar.ask("GET", "/ready").status, 200);
    exchange(&mut sidecar.connect("plain"), b"still served");
}

#[test]
fn telemetry_shows_and_changes_nothing() {
    let config = format!("telemetry = '127.0.0.1:0'\n{}", plain(echo()));
    let sidecar = Sidecar::start(&config);
    let ask = |line: &str| {
        let mut stream = TcpStream::connect(sidecar.admin("telemetry")).unwrap();
        write!(stream, "{line} HTTP/1.0\r\n\r\n").unwrap();
        std::io::read_to_string(stream).unwrap()
    };
    for path in ["/ready", "/metrics", "/stats/prometheus"] {
        assert!(ask(&format!("GET {path}")).starts_with("HTTP/1.1 200 "), "{path}");
    }
    for line in ["POST /quitquitquit", "POST /drain", "GET /config_dump", "GET /shards"] {
        assert!(ask(line).starts_with("HTTP/1.1 404 "), "{line}");
    }
}

#[test]
fn the_log_filter_changes_while_it_runs() {
    let sidecar = Sidecar::start(&format!("log = 'off'\n{}", plain(echo())));
    const SAID: &str = "there is no file to open again";
    sidecar.signal(Signal::USR1);
    // Signals are handled in order: once this is answered, the first one has been.
    assert_eq!(sidecar.ask("POST", "/reload").status, 200);
    assert_eq!(sidecar.log(), "");
    assert_eq!(sidecar.ask("POST", "/logging?level=info").status, 200);
    sidecar.signal(Signal::USR1);
    eventually("it is logged", || sidecar.log().contains(SAID));
    for target in ["/logging", "/logging?level=loud", "/logging?level=evenkeel%3Dloud"] {
        assert_eq!(sidecar.ask("POST", target).status, 400, "{target}");
    }
}

#[test]
fn json_lines_are_json() {
    let config = format!(
        "log_format = 'json'\n{HEAD}[[listener]]\nname = 'l'\n\
                          bind = '127.0.0.1:0'\ncluster = 'blackhole'\n"
    );
    let sidecar = Sidecar::start(&config);
    sidecar.signal(Signal::USR1);
    eventually("two lines", || sidecar.log().lines().count() >= 2);
    for line in sidecar.log().lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(value["level"] == "INFO" || value["level"] == "WARN", "{line}");
    }
}
