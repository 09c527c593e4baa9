//! Upgrades: a tunnel only after a 101 that was asked for, then bytes both ways.

use std::time::Duration;

use evenkeel::{
    http::{self, Routes},
    telemetry::{CloseReason, CodeClass, ResponseFlag},
};

use crate::{
    stage::{Origin, Stage, cluster, eventually, get, ok},
    wire::Wire,
};

const ASKS: &str =
    "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n";
const SWITCHES: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// Echoes what comes behind the head.
fn chat(wire: &mut Wire) {
    while let Some(byte) = wire.exactly(1) {
        wire.send(byte);
    }
    wire.finish();
}

#[test]
fn bytes_go_both_ways_after_a_101_also_those_that_came_early() {
    needs_io_uring!();
    let origin = Origin::new(|wire, _| {
        assert!(wire.head().unwrap().contains("Upgrade: WebSocket\r\n"));
        std::thread::sleep(Duration::from_millis(30));
        // Its own first bytes come along with the head.
        wire.send(format!("{SWITCHES}welcome "));
        chat(wire);
    });
    let stage = Stage::to(origin.address);
    let mut client = stage.client();
    client.send(ASKS);
    client.send("early ");
    let answer = client.answer();
    assert_eq!((answer.status(), answer.field("upgrade")), (101, Some("websocket")));
    assert_eq!(answer.field("connection"), Some("upgrade"));
    assert_eq!(client.exactly(14).unwrap(), b"welcome early ");
    // What looks like a request is none.
    let request = get("/");
    client.send(&request);
    assert_eq!(client.exactly(request.len()).unwrap(), request.as_bytes());
    client.finish();
    assert!(client.is_over());
    stage.counted(CodeClass::Informational, ResponseFlag::None, 1);
    stage.is_quiet();
}

#[test]
fn a_tunnel_ends_by_its_own_timeouts() {
    let origin = Origin::new(|wire, _| {
        wire.head();
        wire.send(SWITCHES);
        wire.exactly(4);
        // Neither sends nor ends anything any more.
        std::thread::sleep(Duration::from_secs(10));
    });
    let mut timeouts = http::Timeouts::default();
    timeouts.tunnel.idle = Some(Duration::from_millis(400));
    timeouts.tunnel.half_close = Some(Duration::from_millis(100));
    let routes = Routes::to(cluster("origin", origin.address));
    let stage = Stage::serving(http::proxy(routes).timeouts(timeouts));
    let closed = |reason| stage.proxy.registry().listener("web", 0).closed.value(reason);
    for (ends, reason) in [(false, CloseReason::IdleTimeout), (true, CloseReason::HalfCloseTimeout)]
    {
        let mut client = stage.client();
        assert_eq!(client.ask(ASKS).status(), 101);
        client.send("ping");
        if ends {
            client.finish();
        }
        assert!(client.is_over());
        eventually("it is counted", || closed(reason) == 1);
    }
    stage.is_quiet();
}

#[test]
fn early_bytes_are_the_next_request_if_the_origin_does_not_switch() {
    needs_io_uring!();
    let origin = Origin::new(|wire, _| {
        while let Some(request) = wire.request() {
            wire.send(ok(request.target()));
        }
    });
    let stage = Stage::to(origin.address);
    let mut client = stage.client();
    client.send([ASKS, &get("/next")].concat());
    assert_eq!(client.answer().text(), "/chat");
    assert_eq!(client.answer().text(), "/next");
    let seen = origin.all_seen();
    assert_eq!(seen.matches("X-Request-Id").count(), 2, "both were read as requests: {seen}");
    drop(client);
    stage.is_quiet();
}

#[test]
fn a_200_with_upgrade_is_no_upgrade() {
    needs_io_uring!();
    let answer = "HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nno";
    let origin = Origin::answering(answer);
    let stage = Stage::to(origin.address);
    let mut client = stage.client();
    let answer = client.ask(ASKS);
    assert_eq!((answer.status(), answer.text(), answer.field("upgrade")), (200, "no", None));
    assert_eq!(client.ask(get("/")).text(), "no", "still HTTP");
}

#[test]
fn another_protocol_than_was_asked_for_is_502() {
    needs_io_uring!();
    let origin = Origin::answering(SWITCHES.replace("websocket", "other"));
    let stage = Stage::to(origin.address);
    assert_eq!(stage.ask(ASKS).status(), 502);
    // Nor may a client that asks for two be given one that nobody looked at.
    let two = ASKS.replace("WebSocket", "websocket, h2c");
    assert_eq!(stage.ask(two).status(), 502);
    stage.counted(CodeClass::ServerError, ResponseFlag::UpstreamProtocolError, 2);
}
