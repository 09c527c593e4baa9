//! The open loop: requests fall due at random moments, so many a second on average, whether or not
//! the proxy keeps up.
//!
//! In: an address, a [`Workload`] and a rate. Out: [`Latencies`], each from the moment at which a
//! request was due, so that a proxy that stalls pays for every request that waited meanwhile, in its
//! own queues or here for a free connection (what is known as coordinated omission is thereby
//! excluded). One thread, one ring. The gaps between requests are exponential, from a fixed seed: all
//! peers get the same bursts.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use socket2::Socket;

use super::{Workload, histogram, receive, record, socket};
use crate::exchange::Response;
use crate::ring::{Event, Kernel, Received, Ring, Shape};

const SEED: u64 = 1;
/// What falls due before this is not counted.
const WARM_UP: Duration = Duration::from_millis(300);
/// How long connecting, and the last responses, may take.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct Latencies {
    /// Nanoseconds from due to answered. A request that had no answer in the end counts as long as
    /// it waited.
    pub(crate) latency: Histogram<u64>,
    /// Nanoseconds from due to sent where a connection was free: what the instrument itself adds.
    pub(crate) lag: Histogram<u64>,
    /// Responses between the two samples, whenever their requests were due.
    pub(crate) answered: u64,
    /// Requests without a response in the end.
    pub(crate) unanswered: u64,
}

/// Puts `rate` requests a second on `proxy` for `duration`, and calls `sample` at both ends of that
/// time.
///
/// # Errors
/// A connection failed or ended, not all could be opened, a response is not what it should be, or the
/// ring or a sample failed.
///
/// # Panics
/// If the exchange is the last on its connection: an open loop has its connections for good.
pub(crate) fn run<T>(
    proxy: SocketAddr,
    workload: Workload,
    rate: f64,
    duration: Duration,
    mut sample: impl FnMut() -> io::Result<T>,
) -> io::Result<(Latencies, T, T)> {
    assert!(!workload.exchange.last, "an open loop keeps its connections");
    // Timed waits may otherwise end 50 µs late (PR_SET_TIMERSLACK(2const)).
    rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))?;
    let mut kernel = Kernel::new(Shape { buffers: 256, buffer_len: 16 << 10, peer: proxy })?;
    let ring = kernel.ring()?;
    let mut client = Client::connect(ring, proxy, workload, rate)?;
    client.keep_on(WARM_UP)?;

    let before = sample()?;
    client.result = Latencies::new();
    client.counts_from = Instant::now();
    client.keep_on(duration)?;
    let after = sample()?;
    let answered = client.result.answered;
    client.finish()?;
    Ok((Latencies { answered, ..client.result }, before, after))
}

impl Latencies {
    fn new() -> Self {
        Self { latency: histogram(), lag: histogram(), answered: 0, unanswered: 0 }
    }
}

struct Client<'k> {
    ring: Ring<'k>,
    workload: Workload,
    connections: Vec<Connection>,
    /// Connections without a request, the longest idle first.
    idle: VecDeque<usize>,
    /// When requests that found no connection were due.
    waiting: VecDeque<Instant>,
    random: fastrand::Rng,
    mean_gap: Duration,
    next_due: Instant,
    counts_from: Instant,
    result: Latencies,
}

struct Connection {
    socket: Socket,
    response: Response,
    /// Of the request that is under way.
    due: Option<Instant>,
}

