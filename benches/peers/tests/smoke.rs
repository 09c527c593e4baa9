//! Does the instrument still work? Each kind of scenario once, for a moment, with the peers that need
//! nothing installed.

use std::process::Command;

#[test]
fn scenarios_of_every_kind_give_a_row_for_each_peer() {
    if let Err(error) = io_uring::IoUring::new(2) {
        assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "no io_uring: {error}");
        eprintln!("SKIPPED scenarios_of_every_kind_give_a_row_for_each_peer: no io_uring: {error}");
        return;
    }
    let folder = std::env::temp_dir().join(format!("evenkeel-peers-smoke-{}", std::process::id()));
    let options = "--rounds 1 --seconds 0.1 --connections 8 --rates 500 --peers bare-ring,evenkeel";
    let scenarios = [
        "http-keep-alive",
        "http-new-connection",
        "relay-small",
        "relay-new-connection",
        "relay-idle-active",
        "latency-relay",
        "latency-http",
        "memory-relay",
        "evenness-listener",
        "evenness-churn",
        "skew",
    ];
    let output = Command::new(env!("CARGO_BIN_EXE_evenkeel-peers"))
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
        assert!(raw.contains(&format!("{scenario},evenkeel,0,")), "{scenario} in {raw}\n{errors}");
    }
    assert_eq!(charts, scenarios.len() + 2, "charts, report and raw numbers");
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
