//! One end of a connection, on a blocking socket of either transport: what arrives is kept byte for byte, and read as
//! HTTP/1.1 by a reader that knows nothing of the library's.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::transport::{self, Socket};

/// A busy machine is no failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// All bytes that have arrived on a connection.
pub(crate) type Seen = Arc<Mutex<Vec<u8>>>;

pub(crate) struct Wire {
    pub(crate) stream: Socket,
    unread: Vec<u8>,
    seen: Seen,
}

/// A message as it was read.
#[derive(Debug, Default)]
pub(crate) struct Message {
    /// With the empty line.
    pub(crate) head: String,
    /// Decoded.
    pub(crate) body: Vec<u8>,
    /// The lines of the trailers.
    pub(crate) trailers: String,
}

impl Message {
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or("")
    }

    /// The value of the first field of this name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn closes(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

pub(crate) fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let named = |line: &'h str| {
        let (known, value) = line.split_once(':')?;
        known.eq_ignore_ascii_case(name).then(|| value.trim())
    };
    head.lines().skip(1).find_map(named)
}

impl Wire {
    pub(crate) fn connect(address: SocketAddr) -> Wire {
        Wire::new(transport::connect(address), Arc::default())
    }

    pub(crate) fn new(stream: Socket, seen: Seen) -> Wire {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Wire { stream, unread: Vec::new(), seen }
    }

    /// Sends bytes. Where the peer takes no more, it shows when something is read.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    pub(crate) fn finish(&mut self) {
        transport::finish(&mut self.stream);
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        transport::reset(self.stream);
    }

    /// Receives once. 0 at the end, be it an orderly one or not.
    fn fill(&mut self) -> usize {
        let mut buffer = [0; 64 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(length) => {
                    self.unread.extend_from_slice(&buffer[..length]);
                    self.seen.lock().unwrap().extend_from_slice(&buffer[..length]);
                    return length;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    panic!("nothing arrives; unread: {:?}", String::from_utf8_lossy(&self.unread))
                }
                Err(_) => return 0,
            }
        }
    }

    /// The bytes up to and with `end`; none if the stream ends before.
    pub(crate) fn until(&mut self, end: &str) -> Option<String> {
        let mut searched = 0;
        loop {
            let found =
                self.unread[searched..].windows(end.len()).position(|w| w == end.as_bytes());
            if let Some(at) = found {
                let taken: Vec<u8> = self.unread.drain(..searched + at + end.len()).collect();
                // Every byte is one character, so that values in no encoding can be compared.
                return Some(taken.into_iter().map(char::from).collect());
            }
            searched = self.unread.len().saturating_sub(end.len());
            if self.fill() == 0 {
                return None;
            }
        }
    }

    pub(crate) fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.unread.len() < length {
            if self.fill() == 0 {
                return None;
            }
        }
        Some(self.unread.drain(..length).collect())
    }

    /// All that comes before the end of the stream.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.fill() > 0 {}
        std::mem::take(&mut self.unread)
    }

    /// Whether the peer has ended the connection and sent nothing more.
    pub(crate) fn is_over(&mut self) -> bool {
        self.rest().is_empty()
    }

    pub(crate) fn head(&mut self) -> Option<String> {
        self.until("\r\n\r\n")
    }

    fn chunked(&mut self) -> Option<(Vec<u8>, String)> {
        let mut body = Vec::new();
        loop {
            let line = self.until("\r\n")?;
            let size = usize::from_str_radix(line.trim_end(), 16).expect("a canonical size");
            if size == 0 {
                break;
            }
            body.extend(self.exactly(size)?);
            assert_eq!(self.exactly(2)?, b"\r\n");
        }
        let mut trailers = String::new();
        loop {
            let line = self.until("\r\n")?;
            if line == "\r\n" {
                return Some((body, trailers));
            }
            trailers.push_str(&line);
        }
    }

    fn body(&mut self, head: &str) -> Option<Message> {
        let (body, trailers) = if field(head, "transfer-encoding") == Some("chunked") {
            self.chunked()?
        } else {
            let length = field(head, "content-length").map_or(0, |length| length.parse().unwrap());
            (self.exactly(length)?, String::new())
        };
        Some(Message { head: head.to_owned(), body, trailers })
    }

    /// A request, as an origin reads it; none at the end of the stream.
    pub(crate) fn request(&mut self) -> Option<Message> {
        let head = self.head()?;
        self.body(&head)
    }

    /// The answer to a request with this method, as a client reads it.
    pub(crate) fn answer_to(&mut self, method: &str) -> Option<Message> {
        let head = self.head()?;
        let message = Message { head, ..Message::default() };
        let status = message.status();
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Some(message);
        }
        let framed = ["content-length", "transfer-encoding"];
        if framed.iter().all(|name| message.field(name).is_none()) {
            return Some(Message { body: self.rest(), ..message });
        }
        self.body(&message.head)
    }

    /// The answer to a request other than HEAD.
    pub(crate) fn answer(&mut self) -> Message {
        self.answer_to("GET").expect("an answer")
    }

    /// Sends a request and reads its answer.
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>) -> Message {
        self.send(request);
        self.answer()
    }
}
