//! Reloading: a good configuration disturbs nobody, a bad one changes nothing.

use std::{fs, io::Read, net::TcpStream};

use rustix::process::Signal;

use super::{
    origin::{echo, exchange, greeter},
    process::{HEAD, Sidecar, command, eventually, plain},
};

const ACCEPTED: [&str; 1] = ["result=\"accepted\""];
const REFUSED: [&str; 1] = ["result=\"refused\""];

fn greeting(sidecar: &Sidecar) -> String {
    let mut greeting = String::new();
    let _ = sidecar.connect("plain").read_to_string(&mut greeting);
    greeting
}

#[test]
fn a_good_one_changes_the_cluster_and_disturbs_nobody() {
    let sidecar = Sidecar::start(&plain(echo()));
    let mut open = sidecar.connect("plain");
    exchange(&mut open, b"before");
    let by_signal = greeter("by signal");
    fs::write(sidecar.file(), plain(by_signal)).unwrap();
    sidecar.signal(Signal::HUP);
    sidecar.metric_becomes("evenkeel_config_reloads_total", &ACCEPTED, 1.0);
    // The port stays, although the file says 0. It is counted before all of it has happened.
    eventually("the new one is asked", || greeting(&sidecar) == "by signal");

    fs::write(sidecar.file(), plain(greeter("by request"))).unwrap();
    let answer = sidecar.ask("POST", "/reload");
    assert_eq!((answer.status, answer.body.as_str()), (200, "reloaded\n"));
    assert_eq!(greeting(&sidecar), "by request");
    exchange(&mut open, b"still the one of before");
    let dump = sidecar.json("/config_dump");
    assert_ne!(dump["cluster"][0]["endpoints"][0], by_signal.to_string());
}

#[test]
fn a_bad_one_is_refused_with_its_place_and_the_old_one_stays() {
    let config = plain(greeter("old"));
    let sidecar = Sidecar::start(&config);
    let file = sidecar.file().display().to_string();
    let old = sidecar.ask("GET", "/config_dump").body;
    fs::write(sidecar.file(), config.replacen(HEAD, &format!("{HEAD}pinn = 'auto'\n"), 1)).unwrap();
    let answer = sidecar.ask("POST", "/reload");
    assert_eq!(answer.status, 400);
    let place = format!("{file}:3:1: error: unknown key `pinn`");
    assert!(answer.body.contains(&place), "{}", answer.body);
    let checked = command().args(["check", "--config", &file]).output().unwrap();
    assert_eq!(answer.body, String::from_utf8(checked.stdout).unwrap(), "what check prints");

    sidecar.signal(Signal::HUP);
    sidecar.metric_becomes("evenkeel_config_reloads_total", &REFUSED, 2.0);
    eventually("it is logged", || sidecar.log().contains(&place));
    assert_eq!(greeting(&sidecar), "old");
    assert_eq!(sidecar.ask("GET", "/config_dump").body, old);
}

#[test]
fn what_cannot_change_is_refused_by_name() {
    let config = plain(greeter("old"));
    let sidecar = Sidecar::start(&config);
    let refused = |from: &str, to: &str, keys: &[&str]| {
        let with_new_log = config.replacen(from, &format!("{to}\nlog = 'off'"), 1);
        fs::write(sidecar.file(), with_new_log).unwrap();
        let answer = sidecar.ask("POST", "/reload");
        assert_eq!(answer.status, 400, "{to}");
        assert_eq!(answer.body.lines().count(), keys.len(), "{}", answer.body);
        for key in keys {
            let refusal = format!("`{key}` cannot change by a reload");
            assert!(answer.body.contains(&refusal), "{}", answer.body);
        }
    };
    refused(
        "shards = 2",
        "shards = 3\npin = 'never'\nacceptors = 2",
        &["shards", "pin", "acceptors"],
    );
    refused("shards = 2", "cpus = '0'", &["shards", "cpus"]);
    refused("shards = 2", "shards = 2\nbalance = 'kernel'", &["balance"]);
    refused("admin = '127.0.0.1:0'", "admin = '127.0.0.2:0'", &["admin"]);
    assert_eq!(sidecar.metric("evenkeel_config_reloads_total", &REFUSED), 4.0);
    assert_eq!(greeting(&sidecar), "old");
    assert_eq!(sidecar.json("/config_dump")["log"], "info");
}

