use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::OwnedFd,
    thread,
    time::Duration,
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
