//! The origin behind the relays: it answers each order with as many bytes as it asks for.
//!
//! One thread, one ring, for as long as the process lives; as cheap as it can be, since it shares
//! its CPU with the load generator. It owns its connections and looks at nothing but the orders.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};

use socket2::{SockRef, Socket};

use crate::message::{Assembler, Order};
use crate::ring::{Event, Kernel, Received, Ring, Shape};

/// Sent over and over. Small enough to stay in a CPU's cache.
static BODY: [u8; 1 << 20] = [0; 1 << 20];

/// Starts an origin on a port of its own, on the CPUs of the calling thread.
///
/// # Errors
/// No listener or no thread could be made. Without a ring the thread ends with a line on stderr.
pub(crate) fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    // A second listen(2) deepens the backlog: idle connections come by the thousand.
    SockRef::from(&listener).listen(4096)?;
    let address = listener.local_addr()?;
    std::thread::Builder::new().name("origin".into()).spawn(move || {
        if let Err(error) = serve(&listener, address) {
            eprintln!("relay bench: the origin stopped: {error}");
        }
    })?;
    Ok(address)
}

fn serve(listener: &TcpListener, address: SocketAddr) -> io::Result<()> {
    let mut kernel = Kernel::new(Shape { buffers: 1024, buffer_len: 256, peer: address })?;
    let mut ring = kernel.ring()?;
    ring.accept(listener.as_fd());
    let mut origin = Origin { ring, connections: Vec::new(), vacant: Vec::new() };
    loop {
        origin.ring.turn()?;
        while let Some(event) = origin.ring.next() {
            match event {
                Event::Accepted { socket, more } => {
                    if !more {
                        origin.ring.accept(listener.as_fd());
                    }
                    origin.open(socket?);
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
    connections: Vec<Option<Connection>>,
    vacant: Vec<usize>,
}

struct Connection {
    socket: Socket,
    request: Assembler,
    /// Bytes of the response that are still to be sent.
    remaining: u64,
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
            request: Assembler::new(),
            remaining: 0,
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
                    Ok(Some(Order { response_len, last })) => {
                        (connection.remaining, connection.last) = (response_len, last);
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
        connection.remaining -= u64::from(*result.as_ref().unwrap_or(&0));
        if result.is_err() || connection.ended {
            self.end(slot);
        } else if connection.remaining > 0 {
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
            self.vacant.push(slot);
        }
    }
}

impl Connection {
    fn respond(&mut self, ring: &mut Ring<'_>, slot: usize) {
        let len = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(BODY.len());
        self.in_flight += 1;
        ring.send_static(self.socket.as_fd(), &BODY[..len], slot as u64);
    }
}
