use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    relay::{self, Timeouts, Why},
    runtime::{block_on, sleep, spawn, timeout},
};

fn pair() -> (TcpStream, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0.into())
}

#[test]
fn what_is_sent_is_received() {
    let (mut client, server) = pair();
    let echo = thread::spawn(move || {
        block_on(async {
            let mut stream = Stream::adopt(server);
            while let Some(chunk) = stream.receive().await.unwrap() {
                stream.send(chunk).await.unwrap();
            }
            stream.finish();
            stream.flush().await.unwrap();
        })
        .unwrap();
    });
    let sent: Vec<u8> = (0..200_000u32).map(|i| (i * 7 % 251) as u8).collect();
    let mut writer = client.try_clone().unwrap();
    let copy = sent.clone();
    let writer = thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    writer.join().unwrap();
    echo.join().unwrap();
    assert!(got == sent);
}

#[test]
fn a_relay_carries_bulk_and_ends() {
    let (mut client, downstream) = pair();
    let (mut origin, upstream) = pair();
    let relay = thread::spawn(move || {
        block_on(async {
            let mut downstream = Stream::adopt(downstream);
            let mut upstream = Stream::adopt(upstream);
            relay::pipe(&mut downstream, &mut upstream, &Timeouts::default(), &()).await
        })
        .unwrap()
    });
    const BULK: usize = 64 << 20;
    let origin = thread::spawn(move || {
        let mut request = Vec::new();
        origin.read_to_end(&mut request).unwrap();
        let body: Vec<u8> = (0..BULK).map(|i| (i % 249) as u8).collect();
        origin.write_all(&body).unwrap();
        request
    });
    client.write_all(b"give").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut body = Vec::new();
    client.read_to_end(&mut body).unwrap();
    assert_eq!(origin.join().unwrap(), b"give");
    assert_eq!(body.len(), BULK);
    assert!(body.iter().enumerate().all(|(i, byte)| *byte == (i % 249) as u8));
    let ended = relay.join().unwrap();
    assert_eq!((ended.why, ended.received, ended.sent), (Why::Done, 4, BULK as u64));
}

const IDLE: Duration = Duration::from_secs(1);

/// A relay from an origin that sends `length` bytes at once to the returned client, which has a small
/// receive buffer, so that what it does not read waits on this side. Gives how the relay ended, and
/// after what time.
fn relay_to_a_slow_client(
    length: usize,
) -> (TcpStream, thread::JoinHandle<(relay::Ended, Duration)>) {
    let listener =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(1).unwrap();
    let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    client.set_recv_buffer_size(32 << 10).unwrap();
    // Loopback's own segments are larger than this buffer: the sender would wait for room for one.
    client.set_tcp_mss(1400).unwrap();
    client.connect(&listener.local_addr().unwrap()).unwrap();
    let downstream: OwnedFd = listener.accept().unwrap().0.into();
    let (mut origin, upstream) = pair();
    thread::spawn(move || {
        // It fails where the relay ends early.
        let _ = origin.write_all(&vec![1; length]);
        let _ = origin.read(&mut [0]);
    });
    let relay = thread::spawn(|| {
        let started = Instant::now();
        let ended = block_on(async {
            let mut downstream = Stream::adopt(downstream);
            let mut upstream = Stream::adopt(upstream);
            let timeouts = Timeouts { idle: Some(IDLE), half_close: Some(IDLE) };
            relay::pipe(&mut downstream, &mut upstream, &timeouts, &()).await
        });
        (ended.unwrap(), started.elapsed())
    });
    (client.into(), relay)
}

#[test]
fn a_slow_reader_is_not_cut_by_the_idle_timeout() {
    const LENGTH: usize = 6 << 20;
    let (mut client, relay) = relay_to_a_slow_client(LENGTH);
    let mut buffer = vec![0; 32 << 10];
    let mut received = 0;
    while received < LENGTH {
        thread::sleep(Duration::from_millis(20));
        let read = client.read(&mut buffer).unwrap();
        assert!(read > 0, "cut after {received} bytes");
        received += read;
    }
    drop(client);
    let (ended, took) = relay.join().unwrap();
    assert_eq!((ended.why, ended.sent), (Why::Done, LENGTH as u64));
    assert!(took > 3 * IDLE, "{took:?} is not slow");
}

#[test]
fn a_reader_that_reads_nothing_is_cut_by_the_idle_timeout() {
    let (client, relay) = relay_to_a_slow_client(64 << 20);
    let (ended, took) = relay.join().unwrap();
    assert_eq!(ended.why, Why::IdleTimeout);
    assert!(took >= IDLE, "{took:?}");
    drop(client);
}

#[test]
fn dropped_futures_lose_nothing() {
    let (mut client, server) = pair();
    block_on(async move {
        let mut stream = Stream::adopt(server);
        assert!(timeout(Duration::from_millis(5), stream.receive()).await.is_err());
        client.write_all(b"late").unwrap();
        sleep(Duration::from_millis(5)).await;
        assert_eq!(&*stream.receive().await.unwrap().unwrap(), b"late");
        let joined = spawn(async { panic!("a task's own end") }).await;
        assert!(joined.is_err());
    })
    .unwrap();
}

/// The kernel reports a reset once, and a send that waits for room may be the one to get it.
#[test]
fn a_reset_is_no_end_though_a_send_waited() {
    for _ in 0..20 {
        let (client, server) = pair();
        block_on(async move {
            let mut stream = Stream::adopt(server);
            let wait = Duration::from_millis(2);
            assert!(timeout(wait, stream.receive()).await.is_err());
            stream.send(vec![1; 16 << 20]).await.unwrap();
            assert!(timeout(wait, stream.receive()).await.is_err());
            socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
            drop(client);
            let received = stream.receive().await;
            assert!(received.is_err(), "{received:?}");
        })
        .unwrap();
    }
}
