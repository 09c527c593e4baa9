//! What an idle connection of an HTTP client costs in user space.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use crate::process::{Does, RelayProcess, possible, raise_file_limit};

/// Bytes.
const BUDGET: u64 = 2048;
/// So many are busy at a time: what they hold then is used again by the next ones.
const BATCH: usize = 100;
const BATCHES: usize = 10;
/// Longer than a connection without a request keeps its working memory.
const UNTIL_QUIET: Duration = Duration::from_millis(1300);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Answers whatever arrives.
fn serve(relay: &RelayProcess) {
    let upstream = relay.upstream.try_clone().unwrap();
    thread::spawn(move || {
        for mut stream in upstream.incoming().flatten() {
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).is_ok_and(|length| length > 0) {
                    stream.write_all(ANSWER).unwrap();
                }
            });
        }
    });
}

/// Connections each of which has had an answer.
fn open(relay: &RelayProcess, connections: usize) -> Vec<TcpStream> {
    let open_one = |_| {
        let mut client = TcpStream::connect(relay.address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.write_all(REQUEST).unwrap();
        let mut answer = vec![0; ANSWER.len()];
        client.read_exact(&mut answer).unwrap();
        client
    };
    (0..connections).map(open_one).collect()
}

#[test]
fn an_idle_http_connection_costs_little_memory() {
    if !possible(None) {
        return;
    }
    raise_file_limit();
    let relay = RelayProcess::start_as(Does::Http, 2);
    serve(&relay);
    let open_batch = |_| {
        let clients = open(&relay, BATCH);
        thread::sleep(UNTIL_QUIET);
        clients
    };
    // What is paid once.
    let first: Vec<_> = (0..2).map(open_batch).collect();
    let before = relay.anonymous_memory();
    let idle: Vec<_> = (0..BATCHES).map(open_batch).collect();
    let grown = relay.anonymous_memory().saturating_sub(before);
    let each = grown / (BATCH * BATCHES) as u64;
    assert!(each > 0, "so many connections cannot cost nothing");
    assert!(each <= BUDGET, "an idle HTTP connection costs {each} bytes of at most {BUDGET}");
    println!("an idle HTTP connection costs {each} bytes");
    drop((first, idle));
}
