//! `protocol = "auto"`: HTTP is told from other protocols by first bytes, and servers that speak first
//! are not held up for long.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use super::{
    origin::{greeter, recorder},
    process::{HEAD, Sidecar},
    web::{Client, teller},
};

const REQUESTS: &str = "evenkeel_requests_total";

fn auto(origin: SocketAddr, timeouts: &str) -> String {
    format!(
        "{HEAD}[[listener]]\nname = 'either'\nbind = '127.0.0.1:0'\nprotocol = 'auto'\n\
         cluster = 'web'\n{timeouts}\n[[cluster]]\nname = 'web'\nendpoints = ['{origin}']\n"
    )
}

fn requests(sidecar: &Sidecar) -> f64 {
    sidecar.metric(REQUESTS, &["listener=\"either\""])
}

#[test]
fn requests_are_proxied_however_their_first_bytes_are_split() {
    let config = auto(teller("web"), "timeouts.detect = '10s'");
    let sidecar = Sidecar::start(&config);
    let mut client = Client::connect(sidecar.address("either"));
    client.stream().set_nodelay(true).unwrap();
    for byte in b"GET / HT" {
        client.stream().write_all(&[*byte]).unwrap();
        thread::sleep(Duration::from_millis(5));
    }
    client.stream().write_all(b"TP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    let answer = client.read().unwrap();
    assert!(answer.body.starts_with("web\nGET / HTTP/1.1\n"), "{answer:?}");
    assert!(answer.body.to_lowercase().contains("x-forwarded-for"), "it was proxied");
    sidecar.metric_becomes(REQUESTS, &["listener=\"either\"", "code=\"2xx\""], 1.0);
}

#[test]
fn a_server_that_speaks_first_is_heard_within_the_time_to_detect() {
    let config = auto(greeter("220 mail.example ESMTP\r\n"), "");
    let sidecar = Sidecar::start(&config);
    let started = Instant::now();
    let mut greeting = String::new();
    sidecar.connect("either").read_to_string(&mut greeting).unwrap();
    assert_eq!(greeting, "220 mail.example ESMTP\r\n");
    assert!(started.elapsed() >= Duration::from_millis(90), "{:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(requests(&sidecar), 0.0);
}

#[test]
fn a_request_that_comes_late_is_relayed() {
    let config = auto(teller("web"), "timeouts.detect = '20ms'");
    let sidecar = Sidecar::start(&config);
    let mut client = Client::connect(sidecar.address("either"));
    // Connected to the origin: it is relayed from here on.
    sidecar.metric_becomes("evenkeel_upstream_connections_active", &["cluster=\"web\""], 1.0);
    let answer = client.get("/late", &["Host: a.example"]);
    assert!(answer.body.starts_with("web\nGET /late HTTP/1.1\n"), "{answer:?}");
    assert!(!answer.body.to_lowercase().contains("x-forwarded-for"), "as it came");
    assert_eq!(requests(&sidecar), 0.0);
}

#[test]
fn other_protocols_are_relayed_at_once_and_byte_for_byte() {
    let (origin, received) = recorder();
    let sidecar = Sidecar::start(&auto(origin, "timeouts.detect = '1h'"));
    let client_hello = [&b"\x16\x03\x01\x00\xc4\x01\x00\x00\xc0\x03\x03"[..], &[7; 190]].concat();
    for bytes in [&client_hello[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GE"] {
        let mut client = sidecar.connect("either");
        client.write_all(bytes).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let got = received.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(got, bytes, "{}", got.escape_ascii());
    }
    assert_eq!(requests(&sidecar), 0.0);
}
