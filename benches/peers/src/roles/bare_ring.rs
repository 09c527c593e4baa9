//! The yardstick: a byte relay straight on the ring, as fast as this kernel allows.
//!
//! In: connections to the listener. Out: the same bytes on a connection to the upstream, and back.
//! One thread, one ring, one enter a turn; multishot receives into one buffer ring of 4 KiB x 1,024;
//! the received buffer itself is sent on, several in one send where they have piled up. It owns its sockets and queues; there is no executor, no
//! timer, no limit and no fairness: a peer that never reads can hold every buffer. It is a
//! measure, not a proxy.
//!
//! Of a direction only one send is in flight, as two would race for the socket. A FIN is passed on
//! once the bytes before it are sent; a failure of either socket resets both.

use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::ring::{Chunk, Event, GATHER_MAX, Kernel, Received, Ring, Shape};
use crate::work::Work;

const BUFFERS: u16 = 1024;
const BUFFER_LEN: u32 = 4096;
/// Starved receives wait for this many free buffers, lest each take one and starve again.
const RESUME_AT: u16 = BUFFERS / 4;

/// Relays until standard input ends.
///
/// # Errors
/// The listener could not be opened, the ring could not be made or entered, or a connection could
/// not be accepted (fds ran out).
pub(crate) fn run(listen: SocketAddr, upstream: SocketAddr) -> io::Result<Work> {
    let listener = Socket::new(Domain::for_address(listen), Type::STREAM, Some(Protocol::TCP))?;
    listener.set_reuse_address(true)?;
    listener.bind(&listen.into())?;
    listener.listen(4096)?;

    let mut kernel =
        Kernel::new(Shape { buffers: BUFFERS, buffer_len: BUFFER_LEN, peer: upstream })?;
    let mut ring = kernel.ring()?;
    ring.watch_input();
    ring.accept(listener.as_fd());
    let mut relay = Relay {
        ring,
        domain: Domain::for_address(upstream),
        connections: Vec::new(),
        vacant: Vec::new(),
        starved: VecDeque::new(),
    };
    loop {
        relay.ring.turn()?;
        while let Some(event) = relay.ring.next() {
            match event {
                Event::Accepted { socket, more } => {
                    if !more {
                        relay.ring.accept(listener.as_fd());
                    }
                    match socket {
                        Ok(socket) => relay.open(socket)?,
                        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                        Err(error) => return Err(error),
                    }
                }
                Event::InputClosed => {
                    let Ring { turns, completions, .. } = relay.ring;
                    return Ok(Work { turns, completions });
                }
                event => relay.on_connection_event(event),
            }
        }
        relay.resume_starved();
    }
}

struct Relay<'k> {
    ring: Ring<'k>,
    domain: Domain,
    connections: Vec<Option<Connection>>,
    vacant: Vec<usize>,
    /// Receives that found no buffer, the longest waiting first.
    starved: VecDeque<End>,
}

struct Connection {
    /// Downstream, upstream.
    sides: [Side; 2],
    /// Armed receives (starved ones too), sends and the connect. The slot is reused at zero only.
    in_flight: u32,
    failed: bool,
}

struct Side {
    socket: Socket,
    connected: bool,
    /// What goes out on this socket; the first `sending` are being sent.
    outgoing: VecDeque<Chunk>,
    sending: usize,
    /// This socket's peer has sent its FIN.
    ended: bool,
}

impl Side {
    fn new(socket: Socket, connected: bool) -> Self {
        Self { socket, connected, outgoing: VecDeque::new(), sending: 0, ended: false }
    }
}

/// One end of a connection: its slot, and which of the two sides.
#[derive(Clone, Copy)]
struct End {
    slot: usize,
    side: usize,
}

impl End {
    fn token(self) -> u64 {
        (self.slot as u64) << 1 | self.side as u64
    }

    fn from_token(token: u64) -> Self {
        Self { slot: (token >> 1) as usize, side: (token & 1) as usize }
    }

    fn opposite(self) -> Self {
        Self { side: 1 - self.side, ..self }
    }
}

