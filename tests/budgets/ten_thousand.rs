//! Ten thousand connections, opened at once and held: by a process of its own, as this one's other
//! tests need files as well.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    ops::Range,
    thread,
    time::Duration,
};

use crate::{
    alone::{is_alone, run_alone},
    process::{RelayProcess, raise_file_limit},
};

const CONNECTIONS: u32 = 10_000;
/// Threads that connect as fast as they can.
const CLIENTS: u32 = 16;
/// Open files that are not connections: of the relay's rings and sockets, and of this process.
const RESERVE: u64 = 64;

/// As many connections as the limit of open files suffices for, both ends of each. Says so where
/// they are fewer than they should be.
fn affordable() -> u32 {
    let limit = raise_file_limit();
    let suffices = u32::try_from(limit.saturating_sub(RESERVE) / 2).unwrap_or(u32::MAX);
    if suffices < CONNECTIONS {
        let needed = u64::from(CONNECTIONS) * 2 + RESERVE;
        let hint = format!(
            "{suffices} connections instead of {CONNECTIONS}, as RLIMIT_NOFILE is {limit}; raise it \
             to {needed}\n"
        );
        // Not eprintln!, which the test runner would keep to itself.
        std::io::stderr().write_all(hint.as_bytes()).unwrap();
    }
    // Each client thread has as many as the others.
    suffices.min(CONNECTIONS) / CLIENTS * CLIENTS
}

/// Connects and sends a number over each connection, without waiting for an answer.
fn connect(address: SocketAddr, numbers: Range<u32>) -> Vec<(u32, TcpStream)> {
    let connect_one = |number: u32| {
        let mut stream = patient(TcpStream::connect(address).unwrap());
        stream.write_all(&number.to_be_bytes()).unwrap();
        (number, stream)
    };
    numbers.map(connect_one).collect()
}

fn accept(upstream: &TcpListener, connections: u32) -> Vec<TcpStream> {
    (0..connections).map(|_| patient(upstream.accept().unwrap().0)).collect()
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

fn read_number(mut stream: &TcpStream) -> u32 {
    let mut number = [0; 4];
    stream.read_exact(&mut number).unwrap();
    u32::from_be_bytes(number)
}

#[test]
fn ten_thousand_connections_at_once_are_served_and_held() {
    let connections = affordable();
    if !is_alone() {
        return run_alone("ten_thousand::ten_thousand_connections_at_once_are_served_and_held");
    }
    assert!(connections > 0, "RLIMIT_NOFILE leaves no file for a connection");
    let relay = RelayProcess::start(2);
    let (address, each) = (relay.address, connections / CLIENTS);
    let (clients, origins) = thread::scope(|scope| {
        let connecting: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || connect(address, client * each..(client + 1) * each)))
            .collect();
        let origins = accept(&relay.upstream, connections);
        let clients = connecting.into_iter().flat_map(|thread| thread.join().unwrap());
        (clients.collect::<Vec<_>>(), origins)
    });
    // All of them are open now. Each number has come to one origin, which sends back the next.
    let answer = |mut origin: &TcpStream| {
        let number = read_number(origin);
        origin.write_all(&(number + 1).to_be_bytes()).unwrap();
        number
    };
    let mut numbers: Vec<u32> = origins.iter().map(answer).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..connections), "a number was lost, or came twice");
    for (number, client) in &clients {
        assert_eq!(read_number(client), number + 1, "the answer came to another client");
    }
}
