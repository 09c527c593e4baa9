//! Limits of what clients may send, and how long they may take.

use std::{
    thread,
    time::{Duration, Instant},
};

use evenkeel::{
    http::{self, Routes, Timeouts, h1::HeadLimits},
    telemetry::{CodeClass, HttpReject, ResponseFlag},
};

use crate::stage::{Origin, Stage, cluster, get};

fn limited(origin: &Origin) -> Stage {
    let mut timeouts = Timeouts::default();
    timeouts.head = Some(Duration::from_millis(400));
    let limits = HeadLimits { bytes: 4096, fields: 10, ..HeadLimits::default() };
    let routes = Routes::to(cluster("origin", origin.address));
    let web = http::proxy(routes).timeouts(timeouts).head_limits(limits).max_body(Some(1000));
    Stage::on(2, web)
}

fn rejected(stage: &Stage, reason: HttpReject) -> u64 {
    let registry = stage.proxy.registry();
    (0..2).map(|shard| registry.http_listener("web", shard).rejected.value(reason)).sum()
}

#[test]
fn what_is_too_long_gets_the_status_for_it() {
    needs_io_uring!();
    let origin = Origin::echo();
    let stage = limited(&origin);
    let long = "x".repeat(5000);
    let many = "X: y\r\n".repeat(10);
    for (request, status) in [
        (get(&format!("/{long}")), 414),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n".to_owned(), 413),
    ] {
        let mut client = stage.client();
        client.send(request);
        client.send(get("/smuggled"));
        let answer = client.answer();
        assert_eq!(answer.status(), status);
        assert!(answer.closes() && client.is_over());
    }
    assert_eq!(origin.all_seen(), "");
    assert_eq!(rejected(&stage, HttpReject::TargetTooLong), 1);
    assert_eq!(rejected(&stage, HttpReject::HeadTooLarge), 2);
    assert_eq!(rejected(&stage, HttpReject::BodyTooLarge), 1);
    let just =
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{}", "x".repeat(1000));
    assert_eq!(stage.ask(just).body.len(), 1001);
}

#[test]
fn a_chunked_body_that_is_too_long_never_ends_at_the_origin() {
    needs_io_uring!();
    let origin = Origin::echo();
    let stage = limited(&origin);
    let mut client = stage.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..5 {
        client.send(format!("c8\r\n{}\r\n", "x".repeat(200)));
    }
    client.send("1\r\nx\r\n0\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.status(), 413);
    assert!(answer.closes() && client.is_over());
    assert!(!origin.all_seen().contains("\r\n0\r\n"));
    stage.counted(CodeClass::ClientError, ResponseFlag::DownstreamProtocolError, 1);
    stage.is_quiet();
}

#[test]
fn a_hundred_heads_that_drip_are_cut_off_in_time() {
    needs_io_uring!();
    let origin = Origin::echo();
    let stage = limited(&origin);
    let mut clients: Vec<_> = (0..100).map(|_| stage.client()).collect();
    let began = Instant::now();
    let head = get("/").into_bytes();
    for byte in head.iter().cycle().take_while(|_| began.elapsed() < Duration::from_secs(1)) {
        if *byte == b'\n' {
            continue;
        }
        for client in &mut clients {
            client.send([*byte]);
        }
        thread::sleep(Duration::from_millis(40));
        // Others are served meanwhile.
        assert_eq!(stage.ask(get("/other")).text(), "/other");
    }
    for client in &mut clients {
        let answer = client.answer();
        assert_eq!(answer.status(), 408);
        assert!(answer.closes());
    }
    drop(clients);
    assert_eq!(rejected(&stage, HttpReject::HeadTimeout), 100);
    assert!(!origin.all_seen().contains("GET / "));
    stage.is_quiet();
}

#[test]
fn a_connection_that_has_only_sent_an_empty_line_is_closed_without_a_word() {
    needs_io_uring!();
    let origin = Origin::echo();
    let stage = limited(&origin);
    let mut client = stage.client();
    assert_eq!(client.ask(get("/")).text(), "/");
    client.send("\r\n");
    assert!(client.is_over());
    assert_eq!(rejected(&stage, HttpReject::HeadTimeout), 0);
    stage.is_quiet();
}
