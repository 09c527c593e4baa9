//! One request and its answer on a blocking socket, within deadlines.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::request::{MAX_HEAD_BYTES, Refusal, Request, parse};
use super::response::Response;

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// For sending its request, all of it.
    pub(super) request: Duration,
    /// For reading the answer, all of it.
    pub(super) response: Duration,
}

/// How a request ended that no handler sees.
#[derive(Debug)]
pub(super) enum Unserved {
    /// It is answered by this.
    Refused(Refusal),
    /// There is no one to answer.
    Gone,
}

impl From<Refusal> for Unserved {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Reads one request, which must be here at `deadline`.
pub(super) fn receive(mut stream: &TcpStream, deadline: Instant) -> Result<Request, Unserved> {
    let mut bytes = Vec::with_capacity(1024);
    let head = loop {
        if let Some(head) = parse(&bytes)? {
            break head;
        }
        let limit = MAX_HEAD_BYTES - bytes.len();
        read_some(stream, &mut bytes, limit, deadline)?;
    };
    let mut body = bytes.split_off(head.length);
    if head.expects_continue && body.is_empty() {
        // A failure shows in the next read.
        _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    while body.len() < head.body_length {
        let missing = head.body_length - body.len();
        read_some(stream, &mut body, missing, deadline)?;
    }
    // A request that is sent ahead of its turn is not answered: the connection closes after this.
    body.truncate(head.body_length);
    Ok(head.request.with_body(body))
}

/// Sends an answer, which must be taken at the end of `timeout`, and the end of the stream.
pub(super) fn send(
    mut stream: &TcpStream,
    response: &Response,
    to_head: bool,
    timeout: Duration,
) -> io::Result<()> {
    let deadline = Instant::now() + timeout;
    let message = response.encode(to_head);
    let mut rest = &message[..];
    while !rest.is_empty() {
        stream.set_write_timeout(Some(remaining(deadline)?))?;
        match stream.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    stream.shutdown(Shutdown::Write)
}

/// Reads away what the client still sends, for a moment: closing a socket that has unread bytes
/// resets it, and the client may lose the answer (RFC 9112 section 9.6).
pub(super) fn linger(mut stream: &TcpStream) {
    const LONGEST: Duration = Duration::from_millis(500);
    let deadline = Instant::now() + LONGEST;
    let mut scratch = [0; 4096];
    while let Ok(remaining) = remaining(deadline) {
        if stream.set_read_timeout(Some(remaining)).is_err() {
            return;
        }
        match stream.read(&mut scratch) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

fn read_some(
    stream: &TcpStream,
    bytes: &mut Vec<u8>,
    limit: usize,
    deadline: Instant,
) -> Result<(), Unserved> {
    let timeout = remaining(deadline).map_err(|_| Refusal::TooSlow)?;
    stream.set_read_timeout(Some(timeout)).map_err(|_| Unserved::Gone)?;
    let mut chunk = [0; 4096];
    let limit = limit.min(chunk.len());
    let mut stream = stream;
    match stream.read(&mut chunk[..limit]) {
        Ok(0) => Err(Unserved::Gone),
        Ok(read) => {
            bytes.extend_from_slice(&chunk[..read]);
            Ok(())
        }
        Err(error) => match error.kind() {
            io::ErrorKind::Interrupted => Ok(()),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Err(Refusal::TooSlow.into()),
            _ => Err(Unserved::Gone),
        },
    }
}

/// The time until `deadline`, never zero, which sockets take for "for ever".
fn remaining(deadline: Instant) -> io::Result<Duration> {
    match deadline.checked_duration_since(Instant::now()) {
        Some(remaining) if !remaining.is_zero() => Ok(remaining),
        _ => Err(io::ErrorKind::TimedOut.into()),
    }
}
