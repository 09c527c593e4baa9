//! Clients that send nothing, too little, or RST at any moment.

use std::{
    io::{Read, Write},
    net::Shutdown,
    thread,
    time::Duration,
};

use evenkeel::telemetry::CloseReason;
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::stage::{
    NAME, assert_quiet, builder, client, echo_origin, exchange, listen, loads, reset, start, to,
};

#[test]
fn a_port_scan_leaves_nothing_behind() {
    let (proxy, address) = start(2, to(&[echo_origin()]));
    for _ in 0..500 {
        drop(client(address));
    }
    assert_quiet(&proxy);
    proxy.ready().unwrap();
    exchange(&mut client(address), b"still serving");
}

#[test]
fn resets_at_any_moment_leave_nothing_behind() {
    let (proxy, address) = start(2, to(&[echo_origin()]));
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    for _ in 0..200 {
        let mut client = client(address);
        let length = random.next_u32() % 20_000;
        client.write_all(&vec![0x16; length as usize]).unwrap();
        if random.next_u32().is_multiple_of(4) {
            client.shutdown(Shutdown::Write).unwrap();
        }
        thread::sleep(Duration::from_micros(u64::from(random.next_u32() % 2_000)));
        reset(client);
    }
    assert_quiet(&proxy);
    proxy.ready().unwrap();
    exchange(&mut client(address), b"still serving");
}

#[test]
fn a_broken_proxy_header_is_refused() {
    let listener = listen().proxy_protocol().serve(to(&[echo_origin()]));
    let proxy = builder().shards(1).listener(listener).start().unwrap();
    let address = proxy.local_addr(NAME).unwrap();
    let mut waiting = client(address);
    waiting.write_all(b"PROXY TCP4 192.0.2.1 ").unwrap();
    let broken: [&[u8]; 3] =
        [b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP4 1.2.3\r\n", b"\r\n\r\n\0\r\nQUIT\nxxxx"];
    for header in broken {
        let mut client = client(address);
        client.write_all(header).unwrap();
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)), "closed: {header:?}");
    }
    let mut half = client(address);
    half.write_all(b"PROXY TCP").unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    assert!(matches!(half.read(&mut [0]), Ok(0) | Err(_)), "closed");
    let closed = &proxy.registry().listener(NAME, 0).closed;
    super::stage::eventually("four are closed", || closed.value(CloseReason::Protocol) == 4);

    assert_eq!(loads(&proxy), [1], "the one that has time left");
    waiting.write_all(b"192.0.2.2 1 2\r\nhello").unwrap();
    let mut echo = [0; 5];
    waiting.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"hello");
    drop(waiting);
    assert_quiet(&proxy);
    proxy.ready().unwrap();
}