#[test]
fn limits_and_balance_change() {
    let config = plain(echo());
    let sidecar = Sidecar::start(&config);
    let mut first = sidecar.connect("plain");
    exchange(&mut first, b"one");
    fs::write(
        sidecar.file(),
        format!("balance = 'round-robin'\n{config}[limits]\nconnections = 1\n"),
    )
    .unwrap();
    assert_eq!(sidecar.ask("POST", "/reload").status, 200);
    assert!(matches!(sidecar.connect("plain").read(&mut [0]), Ok(0) | Err(_)), "above the limit");
    let limit = ["listener=\"plain\"", "reason=\"limit\""];
    sidecar.metric_becomes("evenkeel_connections_rejected_total", &limit, 1.0);
    exchange(&mut first, b"still open");
    let dump = sidecar.json("/config_dump");
    assert_eq!(dump["limits"]["connections"], 1);
    assert_eq!(dump["balance"], "round-robin");
    fs::write(sidecar.file(), config).unwrap();
    assert_eq!(sidecar.ask("POST", "/reload").status, 200);
    exchange(&mut sidecar.connect("plain"), b"two");
}

#[test]
fn telemetry_moves_or_all_stays() {
    let config = plain(greeter("old"));
    let on = |address: &str| format!("telemetry = '{address}'\n{config}");
    let sidecar = Sidecar::start(&on("127.0.0.1:0"));
    let first = sidecar.admin("telemetry");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let wanted = on(&taken).replace(HEAD, &format!("{HEAD}log = 'off'\n"));
    fs::write(sidecar.file(), wanted.replace("'plain'", "'renamed'")).unwrap();
    let answer = sidecar.ask("POST", "/reload");
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains(&taken), "{}", answer.body);
    assert_eq!(sidecar.metric("evenkeel_config_reloads_total", &REFUSED), 1.0);
    assert_eq!(sidecar.json("/listeners")["listeners"][0]["name"], "plain");
    assert!(TcpStream::connect(first).is_ok());

    fs::write(sidecar.file(), on("127.0.0.2:0")).unwrap();
    assert_eq!(sidecar.ask("POST", "/reload").status, 200);
    let second = || {
        sidecar
            .printed()
            .lines()
            .filter_map(|line| line.strip_prefix("telemetry "))
            .nth(1)
            .map(str::to_owned)
    };
    eventually("it is printed", || second().is_some());
    assert!(TcpStream::connect(second().unwrap()).is_ok());
    assert!(TcpStream::connect(first).is_err(), "the old one is closed");
}

#[test]
fn the_format_of_the_log_changes() {
    let config = plain(echo());
    let sidecar = Sidecar::start(&config);
    let is_json = || {
        let log = sidecar.log();
        let last = log.lines().last().unwrap_or_default();
        last.contains("there is no file").then(|| last.starts_with('{'))
    };
    sidecar.signal(Signal::USR1);
    eventually("it is logged in text", || is_json() == Some(false));
    fs::write(sidecar.file(), format!("log_format = 'json'\n{config}")).unwrap();
    assert_eq!(sidecar.ask("POST", "/reload").status, 200);
    sidecar.signal(Signal::USR1);
    eventually("it is logged in JSON", || is_json() == Some(true));
}

#[test]
fn an_address_that_is_taken_is_refused_and_the_old_one_stays() {
    let config = plain(greeter("old"));
    let sidecar = Sidecar::start(&config);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let more = format!(
        "{config}[[listener]]\nname = 'more'\nbind = '{}'\ncluster = 'web'\n",
        taken.local_addr().unwrap()
    );
    fs::write(sidecar.file(), &more).unwrap();
    let answer = sidecar.ask("POST", "/reload");
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("another socket listens there"), "{}", answer.body);
    assert_eq!(sidecar.metric("evenkeel_config_reloads_total", &REFUSED), 1.0);
    assert_eq!(greeting(&sidecar), "old");
    drop(taken);
    assert_eq!(sidecar.ask("POST", "/reload").status, 200);
    assert_eq!(sidecar.json("/listeners")["listeners"][1]["name"], "more");
    eventually("it is printed", || sidecar.find(&["listening", "more"]).is_some());
}

#[test]
fn the_log_filter_of_the_file_is_applied() {
    let config = plain(echo());
    let sidecar = Sidecar::start(&format!("log = 'off'\n{config}"));
    fs::write(sidecar.file(), format!("log = 'info'\n{config}")).unwrap();
    assert_eq!(sidecar.ask("POST", "/reload").status, 200);
    eventually("it is logged", || sidecar.log().contains("reloaded"));
}
