//! The origin behind the proxies: it answers an order with as many bytes as it asks for, and an
//! HTTP request with a short body.
//!
//! One thread, one ring, for as long as the process lives; as cheap as it can be, since it shares
//! its CPU with the load generator. Of an HTTP connection it reads the first request: a proxy that
//! does not add what all of them must add ([`REQUIRED_FIELDS`]) gets a 500, and its run fails.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};

use socket2::{SockRef, Socket};

use crate::message::{Assembler, Order};
use crate::ring::{Event, Kernel, Received, Ring, Shape};

/// Sent over and over. Small enough to stay in a CPU's cache.
static BODY: [u8; 1 << 20] = [0; 1 << 20];

/// What every HTTP proxy tells the origin, so that all of them do the same work.
const REQUIRED_FIELDS: [&[u8]; 3] = [b"x-forwarded-for:", b"x-forwarded-proto:", b"x-request-id:"];
static HTTP_RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: origin\r\n\
    Date: Tue, 24 Nov 2026 12:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 24\r\n\r\n\
    aaaaaaaaaaaaaaaaaaaaaaaa";
static FIELDS_MISSING: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 44\r\n\r\n\
    X-Forwarded-For, -Proto or X-Request-Id gone";
const HEAD_LIMIT: usize = 16 << 10;

/// What the origin speaks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Speech {
    Orders,
    Http,
}

/// Starts an origin on a port of its own, on the CPUs of the calling thread.
///
/// # Errors
/// No listener or no thread could be made. Without a ring the thread ends with a line on stderr.
pub(crate) fn start(speech: Speech) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    // A second listen(2) deepens the backlog: idle connections come by the thousand.
    SockRef::from(&listener).listen(4096)?;
    let address = listener.local_addr()?;
    std::thread::Builder::new().name("origin".into()).spawn(move || {
        if let Err(error) = serve(&listener, address, speech) {
            eprintln!("peers: the origin stopped: {error}");
        }
    })?;
    Ok(address)
}

fn serve(listener: &TcpListener, address: SocketAddr, speech: Speech) -> io::Result<()> {
    let mut kernel = Kernel::new(Shape { buffers: 1024, buffer_len: 1024, peer: address })?;
    let mut ring = kernel.ring()?;
    ring.accept(listener.as_fd());
    let mut origin =
        Origin { ring, speech, connections: Vec::new(), vacant: Vec::new(), has_room: true };
    let mut accepting = true;
    loop {
        if !accepting && origin.has_room {
            origin.ring.accept(listener.as_fd());
            accepting = true;
        }
        origin.ring.turn()?;
        while let Some(event) = origin.ring.next() {
            match event {
                Event::Accepted { socket, more } => {
                    accepting = more;
                    match socket {
                        Ok(socket) => origin.open(socket),
                        // Out of descriptors: until one is closed.
                        Err(error) => {
                            origin.has_room = error.kind() == io::ErrorKind::ConnectionAborted;
                        }
                    }
                }
                Event::Received { token, received, more } => {
                    origin.on_received(token as usize, received, more);
                }
                Event::Sent { token, result } => origin.on_sent(token as usize, result),
                Event::Connected { .. } | Event::Elapsed | Event::InputClosed => {}
            }
        }
    }
}

struct Origin<'k> {
    ring: Ring<'k>,
    speech: Speech,
    connections: Vec<Option<Connection>>,
    vacant: Vec<usize>,
    /// Whether one more connection may be open, as far as is known.
    has_room: bool,
}

struct Connection {
    socket: Socket,
    request: Request,
    /// Of the response.
    unsent: Unsent,
    last: bool,
    in_flight: u32,
    ended: bool,
}

