//! The origin of the demonstration: answers every HTTP request with the same few bytes.
//!
//! In: requests without a body. Out: an answer each. It has a plain blocking thread a connection, so
//! that nothing of it runs on the shards that are shown.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

/// What the clients send.
pub(super) const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: origin\r\n\r\n";
/// What they are answered by the origin.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";
/// How every answer ends, whatever proxies have done to its head.
pub(super) const END_OF_ANSWER: &[u8] = b"\r\n\r\nhello\n";

const MAX_HEAD: usize = 16 << 10;

/// Starts it on a free port of loopback, for as long as the process lives.
pub(super) fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    named("origin").spawn(move || accept(&listener))?;
    Ok(address)
}

fn accept(listener: &TcpListener) {
    for stream in listener.incoming() {
        let answered = stream
            .and_then(|stream| named("origin-connection").spawn(move || answer(stream)).map(drop));
        if answered.is_err() {
            // Out of descriptors or threads, most likely; asking again at once would only spin.
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Answers until the client ends the connection or sends something else than requests.
fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while head.len() < MAX_HEAD {
        let received = stream.read(&mut buffer)?;
        if received == 0 {
            break;
        }
        head.extend_from_slice(&buffer[..received]);
        while let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            stream.write_all(ANSWER)?;
            head.drain(..end + 4);
        }
    }
    Ok(())
}

fn named(name: &str) -> thread::Builder {
    thread::Builder::new().name(name.to_owned())
}