impl<'k> Client<'k> {
    fn connect(
        mut ring: Ring<'k>,
        proxy: SocketAddr,
        workload: Workload,
        rate: f64,
    ) -> io::Result<Self> {
        let mut connections = Vec::with_capacity(workload.connections);
        for index in 0..workload.connections {
            let socket = socket(proxy)?;
            ring.connect(socket.as_fd(), index as u64);
            let response = workload.exchange.response();
            connections.push(Connection { socket, response, due: None });
        }
        let now = Instant::now();
        let mut client = Self {
            ring,
            workload,
            connections,
            idle: VecDeque::new(),
            waiting: VecDeque::new(),
            random: fastrand::Rng::with_seed(SEED),
            mean_gap: Duration::from_secs_f64(1.0 / rate),
            next_due: now,
            counts_from: now,
            result: Latencies::new(),
        };
        while client.idle.len() < workload.connections {
            client.turn_until(now + PATIENCE)?;
            if now.elapsed() > PATIENCE {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "not all could connect"));
            }
        }
        client.next_due = Instant::now();
        Ok(client)
    }

    /// Requests fall due for so long.
    fn keep_on(&mut self, duration: Duration) -> io::Result<()> {
        let end = Instant::now() + duration;
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            while self.next_due <= now {
                self.waiting.push_back(self.next_due);
                // The inverse of the exponential distribution; 1 - f64() is never 0.
                let gap = -(1.0 - self.random.f64()).ln();
                self.next_due += self.mean_gap.mul_f64(gap);
                if !self.idle.is_empty() {
                    self.send_one(now, true);
                }
            }
            self.turn_until(self.next_due.min(end))?;
        }
    }

    /// Waits for what is under way, and counts what does not come.
    fn finish(&mut self) -> io::Result<()> {
        let started = Instant::now();
        while self.idle.len() < self.connections.len() && started.elapsed() < PATIENCE {
            self.turn_until(started + PATIENCE)?;
        }
        let now = Instant::now();
        let under_way = self.connections.iter().filter_map(|connection| connection.due);
        for due in under_way.chain(self.waiting.iter().copied()) {
            if due >= self.counts_from {
                record(&mut self.result.latency, now.duration_since(due));
                self.result.unanswered += 1;
            }
        }
        Ok(())
    }

    /// Sends the request that waits longest on the connection that does.
    fn send_one(&mut self, now: Instant, was_idle: bool) {
        let Some(index) = self.idle.pop_front() else { return };
        let Some(due) = self.waiting.pop_front() else { return self.idle.push_front(index) };
        if was_idle {
            record(&mut self.result.lag, now.duration_since(due));
        }
        let connection = &mut self.connections[index];
        connection.due = Some(due);
        let request = self.workload.exchange.request;
        self.ring.send_static(connection.socket.as_fd(), request, index as u64);
    }

    fn turn_until(&mut self, moment: Instant) -> io::Result<()> {
        self.ring.turn_within(moment.saturating_duration_since(Instant::now()))?;
        while let Some(event) = self.ring.next() {
            match event {
                Event::Connected { token, result } => {
                    result?;
                    let socket = &self.connections[token as usize].socket;
                    receive(&mut self.ring, socket, &self.workload.exchange, token);
                    self.idle.push_back(token as usize);
                }
                Event::Received { token, received, more } => {
                    self.on_received(token as usize, received)?;
                    if !more {
                        let socket = &self.connections[token as usize].socket;
                        receive(&mut self.ring, socket, &self.workload.exchange, token);
                    }
                }
                Event::Sent { result, .. } => drop(result?),
                Event::Accepted { .. } | Event::Elapsed | Event::InputClosed => {}
            }
        }
        Ok(())
    }

    fn on_received(&mut self, index: usize, received: Received) -> io::Result<()> {
        let chunk = match received {
            Received::Bytes(chunk) => chunk,
            Received::Starved => return Ok(()),
            Received::End => return Err(io::Error::other("the proxy ended a connection")),
            Received::Failed(error) => return Err(error),
        };
        let connection = &mut self.connections[index];
        let complete = connection.response.feed(self.ring.bytes(&chunk)).map_err(io::Error::other);
        self.ring.release(chunk);
        if !complete? {
            return Ok(());
        }
        let now = Instant::now();
        if let Some(due) = connection.due.take()
            && due >= self.counts_from
        {
            record(&mut self.result.latency, now.duration_since(due));
        }
        self.result.answered += 1;
        self.idle.push_back(index);
        self.send_one(now, false);
        Ok(())
    }
}
