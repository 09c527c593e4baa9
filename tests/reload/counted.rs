//! Each connection counts once: as served, or as rejected.

use std::{io::Write, net::TcpStream, time::Duration};

use evenkeel::{
    Connection, Proxy, Relay,
    shard::Shard,
    telemetry::{CloseReason, RejectReason},
};

use crate::stage::{address, eventually, listener, loads, origin, relay, two_shards, visit};

/// What a listener has counted: served, closed, rejected.
fn counts(proxy: &Proxy, listener: &str) -> [u64; 3] {
    let mut sums = [0; 3];
    for shard in 0..proxy.shards().len() {
        let cells = proxy.registry().listener(listener, shard);
        let accepts = proxy.registry().accept(listener, shard);
        let rejected = |reason| cells.rejected.value(reason) + accepts.rejected.value(reason);
        sums[0] += cells.connections.value();
        sums[1] += CLOSED.iter().map(|reason| cells.closed.value(*reason)).sum::<u64>();
        sums[2] += REJECTED.iter().map(|reason| rejected(*reason)).sum::<u64>();
        assert!(cells.active.value() >= 0);
    }
    sums
}

const CLOSED: [CloseReason; 4] = [
    CloseReason::Done,
    CloseReason::UpstreamFailed,
    CloseReason::DownstreamReset,
    CloseReason::Protocol,
];
const REJECTED: [RejectReason; 4] = [
    RejectReason::Blackhole,
    RejectReason::Loop,
    RejectReason::Missing,
    RejectReason::ListenerLimit,
];

/// Visits a listener, and waits until what it has counted is this.
fn visit_counts(proxy: &Proxy, listener: &str, expected: [u64; 3]) {
    drop(visit(address(proxy, listener)));
    eventually("nothing is open", || loads(proxy) == [0, 0]);
    let mut last = [0; 3];
    eventually(&format!("{listener} has counted {expected:?}"), || {
        last = counts(proxy, listener);
        last == expected
    });
}

/// A service that does so with each connection.
macro_rules! service {
    (|$connection:ident| $body:block) => {
        |_: &Shard| async |#[allow(unused_mut)] mut $connection: Connection| $body
    };
}

#[test]
fn what_a_service_rejects_is_not_served() {
    let builder = two_shards();
    let rejecting = service!(|connection| { connection.reject(RejectReason::Blackhole) });
    let dropping = service!(|connection| { drop(connection) });
    // To look at a connection is not to serve it.
    let looking = service!(|connection| {
        let _ = connection.peer_address();
        evenkeel::runtime::sleep(Duration::from_millis(1)).await;
        connection.reject(RejectReason::Blackhole);
    });
    // Too late: the client has an answer.
    let answering = service!(|connection| {
        let _ = connection.send(b"hello\n".to_vec()).await;
        connection.reject(RejectReason::Blackhole);
    });
    let proxy = builder
        .listener(listener("rejecting").serve(rejecting))
        .listener(listener("dropping").serve(dropping))
        .listener(listener("looking").serve(looking))
        .listener(listener("answering").serve(answering))
        .start()
        .unwrap();
    for visits in 1..=3 {
        visit_counts(&proxy, "rejecting", [0, 0, visits]);
        visit_counts(&proxy, "dropping", [visits, visits, 0]);
        visit_counts(&proxy, "looking", [0, 0, visits]);
        visit_counts(&proxy, "answering", [visits, visits, 0]);
    }
}

#[test]
fn what_the_relay_refuses_is_not_served() {
    let builder = two_shards();
    let proxy = builder.listener(listener("web").serve(relay(origin("hello")))).start().unwrap();
    visit_counts(&proxy, "web", [1, 1, 0]);
    let own = address(&proxy, "web");
    proxy.reload([listener("web").serve(relay(own))]).unwrap();
    visit_counts(&proxy, "web", [1, 1, 1]);
    // Behind an address that refuses, it is an upstream that failed.
    let nobody = crate::origin::refusing_address();
    let both = Relay::to([nobody.to_string(), own.to_string()]);
    proxy.reload([listener("web").serve(both)]).unwrap();
    visit_counts(&proxy, "web", [2, 2, 1]);
}

#[test]
fn an_open_connection_is_served_as_soon_as_the_relay_connects() {
    let builder = two_shards();
    let proxy = builder.listener(listener("web").serve(relay(origin("hello")))).start().unwrap();
    let inside = visit(address(&proxy, "web")).unwrap();
    assert_eq!(counts(&proxy, "web"), [1, 0, 0]);
    drop(inside);
    eventually("it is closed", || counts(&proxy, "web") == [1, 1, 0]);
}

#[test]
fn a_connection_without_its_proxy_header_is_served_and_closed() {
    let builder = two_shards();
    let relaying = relay(origin("hello"));
    let proxy = builder.listener(listener("web").proxy_protocol().serve(relaying)).start().unwrap();
    drop(TcpStream::connect(address(&proxy, "web")).unwrap());
    eventually("it is closed", || counts(&proxy, "web") == [1, 1, 0]);
    // The header is not the service's: behind it the connection can still be rejected.
    let rejecting = service!(|connection| { connection.reject(RejectReason::Blackhole) });
    proxy.reload([listener("web").proxy_protocol().serve(rejecting)]).unwrap();
    let mut client = TcpStream::connect(address(&proxy, "web")).unwrap();
    client.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n").unwrap();
    eventually("it is rejected", || counts(&proxy, "web") == [1, 1, 1]);
}
