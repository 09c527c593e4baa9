//! Connections that carry several requests, and how they end.

use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

use evenkeel::{
    http::{
        self, Fallback, Routes, Timeouts,
        route::{Action, Respond, RouteTable},
    },
    telemetry::{CodeClass, PoolState, ResponseFlag},
};

use crate::stage::{Origin, Stage, cluster, eventually, get, ok, route, routes};

#[test]
fn a_connection_is_kept_and_closed_as_the_client_says() {
    needs_io_uring!();
    let origin = Origin::echo();
    let stage = Stage::to(origin.address);
    let mut client = stage.client();
    for request in 0..100 {
        let answer = client.ask(get(&format!("/{request}")));
        assert_eq!(answer.text(), format!("/{request}"));
        assert_eq!(answer.field("connection"), None);
    }
    let last = client.ask("GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(last.closes() && client.is_over());
    let mut old = stage.client();
    for _ in 0..2 {
        let answer = old.ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(answer.field("connection"), Some("keep-alive"));
    }
    let answer = old.ask("GET / HTTP/1.0\r\n\r\n");
    assert!(answer.closes() && old.is_over());
    assert_eq!(origin.connections(), 1);
    stage.counted(CodeClass::Success, ResponseFlag::None, 104);
    stage.is_quiet();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    needs_io_uring!();
    // The later a request, the sooner it is answered.
    let origin = Origin::new(|wire, _| {
        while let Some(request) = wire.request() {
            let number: u64 = request.target()[1..].parse().unwrap();
            thread::sleep(Duration::from_millis(20 - number));
            wire.send(ok(request.target()));
        }
    });
    let stage = Stage::to(origin.address);
    let mut client = stage.client();
    let all: String = (0..20).map(|number| get(&format!("/{number}"))).collect();
    client.send(all);
    for number in 0..20 {
        assert_eq!(client.answer().text(), format!("/{number}"));
    }
    assert_eq!(origin.connections(), 1, "one at a time");
    drop(client);
    stage.is_quiet();
}

/// Routes that answer everything at once.
fn responding(body: &[u8]) -> Routes {
    let respond =
        Respond { status: ::http::StatusCode::OK, content_type: None, body: body.to_vec() };
    let mut spec = route("/", "nowhere");
    spec.route.action = Action::Respond(respond);
    Routes::new(RouteTable::build(vec![spec]).unwrap(), [], Fallback::NotFound)
}

fn pipeline(stage: &Stage, requests: usize) {
    let mut reader = stage.client();
    let mut writer = reader.stream.try_clone().unwrap();
    let sending = thread::spawn(move || {
        let batch = get("/").repeat(1000);
        for _ in 0..requests / 1000 {
            writer.write_all(batch.as_bytes()).unwrap();
        }
    });
    for _ in 0..requests {
        assert_eq!(reader.answer().status(), 200);
    }
    sending.join().unwrap();
}

#[test]
fn very_many_pipelined_requests_are_answered() {
    needs_io_uring!();
    let stage = Stage::serving(http::proxy(responding(b"ok")));
    pipeline(&stage, 50_000);
    stage.counted(CodeClass::Success, ResponseFlag::None, 50_000);
    stage.is_quiet();
}

#[test]
#[ignore = "it takes a minute without optimization; .ci/run has it with"]
fn a_million_pipelined_requests_are_answered() {
    needs_io_uring!();
    pipeline(&Stage::serving(http::proxy(responding(b"ok"))), 1_000_000);
}

#[test]
fn a_client_that_never_reads_is_not_read_from_for_ever() {
    needs_io_uring!();
    // More than the kernel holds of both connections.
    const MOST: usize = 48 << 20;
    let padding = "x".repeat(1000);
    let own = Stage::serving(http::proxy(responding(padding.as_bytes())));
    let origin = Origin::answering(format!("HTTP/1.1 204 No Content\r\nX: {padding}\r\n\r\n"));
    let forwarded = Stage::to(origin.address);
    for stage in [&own, &forwarded] {
        let mut client = stage.client();
        client.stream.set_write_timeout(Some(Duration::from_millis(1500))).unwrap();
        let requests = get(&format!("/{padding}")).repeat(50).into_bytes();
        let mut sent = 0;
        while sent < MOST
            && let Ok(length) = client.stream.write(&requests)
        {
            sent += length;
        }
        assert!(sent < MOST, "answers must not pile up");
        // Other clients are none the worse.
        assert!(stage.ask(get("/")).status() < 300);
        drop(client);
        stage.is_quiet();
    }
}

#[test]
fn an_answer_before_the_body_is_the_last_and_the_body_is_no_request() {
    needs_io_uring!();
    let origin = Origin::new(|wire, _| {
        wire.head();
        wire.send(ok("early"));
        wire.rest();
    });
    let stage = Stage::to(origin.address);
    for framing in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        let before = origin.connections();
        let mut client = stage.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));
        let answer = client.answer();
        assert_eq!(answer.text(), "early");
        assert!(answer.closes());
        client.send(get("/smuggled"));
        assert!(client.is_over());
        let seen = origin.seen()[before..].concat();
        assert!(!seen.contains("smuggled"), "{seen}");
        assert_eq!(origin.connections(), before + 1);
    }
    stage.is_quiet();
}

