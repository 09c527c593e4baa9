//! How a sidecar ends: drained, cut short, or at once.

use std::{
    io::Read,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{
    origin::{echo, exchange},
    process::{Sidecar, eventually, plain},
};

#[test]
fn a_signal_drains_not_ready_first() {
    let config = format!("{}[drain]\nkeep_accepting = '700ms'\n", plain(echo()));
    let mut sidecar = Sidecar::start(&config);
    let address = sidecar.address("plain");
    let mut open = sidecar.connect("plain");
    exchange(&mut open, b"before");
    sidecar.signal(Signal::TERM);
    eventually("it is not ready", || sidecar.ask("GET", "/ready").status == 503);
    assert_eq!(sidecar.ask("GET", "/ready").body, "not ready: draining\n");
    exchange(&mut sidecar.connect("plain"), b"still accepted");
    eventually("it does not accept any more", || TcpStream::connect(address).is_err());
    assert_eq!(sidecar.ask("POST", "/reload").status, 400, "a drain is for good");
    exchange(&mut open, b"still served");
    assert!(sidecar.is_running());
    drop(open);
    assert_eq!(sidecar.wait().code(), Some(0));
    eventually("it says so", || sidecar.log().contains("every connection finished"));
}

#[test]
fn the_deadline_cuts_what_is_left() {
    let config = format!("{}[drain]\ndeadline = '300ms'\n", plain(echo()));
    let mut sidecar = Sidecar::start(&config);
    let mut open = sidecar.connect("plain");
    exchange(&mut open, b"before");
    sidecar.signal(Signal::INT);
    assert_eq!(sidecar.wait().code(), Some(0));
    assert!(matches!(open.read(&mut [0]), Ok(0) | Err(_)), "cut");
    eventually("it says so", || sidecar.log().contains("cut=1"));
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut sidecar = Sidecar::start(&plain(echo()));
    let mut open = sidecar.connect("plain");
    exchange(&mut open, b"before");
    sidecar.signal(Signal::TERM);
    eventually("it drains", || sidecar.ask("GET", "/ready").status == 503);
    let second = Instant::now();
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.wait().code(), Some(1), "the drain was cut short");
    assert!(second.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_drain_by_request_ends_the_process_unless_told_otherwise() {
    let mut sidecar = Sidecar::start(&plain(echo()));
    assert_eq!(sidecar.ask("POST", "/drain").status, 202);
    assert_eq!(sidecar.wait().code(), Some(0));

    let mut sidecar = Sidecar::start(&plain(echo()));
    let address = sidecar.address("plain");
    assert_eq!(sidecar.ask("POST", "/drain?exit=false").status, 202);
    eventually("it is drained", || sidecar.log().contains("every connection finished"));
    assert!(TcpStream::connect(address).is_err());
    thread::sleep(Duration::from_millis(200));
    assert!(sidecar.is_running(), "it was told to stay");
    assert_eq!(sidecar.ask("GET", "/ready").status, 503);
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.wait().code(), Some(0));
}

#[test]
fn quitquitquit_answers_and_ends_at_once() {
    for draining in [false, true] {
        let mut sidecar = Sidecar::start(&plain(echo()));
        let mut open = sidecar.connect("plain");
        exchange(&mut open, b"before");
        if draining {
            assert_eq!(sidecar.ask("POST", "/drain").status, 202);
        }
        assert_eq!(sidecar.ask("POST", "/quitquitquit").status, 200);
        let asked = Instant::now();
        assert_eq!(sidecar.wait().code(), Some(0));
        assert!(asked.elapsed() < Duration::from_secs(5));
        assert!(matches!(open.read(&mut [0]), Ok(0) | Err(_)), "cut");
    }
}