impl Origin<'_> {
    fn open(&mut self, socket: OwnedFd) {
        let socket = Socket::from(socket);
        let _ = socket.set_tcp_nodelay(true);
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        self.ring.receive(socket.as_fd(), slot as u64);
        self.connections[slot] = Some(Connection {
            socket,
            request: match self.speech {
                Speech::Orders => Request::Order(Assembler::new()),
                Speech::Http => Request::Http { head: Vec::new(), response: None },
            },
            unsent: Unsent::Zeros(0),
            last: false,
            in_flight: 1,
            ended: false,
        });
    }

    fn on_received(&mut self, slot: usize, received: Received, more: bool) {
        let Some(connection) = &mut self.connections[slot] else { return };
        let mut still_open = true;
        match received {
            Received::Bytes(chunk) => {
                match connection.request.feed(self.ring.bytes(&chunk)) {
                    Ok(Some((response, last))) => {
                        (connection.unsent, connection.last) = (response, last);
                        connection.respond(&mut self.ring, slot);
                    }
                    Ok(None) => {}
                    Err(_) => still_open = false,
                }
                self.ring.release(chunk);
            }
            // A buffer is held only while it is read: some are free by the next turn.
            Received::Starved => {}
            Received::End | Received::Failed(_) => still_open = false,
        }
        if !more {
            connection.in_flight -= 1;
            if still_open {
                connection.in_flight += 1;
                self.ring.receive(connection.socket.as_fd(), slot as u64);
            }
        }
        if !still_open {
            self.end(slot);
        }
    }

    fn on_sent(&mut self, slot: usize, result: io::Result<u32>) {
        let Some(connection) = &mut self.connections[slot] else { return };
        connection.in_flight -= 1;
        connection.unsent.advance(*result.as_ref().unwrap_or(&0));
        if result.is_err() || connection.ended {
            self.end(slot);
        } else if !connection.unsent.is_empty() {
            connection.respond(&mut self.ring, slot);
        } else if connection.last {
            let _ = connection.socket.shutdown(Shutdown::Write);
        }
    }

    fn end(&mut self, slot: usize) {
        let Some(connection) = &mut self.connections[slot] else { return };
        if !connection.ended && connection.in_flight > 0 {
            self.ring.cancel(connection.socket.as_fd());
        }
        connection.ended = true;
        if connection.in_flight == 0
            && let Some(connection) = self.connections[slot].take()
        {
            self.ring.close(connection.socket);
            self.has_room = true;
            self.vacant.push(slot);
        }
    }
}

impl Connection {
    fn respond(&mut self, ring: &mut Ring<'_>, slot: usize) {
        let bytes = match self.unsent {
            Unsent::Zeros(len) => {
                &BODY[..usize::try_from(len).map_or(BODY.len(), |len| len.min(BODY.len()))]
            }
            Unsent::Bytes(bytes) => bytes,
        };
        self.in_flight += 1;
        ring.send_static(self.socket.as_fd(), bytes, slot as u64);
    }
}

/// What is still to be sent of a response.
#[derive(Clone, Copy)]
enum Unsent {
    /// So many bytes of no meaning.
    Zeros(u64),
    Bytes(&'static [u8]),
}

impl Unsent {
    fn advance(&mut self, sent: u32) {
        match self {
            Self::Zeros(len) => *len -= u64::from(sent),
            Self::Bytes(bytes) => *bytes = &bytes[sent as usize..],
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Zeros(0) | Self::Bytes([]))
    }
}

/// A request, in however many pieces it arrives.
enum Request {
    Order(Assembler),
    Http {
        /// Of a head in pieces; empty as long as heads come whole.
        head: Vec<u8>,
        /// The same for all requests of a connection, decided at the first.
        response: Option<&'static [u8]>,
    },
}

/// More bytes than a request has.
struct Refused;

impl Request {
    /// The response to it and whether that is the last, once the request is whole.
    fn feed(&mut self, bytes: &[u8]) -> Result<Option<(Unsent, bool)>, Refused> {
        match self {
            Self::Order(assembler) => {
                let order = assembler.feed(bytes).map_err(|_| Refused)?;
                Ok(order.map(|Order { response_len, last }| (Unsent::Zeros(response_len), last)))
            }
            Self::Http { head, response } => {
                // No body and one request at a time: the blank line ends what was received.
                let whole = if head.is_empty() && bytes.ends_with(b"\r\n\r\n") {
                    bytes
                } else {
                    head.extend_from_slice(bytes);
                    head.as_slice()
                };
                if whole.len() > HEAD_LIMIT {
                    return Err(Refused);
                }
                if !whole.ends_with(b"\r\n\r\n") {
                    return Ok(None);
                }
                let response = *response.get_or_insert_with(|| response_to(whole));
                head.clear();
                Ok(Some((Unsent::Bytes(response), false)))
            }
        }
    }
}

fn response_to(head: &[u8]) -> &'static [u8] {
    let head = head.to_ascii_lowercase();
    let has = |field: &[u8]| head.windows(field.len()).any(|window| window == field);
    if REQUIRED_FIELDS.into_iter().all(has) { HTTP_RESPONSE } else { FIELDS_MISSING }
}
