//! The closed loop: some connections, and on each the next request as soon as the last is answered.
//!
//! In: an address and a [`Workload`]. Out: a [`Load`], counted between two moments at which the
//! caller samples whatever else it measures. One thread, one ring; what is only counted is not read.
//! It shows what a request costs and how many a proxy can do. It says little about latency: a proxy
//! that stalls is asked for less meanwhile, so the stall counts once. That is for [`super::open`].

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use socket2::Socket;

use super::{Workload, histogram, receive, record, socket};
use crate::exchange::{BODY_LEN, Response};
use crate::ring::{Chunk, Event, Kernel, Received, Ring, Shape};

/// Connections are opened and pools and caches warmed before anything counts.
const WARM_UP: Duration = Duration::from_millis(150);
/// How much longer than asked for it may last until there is anything to count.
const PATIENCE: Duration = Duration::from_secs(5);

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

/// Loads `proxy` for `duration`, and calls `sample` at both ends of that time.
///
/// # Errors
/// A connection failed or ended before its response did; next to nothing came through; the ring or
/// a sample failed.
pub(crate) fn run<T>(
    proxy: SocketAddr,
    workload: Workload,
    duration: Duration,
    mut sample: impl FnMut() -> io::Result<T>,
) -> io::Result<(Load, T, T)> {
    // Discarded bytes never touch the buffers, so long ones cost address space only.
    let mut kernel = Kernel::new(Shape { buffers: 256, buffer_len: 256 << 10, peer: proxy })?;
    let ring = kernel.ring()?;
    let mut client = Client::new(ring, proxy, workload)?;
    client.keep_on(WARM_UP)?;

    let before = sample()?;
    let started = Instant::now();
    client.load = Load::new();
    client.keep_on(duration)?;
    let after = sample()?;

    let enough = client.has_enough();
    let mut load = client.load;
    load.elapsed = started.elapsed();
    if !enough {
        return Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "next to nothing came through the proxy",
        ));
    }
    Ok((load, before, after))
}

impl Load {
    pub(super) fn new() -> Self {
        Self { requests: 0, bytes: 0, elapsed: Duration::ZERO, latency: histogram() }
    }
}

struct Client<'k> {
    ring: Ring<'k>,
    proxy: SocketAddr,
    workload: Workload,
    connections: Vec<Connection>,
    load: Load,
}

struct Connection {
    socket: Socket,
    response: Response,
    answered: u64,
    started: Instant,
}

impl<'k> Client<'k> {
    fn new(mut ring: Ring<'k>, proxy: SocketAddr, workload: Workload) -> io::Result<Self> {
        let mut connections = Vec::with_capacity(workload.connections);
        for index in 0..workload.connections {
            let socket = socket(proxy)?;
            ring.connect(socket.as_fd(), index as u64);
            let response = workload.exchange.response();
            connections.push(Connection { socket, response, answered: 0, started: Instant::now() });
        }
        Ok(Self { ring, proxy, workload, connections, load: Load::new() })
    }

    /// Whether more has come than could have lain in the sockets before it counted.
    fn has_enough(&self) -> bool {
        match self.workload.exchange.response_len {
            Some(BODY_LEN) => self.load.bytes >= BODY_LEN / 4,
            _ => self.load.requests >= 2 * self.workload.connections as u64,
        }
    }

    /// Goes on for `duration`, and until there is something to count: on a busy machine a short run
    /// may have had no CPU.
    fn keep_on(&mut self, duration: Duration) -> io::Result<()> {
        let started = Instant::now();
        self.ring.timer(duration)?;
        self.run_until_timer()?;
        while !self.has_enough() && started.elapsed() < duration + PATIENCE {
            self.ring.timer(WARM_UP)?;
            self.run_until_timer()?;
        }
        Ok(())
    }

    fn run_until_timer(&mut self) -> io::Result<()> {
        loop {
            self.ring.turn()?;
            let mut elapsed = false;
            while let Some(event) = self.ring.next() {
                match event {
                    Event::Connected { token, result } => {
                        result?;
                        let socket = &self.connections[token as usize].socket;
                        let exchange = &self.workload.exchange;
                        receive(&mut self.ring, socket, exchange, token);
                        self.ring.send_static(socket.as_fd(), exchange.request, token);
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
                let counted = self.count(index, &chunk);
                self.ring.release(chunk);
                counted?;
            }
            Received::Starved => {}
            Received::End => return self.reopen(index),
            Received::Failed(error) => return Err(error),
        }
        if !more {
            let socket = &self.connections[index].socket;
            receive(&mut self.ring, socket, &self.workload.exchange, index as u64);
        }
        Ok(())
    }

    fn count(&mut self, index: usize, chunk: &Chunk) -> io::Result<()> {
        let connection = &mut self.connections[index];
        self.load.bytes += u64::from(chunk.len);
        if !connection.response.feed(self.ring.bytes(chunk)).map_err(io::Error::other)? {
            return Ok(());
        }
        let now = Instant::now();
        record(&mut self.load.latency, now.duration_since(connection.started));
        self.load.requests += 1;
        connection.answered += 1;
        if !self.workload.exchange.last {
            connection.started = now;
            let request = self.workload.exchange.request;
            self.ring.send_static(connection.socket.as_fd(), request, index as u64);
        }
        Ok(())
    }

    /// After the last response on a connection the next one takes its place.
    fn reopen(&mut self, index: usize) -> io::Result<()> {
        let exchange = self.workload.exchange;
        let ended = &self.connections[index];
        if !exchange.last || ended.answered != 1 || ended.response.is_partial() {
            let reason = "the proxy ended a connection before its response did";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
        }
        let socket = socket(self.proxy)?;
        self.ring.connect(socket.as_fd(), index as u64);
        let response = exchange.response();
        let next = Connection { socket, response, answered: 0, started: Instant::now() };
        let ended = std::mem::replace(&mut self.connections[index], next);
        self.ring.close(ended.socket);
        Ok(())
    }
}
