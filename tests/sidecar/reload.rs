//! Reloading: a good configuration disturbs nobody, a bad one changes nothing.

use std::{fs, io::Read};

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
    let Some(sidecar) = Sidecar::start(&plain(echo())) else { return };
    let mut open = sidecar.connect("plain");
    exchange(&mut open, b"before");
    let by_signal = greeter("by signal");
    fs::write(sidecar.file(), plain(by_signal)).unwrap();
    sidecar.signal(Signal::HUP);
    sidecar.metric_becomes("evenkeel_config_reloads_total", &ACCEPTED, 1.0);
    // The port stays, although the file says 0.
    assert_eq!(greeting(&sidecar), "by signal");

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
    let Some(sidecar) = Sidecar::start(&config) else { return };
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
    let Some(sidecar) = Sidecar::start(&config) else { return };
    let wanted = config.replace("shards = 2", "shards = 3\nbalance = 'round-robin'");
    fs::write(sidecar.file(), wanted).unwrap();
    let answer = sidecar.ask("POST", "/reload");
    assert_eq!(answer.status, 400);
    for key in ["`shards`", "`balance`"] {
        assert!(
            answer.body.contains(&format!("{key} cannot change by a reload")),
            "{}",
            answer.body
        );
    }
    assert_eq!(sidecar.metric("evenkeel_config_reloads_total", &REFUSED), 1.0);
    assert_eq!(greeting(&sidecar), "old");
}

#[test]
fn an_address_that_is_taken_is_refused_and_the_old_one_stays() {
    let config = plain(greeter("old"));
    let Some(sidecar) = Sidecar::start(&config) else { return };
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
    let Some(sidecar) = Sidecar::start(&format!("log = 'off'\n{config}")) else { return };
    fs::write(sidecar.file(), format!("log = 'info'\n{config}")).unwrap();
    assert_eq!(sidecar.ask("POST", "/reload").status, 200);
    eventually("it is logged", || sidecar.log().contains("reloaded"));
}