impl Relay<'_> {
    fn open(&mut self, downstream: OwnedFd) -> io::Result<()> {
        let downstream = Socket::from(downstream);
        let upstream = Socket::new(self.domain, Type::STREAM, Some(Protocol::TCP))?;
        // A connection that is reset by now refuses options; its receive will tell.
        let _ = downstream.set_tcp_nodelay(true);
        upstream.set_tcp_nodelay(true)?;

        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let [down, up] = [End { slot, side: 0 }, End { slot, side: 1 }];
        self.ring.connect(upstream.as_fd(), up.token());
        self.ring.receive(downstream.as_fd(), down.token());
        let sides = [Side::new(downstream, true), Side::new(upstream, false)];
        self.connections[slot] = Some(Connection { sides, in_flight: 2, failed: false });
        Ok(())
    }

    fn on_connection_event(&mut self, event: Event) {
        match event {
            Event::Connected { token, result } => {
                let end = End::from_token(token);
                let Some(connection) = &mut self.connections[end.slot] else { return };
                connection.in_flight -= 1;
                match result {
                    Ok(()) if !connection.failed => {
                        connection.sides[end.side].connected = true;
                        self.receive(end);
                        self.send(end);
                    }
                    _ => self.fail(end.slot),
                }
            }
            Event::Received { token, received, more } => self.on_received(token, received, more),
            Event::Sent { token, result } => self.on_sent(token, result),
            Event::Accepted { .. } | Event::Elapsed | Event::InputClosed => {}
        }
    }

    fn on_received(&mut self, token: u64, received: Received, more: bool) {
        let end = End::from_token(token);
        let Some(connection) = &mut self.connections[end.slot] else { return };
        // A starved receive stays counted, so that its slot is not reused under it.
        if !more && !matches!(received, Received::Starved) {
            connection.in_flight -= 1;
        }
        match received {
            Received::Bytes(chunk) if connection.failed => {
                self.ring.release(chunk);
                self.close_if_quiet(end.slot);
            }
            Received::Bytes(chunk) => {
                connection.sides[end.opposite().side].outgoing.push_back(chunk);
                if !more {
                    self.receive(end);
                }
                self.send(end.opposite());
            }
            Received::End => {
                connection.sides[end.side].ended = true;
                self.pass_fin_on(end.opposite());
            }
            Received::Starved => self.starved.push_back(end),
            Received::Failed(_) => self.fail(end.slot),
        }
    }

    fn on_sent(&mut self, token: u64, result: io::Result<u32>) {
        let end = End::from_token(token);
        let Some(connection) = &mut self.connections[end.slot] else { return };
        connection.in_flight -= 1;
        let side = &mut connection.sides[end.side];
        let mut len = 0;
        for chunk in side.outgoing.drain(..side.sending) {
            len += chunk.len;
            self.ring.release(chunk);
        }
        side.sending = 0;
        // MSG_WAITALL leaves a send short only where the socket failed midway.
        let whole = matches!(result, Ok(sent) if sent == len);
        if !whole || connection.failed {
            self.fail(end.slot);
        } else {
            self.send(end);
        }
    }

    fn receive(&mut self, end: End) {
        let Some(connection) = &mut self.connections[end.slot] else { return };
        connection.in_flight += 1;
        self.ring.receive(connection.sides[end.side].socket.as_fd(), end.token());
    }

    /// Sends what has piled up for this end, or what follows the last of it: the FIN.
    fn send(&mut self, end: End) {
        let Some(connection) = &mut self.connections[end.slot] else { return };
        let side = &mut connection.sides[end.side];
        if side.sending > 0 || !side.connected {
            return;
        }
        let (socket, token) = (side.socket.as_fd(), end.token());
        side.sending = side.outgoing.len().min(GATHER_MAX);
        match side.sending {
            0 => return self.pass_fin_on(end),
            1 => self.ring.send(socket, &side.outgoing[0], token),
            count => self.ring.send_gathered(socket, side.outgoing.iter().take(count), token),
        }
        connection.in_flight += 1;
    }

    /// Sends a FIN on this end if the opposite one has ended and all its bytes are out.
    fn pass_fin_on(&mut self, end: End) {
        let Some(connection) = &mut self.connections[end.slot] else { return };
        let opposite_ended = connection.sides[end.opposite().side].ended;
        let side = &connection.sides[end.side];
        if !opposite_ended || !side.connected || !side.outgoing.is_empty() {
            return;
        }
        if connection.sides.iter().all(|side| side.ended) {
            // Both ways are at their end: the close below sends the FIN.
            self.close_if_quiet(end.slot);
        } else if side.socket.shutdown(Shutdown::Write).is_err() {
            // shutdown(2), not IORING_OP_SHUTDOWN: the kernel gives that to a worker thread.
            self.fail(end.slot);
        }
    }

    /// Ends both sides by a reset, once nothing is in flight.
    fn fail(&mut self, slot: usize) {
        let Some(connection) = &mut self.connections[slot] else { return };
        if !connection.failed {
            connection.failed = true;
            for side in &mut connection.sides {
                let _ = side.socket.set_linger(Some(Duration::ZERO));
                self.ring.cancel(side.socket.as_fd());
                // What is being sent may still be read by the kernel; its completion releases it.
                side.outgoing.drain(side.sending..).for_each(|chunk| self.ring.release(chunk));
            }
        }
        self.close_if_quiet(slot);
    }

    fn close_if_quiet(&mut self, slot: usize) {
        let Some(connection) = &self.connections[slot] else { return };
        let done = connection.sides.iter().all(|side| side.ended && side.outgoing.is_empty());
        if connection.in_flight > 0 || !(done || connection.failed) {
            return;
        }
        if let Some(connection) = self.connections[slot].take() {
            connection.sides.into_iter().for_each(|side| self.ring.close(side.socket));
            self.vacant.push(slot);
        }
    }

    fn resume_starved(&mut self) {
        if self.starved.is_empty() || self.ring.free_buffers() < RESUME_AT {
            return;
        }
        for end in std::mem::take(&mut self.starved) {
            let Some(connection) = &mut self.connections[end.slot] else { continue };
            connection.in_flight -= 1;
            if connection.failed {
                self.close_if_quiet(end.slot);
            } else {
                self.receive(end);
            }
        }
    }
}
