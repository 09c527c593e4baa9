//! Does the instrument still work? Each kind of scenario once, for a moment.

use std::path::Path;
use std::process::Command;

/// Whether a test has what it needs. Where it must have (`CI=true`) it fails otherwise.
fn has_means(test: &str) -> bool {
    let missing = ["/usr/sbin/nginx", "/usr/sbin/haproxy"]
        .into_iter()
        .filter(|program| !Path::new(program).exists())
        .map(|program| format!("no {program}"))
        .chain(io_uring::IoUring::new(2).err().map(|error| format!("no io_uring: {error}")))
        .collect::<Vec<_>>()
        .join(", ");
    if !missing.is_empty() {
        assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{missing}");
        eprintln!("SKIPPED {test}: {missing}");
    }
    missing.is_empty()
}

/// Runs scenarios with these peers, and sees that the report has all of them, with a number of each.
fn run(options: &str, peers: &[&str], scenarios: &[&str]) {
    // Scratch files have the process in their name; tests of one process run at the same time.
    let name = format!("evenkeel-peers-smoke-{}-{}", std::process::id(), scenarios[0]);
    let folder = std::env::temp_dir().join(name);
    let output = Command::new(env!("CARGO_BIN_EXE_evenkeel-peers"))
        .args(["--rounds", "1", "--rates", "500", "--peers", &peers.join(",")])
        .args(options.split(' '))
        .arg("--report")
        .arg(&folder)
        .args(scenarios)
        .output()
        .unwrap();
    let report = std::fs::read_to_string(folder.join("README.md")).unwrap_or_default();
    let raw = std::fs::read_to_string(folder.join("runs.csv")).unwrap_or_default();
    let charts = std::fs::read_dir(&folder).map_or(0, Iterator::count);
    let _ = std::fs::remove_dir_all(&folder);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    for scenario in scenarios {
        assert!(report.contains(&format!("`{scenario}`: ")), "{scenario} in {report}\n{errors}");
        for peer in peers {
            let number = format!("{scenario},{peer},0,");
            assert!(raw.contains(&number), "{number} in {raw}\n{errors}");
        }
    }
    assert_eq!(charts, scenarios.len() + 2, "charts, report and raw numbers");
}

#[test]
fn scenarios_of_relays_have_a_number_of_each_peer() {
    if !has_means("scenarios_of_relays_have_a_number_of_each_peer") {
        return;
    }
    let peers = ["bare-ring", "evenkeel", "evenkeel-epoll"];
    let scenarios = [
        "relay-small",
        "relay-new-connection",
        "relay-idle-active",
        "latency-relay",
        "memory-relay",
    ];
    run("--seconds 0.1 --connections 8", &peers, &scenarios);
}

#[test]
fn scenarios_of_http_have_a_number_of_each_peer() {
    if !has_means("scenarios_of_http_have_a_number_of_each_peer") {
        return;
    }
    let scenarios =
        ["http-keep-alive", "http-new-connection", "latency-http", "memory-http", "skew"];
    run("--seconds 0.1 --connections 8", &["evenkeel", "evenkeel-epoll"], &scenarios);
}

/// With the others too: their configurations are what may be wrong.
#[test]
fn scenarios_of_tls_and_of_several_workers_have_a_number_of_each_peer() {
    if !has_means("scenarios_of_tls_and_of_several_workers_have_a_number_of_each_peer") {
        return;
    }
    let peers = ["evenkeel", "nginx", "haproxy"];
    let tls = ["mtls-pair", "handshakes-full", "handshakes-resumed"];
    run("--seconds 0.3 --connections 4", &peers, &tls);
    let several = ["scaling-http", "scaling-relay", "evenness-listener", "evenness-churn"];
    run("--seconds 0.2 --connections 4 --workers 2", &peers, &several);
}

#[test]
fn a_peer_that_cannot_run_is_left_out_and_said_so() {
    let output = Command::new(env!("CARGO_BIN_EXE_evenkeel-peers"))
        .args(["--rounds", "1", "--peers", "command", "--command", "/does/not/exist"])
        .arg("relay-small")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("/does/not/exist could not be started"), "{errors}");
}
