//! The load generator: a closed loop of orders over some connections, one outstanding on each.
//!
//! In: an address and a [`Workload`]. Out: a [`Load`], counted between two moments at which the
//! caller samples whatever else it measures. One thread, one ring; responses are counted, not read.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use socket2::{Domain, Protocol, Socket, Type};

use crate::message::{Order, REQUEST_LEN};
use crate::ring::{Event, Kernel, Received, Ring, Shape};

/// Connections are opened and caches warmed before anything counts.
const WARM_UP: Duration = Duration::from_millis(150);
/// Nanoseconds. Longer ones count as this long.
const LATENCY_LIMIT: u64 = 60_000_000_000;

pub(crate) struct Workload {
    pub(crate) connections: usize,
    pub(crate) order: Order,
    /// `order`, encoded.
    pub(crate) request: &'static [u8; REQUEST_LEN],
}

/// What went through between the two samples.
pub(crate) struct Load {
    pub(crate) requests: u64,
    /// Of responses.
    pub(crate) bytes: u64,
    pub(crate) elapsed: Duration,
    /// Nanoseconds from the order (from the connect, where each has its own connection) to the
    /// response's last byte.
    pub(crate) latency: Histogram<u64>,
}

/// Loads `relay` for `duration`, and calls `sample` at both ends of that time.
///
/// # Errors
/// A connection failed or ended before its response did; nothing at all came through; the ring or
/// a sample failed.
pub(crate) fn run<T>(
    relay: SocketAddr,
    workload: &Workload,
    duration: Duration,
    mut sample: impl FnMut() -> io::Result<T>,
) -> io::Result<(Load, T, T)> {
    // Discarded bytes never touch the buffers, so long ones cost address space only.
    let mut kernel = Kernel::new(Shape { buffers: 256, buffer_len: 256 << 10, peer: relay })?;
    let mut ring = kernel.ring()?;
    ring.timer(WARM_UP)?;
    let mut client = Client::new(ring, relay, workload)?;
    client.run_until_timer()?;

    let before = sample()?;
    let started = Instant::now();
    client.load = Load::new();
    client.ring.timer(duration)?;
    client.run_until_timer()?;
    let after = sample()?;

    let mut load = client.load;
    load.elapsed = started.elapsed();
    if load.bytes == 0 {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "not one byte came through the relay"));
    }
    Ok((load, before, after))
}

impl Load {
    fn new() -> Self {
        let latency = Histogram::new_with_max(LATENCY_LIMIT, 3)
            .unwrap_or_else(|_| unreachable!("the bounds are constants in range"));
        Self { requests: 0, bytes: 0, elapsed: Duration::ZERO, latency }
    }
}

struct Client<'k, 'w> {
    ring: Ring<'k>,
    relay: SocketAddr,
    workload: &'w Workload,
    connections: Vec<Connection>,
    load: Load,
}

struct Connection {
    socket: Socket,
    /// Bytes of the response so far.
    received: u64,
    started: Instant,
}

fn socket(relay: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(relay), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

impl<'k, 'w> Client<'k, 'w> {
    fn new(mut ring: Ring<'k>, relay: SocketAddr, workload: &'w Workload) -> io::Result<Self> {
        let mut connections = Vec::with_capacity(workload.connections);
        for index in 0..workload.connections {
            let socket = socket(relay)?;
            ring.connect(socket.as_fd(), index as u64);
            connections.push(Connection { socket, received: 0, started: Instant::now() });
        }
        Ok(Self { ring, relay, workload, connections, load: Load::new() })
    }

    fn run_until_timer(&mut self) -> io::Result<()> {
        loop {
            self.ring.turn()?;
            let mut elapsed = false;
            while let Some(event) = self.ring.next() {
                match event {
                    Event::Connected { token, result } => {
                        result?;
                        let socket = self.connections[token as usize].socket.as_fd();
                        self.ring.receive_discarding(socket, token);
                        self.ring.send_static(socket, self.workload.request, token);
                    }
                    Event::Received { token, received, more } => {
                        self.on_received(token as usize, received, more)?;
                    }
                    Event::Sent { result, .. } => drop(result?),
                    Event::Elapsed => elapsed = true,
                    Event::Accepted { .. } | Event::InputClosed => {}
                }
            }
            if elapsed {
                return Ok(());
            }
        }
    }

    fn on_received(&mut self, index: usize, received: Received, more: bool) -> io::Result<()> {
        match received {
            Received::Bytes(chunk) => {
                self.count(index, u64::from(chunk.len));
                self.ring.release(chunk);
            }
            Received::Starved => {}
            Received::End => return self.reopen(index),
            Received::Failed(error) => return Err(error),
        }
        if !more {
            let socket = self.connections[index].socket.as_fd();
            self.ring.receive_discarding(socket, index as u64);
        }
        Ok(())
    }

    fn count(&mut self, index: usize, len: u64) {
        let connection = &mut self.connections[index];
        self.load.bytes += len;
        connection.received += len;
        if connection.received < self.workload.order.response_len {
            return;
        }
        let now = Instant::now();
        let latency = now.duration_since(connection.started).as_nanos();
        self.load.latency.saturating_record(u64::try_from(latency).unwrap_or(u64::MAX));
        self.load.requests += 1;
        if !self.workload.order.last {
            connection.received = 0;
            connection.started = now;
            self.ring.send_static(connection.socket.as_fd(), self.workload.request, index as u64);
        }
    }

    /// After the last response on a connection the next one takes its place.
    fn reopen(&mut self, index: usize) -> io::Result<()> {
        let (received, order) = (self.connections[index].received, self.workload.order);
        if !order.last || received != order.response_len {
            let reason = format!("the relay ended a connection {received} bytes into a response");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
        }
        let socket = socket(self.relay)?;
        self.ring.connect(socket.as_fd(), index as u64);
        let next = Connection { socket, received: 0, started: Instant::now() };
        let ended = std::mem::replace(&mut self.connections[index], next);
        self.ring.close(ended.socket);
        Ok(())
    }
}
