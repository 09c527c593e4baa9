//! What is put on a relay, and what is read off it.
//!
//! In: a contestant. Out: one [`Measurement`], of a fresh process of it. Owns nothing between runs.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::contestant::{Contestant, Running};
use crate::load::{self, Workload};
use crate::message::{Order, REQUEST_LEN};
use crate::probe::{Probe, Probed};
use crate::process::{self, CpuTime};
use crate::work::Work;

const SMALL: Order = Order { response_len: 128, last: false };
const BODY: Order = Order { response_len: 64 << 20, last: false };
const LAST: Order = Order { response_len: 128, last: true };
static SMALL_REQUEST: [u8; REQUEST_LEN] = SMALL.encode();
static BODY_REQUEST: [u8; REQUEST_LEN] = BODY.encode();
static LAST_REQUEST: [u8; REQUEST_LEN] = LAST.encode();

/// Each source address lends this many ports, far fewer than the range of ephemeral ones.
const CONNECTIONS_PER_ADDRESS: usize = 8192;
const IDLE_WARM_UP_CONNECTIONS: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scenario {
    /// Keep-alive connections with small messages: 64 bytes there, 128 back.
    Small,
    /// Bodies of 64 MiB.
    Bulk,
    /// A new connection for every small message; the origin closes.
    Churn,
    /// Connections that carried one small message and say no more.
    Idle,
}

/// One run of one contestant.
pub(crate) struct Measurement {
    /// What is compared: CPU time in µs a request or in ms a body, or memory in bytes a connection.
    pub(crate) cost: f64,
    /// Share of the CPU time that was spent in user space.
    pub(crate) user_share: Option<f64>,
    pub(crate) rate: Option<f64>,
    /// 50th, 99th and 99.9th percentile, µs.
    pub(crate) latency: Option<[f64; 3]>,
    /// Completions reaped for each `io_uring_enter`, over the relay's whole life.
    pub(crate) completions_per_turn: Option<f64>,
    /// CPU time of the busiest shard over the mean of all, where there are several.
    pub(crate) busiest: Option<f64>,
    /// Divided by the requests or bodies.
    pub(crate) probed: Option<Probed>,
}

impl Scenario {
    pub(crate) const ALL: [Self; 4] = [Self::Small, Self::Bulk, Self::Churn, Self::Idle];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Bulk => "bulk",
            Self::Churn => "churn",
            Self::Idle => "idle",
        }
    }

    pub(crate) fn default_connections(self) -> usize {
        match self {
            Self::Small | Self::Churn => 64,
            Self::Bulk => 1,
            Self::Idle => 10_000,
        }
    }

    /// What [`Measurement::cost`] counts.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Small | Self::Churn => "CPU µs/request",
            Self::Bulk => "CPU ms/64 MiB",
            Self::Idle => "RssAnon B/connection",
        }
    }

    fn workload(self, connections: usize) -> Workload {
        let (order, request) = match self {
            Self::Small | Self::Idle => (SMALL, &SMALL_REQUEST),
            Self::Bulk => (BODY, &BODY_REQUEST),
            Self::Churn => (LAST, &LAST_REQUEST),
        };
        Workload { connections, order, request }
    }
}

/// Where the two sides run, and how much of it.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) scenario: Scenario,
    pub(crate) connections: usize,
    pub(crate) duration: Duration,
    /// Of the library; the other contestants have one thread.
    pub(crate) shards: usize,
    pub(crate) relay_cpus: Vec<usize>,
    pub(crate) load_cpus: Vec<usize>,
    pub(crate) probe: Option<Probe>,
}

impl Setting {
    /// Starts the contestant on its CPUs and measures it from the others.
    pub(crate) fn measure(
        &self,
        contestant: &Contestant,
        origin: SocketAddr,
    ) -> io::Result<Measurement> {
        process::pin(&self.relay_cpus)?;
        let started = contestant.start(origin, self.shards);
        process::pin(&self.load_cpus)?;
        let relay = started?;
        match self.scenario {
            Scenario::Idle => self.measure_idle(relay),
            _ => self.measure_load(relay),
        }
    }

    fn measure_load(&self, relay: Running) -> io::Result<Measurement> {
        let pid = relay.pid();
        let workload = self.scenario.workload(self.connections);
        let mut probing = None;
        let (load, before, after) = load::run(relay.address, &workload, self.duration, || {
            // A probe slows the relay down, but what it counts stays the same.
            if let (Some(probe), None) = (self.probe, &probing) {
                probing = Some(probe.attach(pid)?);
            }
            CpuTime::of(pid)
        })?;
        let probed = probing.map(|probing| probing.finish()).transpose()?;
        let work = relay.stop();

        let cpu = (after.total - before.total).as_secs_f64();
        let user = (after.user - before.user).as_secs_f64();
        let seconds = load.elapsed.as_secs_f64();
        let bodies = load.bytes as f64 / BODY.response_len as f64;
        let (cost, done) = match self.scenario {
            Scenario::Bulk => (cpu * 1e3 / bodies, bodies),
            _ => (cpu * 1e6 / load.requests as f64, load.requests as f64),
        };
        let percentile = |p| load.latency.value_at_quantile(p) as f64 / 1e3;
        Ok(Measurement {
            cost,
            user_share: Some((user / cpu).min(1.0)),
            rate: Some(done / seconds),
            latency: (load.requests > 0).then(|| [0.5, 0.99, 0.999].map(percentile)),
            completions_per_turn: work
                .filter(|work| work.turns > 0)
                .map(Work::completions_per_turn),
            busiest: work.filter(|_| self.shards > 1).map(|work| work.busiest),
            probed: probed.map(|probed| probed.divided_by(done)),
        })
    }

    fn measure_idle(&self, relay: Running) -> io::Result<Measurement> {
        // Pools that serve all connections fill up first: they are not the connections' own.
        let warm_up = Scenario::Small.workload(IDLE_WARM_UP_CONNECTIONS);
        load::run(relay.address, &warm_up, self.duration, || Ok(()))?;
        let before = process::anonymous_memory(relay.pid())?;
        let mut held = Vec::with_capacity(self.connections);
        for index in 0..self.connections {
            held.push(idle_connection(relay.address, index).map_err(|error| {
                io::Error::new(error.kind(), format!("idle connection {index}: {error}"))
            })?);
        }
        let grown = process::anonymous_memory(relay.pid())?.saturating_sub(before);
        drop(held);
        Ok(Measurement {
            cost: grown as f64 / self.connections as f64,
            user_share: None,
            rate: None,
            latency: None,
            completions_per_turn: None,
            busiest: None,
            probed: None,
        })
    }
}

/// A connection that has had one response through the relay, so that both of its sides are up.
fn idle_connection(relay: SocketAddr, index: usize) -> io::Result<Socket> {
    let mut socket = Socket::new(Domain::for_address(relay), Type::STREAM, Some(Protocol::TCP))?;
    let block = u8::try_from(index / CONNECTIONS_PER_ADDRESS).unwrap_or(u8::MAX - 2);
    let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2 + block));
    socket.bind(&SocketAddr::new(source, 0).into())?;
    // Closing by a reset leaves no port in TIME_WAIT for the next contestant to trip over.
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    socket.connect(&relay.into())?;
    socket.write_all(&SMALL_REQUEST)?;
    socket.read_exact(&mut [0; SMALL.response_len as usize])?;
    Ok(socket)
}
