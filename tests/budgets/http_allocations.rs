//! What a request through the HTTP proxy allocates once its connection is warm: nothing.
//!
//! Every thread of the proxy's process counts: the shard, the acceptor, and the log's.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use crate::process::{Does, RelayProcess, possible};

const REQUEST: &[u8] = b"GET /reviews/7?full=1 HTTP/1.1\r\nHost: reviews:9080\r\n\
    User-Agent: allocations/1\r\nAccept: */*\r\n\r\n";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 24\r\n\r\n{\"stars\": 5, \"id\": 7777}";
const POST: &[u8] =
    b"POST /reviews HTTP/1.1\r\nHost: reviews:9080\r\nTransfer-Encoding: chunked\r\n\r\n\
    5\r\nhello\r\n0\r\n\r\n";
/// After so many every part of the proxy has what it keeps.
const WARM: usize = 2000;
const REQUESTS: usize = 500;
const ROUNDS: usize = 8;

/// Answers each request with the same, on one connection after the other.
fn serve(relay: &RelayProcess) {
    let upstream = relay.upstream.try_clone().unwrap();
    thread::spawn(move || {
        for mut stream in upstream.incoming().flatten() {
            stream.set_nodelay(true).unwrap();
            let (mut buffer, mut unread) = ([0; 4096], Vec::new());
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                unread.extend_from_slice(&buffer[..length]);
                // A request ends with an empty line, be it that of its head or of its last chunk.
                let is_chunked = unread.starts_with(b"POST");
                let end: &[u8] = if is_chunked { b"0\r\n\r\n" } else { b"\r\n\r\n" };
                if unread.ends_with(end) {
                    unread.clear();
                    stream.write_all(ANSWER).unwrap();
                }
            }
        }
    });
}

fn ask(client: &mut TcpStream, request: &[u8], times: usize) {
    let mut answer = [0; ANSWER.len()];
    for _ in 0..times {
        client.write_all(request).unwrap();
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer, *ANSWER);
    }
}

fn requests_allocate_nothing(does: Does, request: &[u8]) {
    if !possible(None) {
        return;
    }
    let mut relay = RelayProcess::start_as(does, 1);
    serve(&relay);
    let mut client = TcpStream::connect(relay.address).unwrap();
    client.set_nodelay(true).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    ask(&mut client, request, WARM);
    relay.allocations();
    let before = relay.allocations();
    let of_asking = relay.allocations() - before;
    // The machine may be so busy that the connection seems quiet, or that a buffer of the log's has to
    // grow: not in every round.
    let fewest = (0..ROUNDS).map(|_| {
        let before = relay.allocations();
        ask(&mut client, request, REQUESTS);
        relay.allocations() - before - of_asking
    });
    assert_eq!(fewest.min(), Some(0), "allocations of {REQUESTS} requests");
}

#[test]
fn requests_on_a_kept_connection_allocate_nothing() {
    requests_allocate_nothing(Does::Http, REQUEST);
}

#[test]
fn requests_with_a_body_allocate_nothing() {
    requests_allocate_nothing(Does::Http, POST);
}

#[test]
fn requests_that_are_logged_allocate_nothing() {
    requests_allocate_nothing(Does::LoggedHttp, REQUEST);
}