#[test]
fn an_expectation_is_forwarded_and_so_is_what_comes_of_it() {
    needs_io_uring!();
    let origin = Origin::new(|wire, _| {
        while let Some(head) = wire.head() {
            assert!(head.contains("\r\nExpect: 100-continue\r\n"), "{head}");
            if head.starts_with("POST /no ") {
                wire.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
                continue;
            }
            wire.send("HTTP/1.1 100 Continue\r\n\r\n");
            let body = wire.exactly(5).unwrap();
            wire.send(ok(body));
        }
    });
    let stage = Stage::to(origin.address);
    let head = |target: &str| {
        format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        )
    };
    let mut client = stage.client();
    for _ in 0..2 {
        assert_eq!(client.ask(head("/yes")).status(), 100);
        assert_eq!(client.ask("hello").text(), "hello");
    }
    let refused = client.ask(head("/no"));
    assert_eq!(refused.status(), 403);
    assert!(refused.closes());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.is_over());
    // Neither connection is used again: the origin still waits for that body.
    eventually("the origin's connection has ended", || {
        stage.ask(head("/no")).status() == 403 && origin.connections() > 1
    });
}

#[test]
fn an_answer_of_the_proxys_own_keeps_the_connection_if_the_body_is_here() {
    needs_io_uring!();
    let stage = Stage::serving(http::proxy(responding(b"ok")));
    let mut client = stage.client();
    let whole = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    assert!(!client.ask(whole).closes());
    let chunked =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    assert!(!client.ask(chunked).closes());
    let part = client.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhello");
    assert!(part.closes());
    client.send(get("/smuggled"));
    assert!(client.is_over());
    stage.counted(CodeClass::Success, ResponseFlag::None, 3);
}

#[test]
fn idle_connections_and_old_ones_are_closed() {
    needs_io_uring!();
    let origin = Origin::echo();
    let mut timeouts = Timeouts::default();
    timeouts.idle = Some(Duration::from_millis(300));
    timeouts.max_age = Some(Duration::from_millis(100));
    let routes = Routes::to(cluster("origin", origin.address));
    let stage = Stage::serving(http::proxy(routes).timeouts(timeouts));
    let mut silent = stage.client();
    let mut quiet = stage.client();
    assert!(!quiet.ask(get("/")).closes());
    let began = Instant::now();
    assert!(silent.is_over() && quiet.is_over());
    assert!(began.elapsed() < Duration::from_secs(10));
    let mut old = stage.client();
    assert!(!old.ask(get("/")).closes());
    thread::sleep(Duration::from_millis(150));
    assert!(old.ask(get("/")).closes() && old.is_over());
    stage.is_quiet();
}

#[test]
fn a_client_that_takes_its_time_gets_all_of_a_last_answer() {
    needs_io_uring!();
    // More than the kernel holds.
    const LENGTH: usize = 16 << 20;
    let stage = Stage::serving(http::proxy(responding(&vec![b'x'; LENGTH])));
    let mut client = stage.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    // Longer than the proxy waits for a client to close.
    thread::sleep(Duration::from_secs(3));
    let head = client.head().unwrap();
    assert!(head.contains("Connection: close"));
    assert_eq!(client.rest().len(), LENGTH);
    stage.counted(CodeClass::Success, ResponseFlag::None, 1);
    // One that ends its own direction after the answer has begun, too.
    let mut client = stage.client();
    client.send(get("/"));
    client.head().unwrap();
    client.finish();
    thread::sleep(Duration::from_millis(100));
    assert_eq!(client.rest().len(), LENGTH);
    stage.is_quiet();
}

#[test]
fn bytes_are_counted_on_both_sides() {
    needs_io_uring!();
    let origin = Origin::answering(ok("answer"));
    let stage = Stage::to(origin.address);
    let mut client = stage.client();
    let request =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    for _ in 0..3 {
        client.ask(request);
    }
    drop(client);
    stage.is_quiet();
    let registry = stage.proxy.registry();
    let (listener, cluster) = (registry.listener("web", 0), registry.cluster("origin", 0));
    assert_eq!(listener.received_bytes.value(), 3 * request.len() as u64);
    assert_eq!(listener.sent_bytes.value(), 3 * ok("answer").len() as u64);
    assert_eq!(cluster.received_bytes.value(), 3 * ok("answer").len() as u64);
    assert_eq!(cluster.sent_bytes.value(), origin.all_seen().len() as u64);
}

#[test]
fn routes_answer_and_redirect() {
    needs_io_uring!();
    let origin = Origin::echo();
    let mut rewritten = route("/old", "origin");
    rewritten.route.rewrite.path = Some(http::route::PathChange::prefix("/new"));
    rewritten.route.rewrite.host = Some("b.example".to_owned());
    let table = routes(vec![rewritten], [cluster("origin", origin.address)]);
    let stage = Stage::serving(http::proxy(table));
    assert_eq!(stage.ask(get("/old/x?y")).text(), "/new/x?y");
    assert!(origin.all_seen().contains("Host: b.example\r\n"));
    let lost = stage.ask(get("/nowhere"));
    assert_eq!(lost.status(), 404);
    assert!(lost.text().starts_with("404 Not Found: route_not_found\nrequest id: "));
    stage.counted(CodeClass::ClientError, ResponseFlag::NoRoute, 1);
}

#[test]
fn a_client_that_leaves_a_silent_stream_is_noticed() {
    needs_io_uring!();
    let origin = Origin::new(|wire, _| {
        wire.request();
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevent\r\n");
        // Ends with the proxy's connection.
        wire.rest();
    });
    let stage = Stage::to(origin.address);
    let mut client = stage.client();
    client.send(get("/events"));
    client.until("event\r\n").unwrap();
    drop(client);
    stage.counted(CodeClass::Success, ResponseFlag::DownstreamConnectionTermination, 1);
    stage.is_quiet();
    let pool = &stage.proxy.registry().http_cluster("origin", 0).pool;
    eventually("the origin's connection is given up", || {
        let states = [PoolState::Active, PoolState::Idle, PoolState::Connecting];
        states.iter().all(|state| pool.value(*state) == 0)
    });
}
