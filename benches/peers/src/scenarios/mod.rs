//! What is measured. Each scenario takes a [`Bench`] and gives a [`Section`] of the report.
//!
//! [`cost`] is the CPU time of a request or handshake under full load, of one proxy or a [`pair`],
//! [`scaling`] the same with more and more workers, [`latency`] what requests wait at fixed
//! rates, [`memory`] what a connection costs that says nothing, [`evenness`] how connections lie on
//! workers, [`skew`] what it costs when they lie badly.

mod cost;
mod evenness;
mod latency;
mod memory;
mod pair;
mod scaling;
mod skew;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::peers::{Job, Peer, Protocol, Running};
use crate::probe::Probe;
use crate::process;
use crate::report::{Section, median_cell};
use crate::statistics::paired_ratio;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scenario {
    HttpKeepAlive,
    HttpNewConnection,
    RelaySmall,
    RelayNewConnection,
    RelayBulk,
    RelayIdleActive,
    MtlsPair,
    HandshakesFull,
    HandshakesResumed,
    ScalingHttp,
    ScalingRelay,
    LatencyHttp,
    LatencyRelay,
    MemoryRelay,
    MemoryHttp,
    EvennessListener,
    EvennessDestinations,
    EvennessChurn,
    Skew,
}

impl Scenario {
    pub(crate) const ALL: [Self; 19] = [
        Self::HttpKeepAlive,
        Self::HttpNewConnection,
        Self::RelaySmall,
        Self::RelayNewConnection,
        Self::RelayBulk,
        Self::RelayIdleActive,
        Self::MtlsPair,
        Self::HandshakesFull,
        Self::HandshakesResumed,
        Self::ScalingHttp,
        Self::ScalingRelay,
        Self::LatencyHttp,
        Self::LatencyRelay,
        Self::MemoryRelay,
        Self::MemoryHttp,
        Self::EvennessListener,
        Self::EvennessDestinations,
        Self::EvennessChurn,
        Self::Skew,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::HttpKeepAlive => "http-keep-alive",
            Self::HttpNewConnection => "http-new-connection",
            Self::RelaySmall => "relay-small",
            Self::RelayNewConnection => "relay-new-connection",
            Self::RelayBulk => "relay-bulk",
            Self::RelayIdleActive => "relay-idle-active",
            Self::MtlsPair => "mtls-pair",
            Self::HandshakesFull => "handshakes-full",
            Self::HandshakesResumed => "handshakes-resumed",
            Self::ScalingHttp => "scaling-http",
            Self::ScalingRelay => "scaling-relay",
            Self::LatencyHttp => "latency-http",
            Self::LatencyRelay => "latency-relay",
            Self::MemoryRelay => "memory-relay",
            Self::MemoryHttp => "memory-http",
            Self::EvennessListener => "evenness-listener",
            Self::EvennessDestinations => "evenness-destinations",
            Self::EvennessChurn => "evenness-churn",
            Self::Skew => "skew",
        }
    }

    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::HttpKeepAlive => "HTTP requests on keep-alive connections, 24-byte bodies",
            Self::HttpNewConnection => "HTTP requests, each on a connection of its own",
            Self::RelaySmall => {
                "byte relay, 64 bytes there and 128 back, on long-lived connections"
            }
            Self::RelayNewConnection => {
                "byte relay, 64 bytes there and 128 back, a connection each"
            }
            Self::RelayBulk => "byte relay, bodies of 64 MiB",
            Self::RelayIdleActive => "byte relay, small messages beside 1,000 idle connections",
            Self::MtlsPair => {
                "HTTP requests through two proxies, mutual TLS between, access logs on"
            }
            Self::HandshakesFull => "TLS 1.3 handshakes, each for one HTTP request",
            Self::HandshakesResumed => "resumed TLS 1.3 handshakes, each for one HTTP request",
            Self::ScalingHttp => {
                "HTTP requests on keep-alive connections, with more and more workers"
            }
            Self::ScalingRelay => "byte relay, small messages, with more and more workers",
            Self::LatencyHttp => "HTTP latency at fixed rates, open loop",
            Self::LatencyRelay => "relay latency at fixed rates, open loop",
            Self::MemoryRelay => "memory of an idle relayed connection",
            Self::MemoryHttp => "memory of an idle HTTP keep-alive connection",
            Self::EvennessListener => "connections over workers, one listener",
            Self::EvennessDestinations => {
                "connections over workers, one on each of 64 destinations"
            }
            Self::EvennessChurn => "connections over workers while they come and go",
            Self::Skew => "what uneven shards cost: few long-lived connections that work hard",
        }
    }

    pub(crate) fn run(self, bench: &Bench) -> io::Result<Section> {
        match self {
            Self::HttpKeepAlive
            | Self::HttpNewConnection
            | Self::RelaySmall
            | Self::RelayNewConnection
            | Self::RelayBulk
            | Self::RelayIdleActive
            | Self::MtlsPair
            | Self::HandshakesFull
            | Self::HandshakesResumed => cost::run(self, bench),
            Self::ScalingHttp | Self::ScalingRelay => scaling::run(self, bench),
            Self::LatencyHttp => latency::run(self, Protocol::Http, bench),
            Self::LatencyRelay => latency::run(self, Protocol::Relay, bench),
            Self::MemoryRelay => memory::run(self, Protocol::Relay, bench),
            Self::MemoryHttp => memory::run(self, Protocol::Http, bench),
            Self::EvennessListener | Self::EvennessDestinations => evenness::run(self, bench),
            Self::EvennessChurn => evenness::churn::run(self, bench),
            Self::Skew => skew::run(self, bench),
        }
    }
}

/// How much of it, where, and between whom: the same for all scenarios that one command runs.
pub(crate) struct Bench {
    /// The peers asked for; `None`: those that make sense in the scenario.
    pub(crate) peers: Option<Vec<Peer>>,
    /// Rounds of each scenario; `None`: as many as it takes.
    pub(crate) rounds: Option<usize>,
    /// Few rounds, to see that it works.
    pub(crate) quick: bool,
    /// Of a run.
    pub(crate) duration: Option<Duration>,
    pub(crate) connections: Option<usize>,
    /// Requests a second, of the scenarios with fixed rates.
    pub(crate) rates: Vec<f64>,
    /// Of the peer; `None`: one, or several where the scenario is about several.
    pub(crate) workers: Option<usize>,
    /// Those that this process may use. Never empty.
    pub(crate) cpus: Vec<usize>,
    pub(crate) proxy_cpus: Option<Vec<usize>>,
    pub(crate) load_cpus: Option<Vec<usize>>,
    pub(crate) probe: Option<Probe>,
    pub(crate) verbose: bool,
    /// Where report, charts and raw numbers go.
    pub(crate) report: Option<PathBuf>,
    pub(crate) relay_origin: SocketAddr,
    pub(crate) http_origin: SocketAddr,
}

/// The CPUs of both sides.
struct Placement {
    proxy: Vec<usize>,
    load: Vec<usize>,
}

impl Bench {
    fn rounds(&self, quick: usize, full: usize) -> usize {
        self.rounds.unwrap_or(if self.quick { quick } else { full })
    }

    fn duration(&self, quick: Duration, full: Duration) -> Duration {
        self.duration.unwrap_or(if self.quick { quick } else { full })
    }

    fn job(&self, protocol: Protocol, workers: usize) -> Job {
        Job {
            protocol,
            listen: Vec::new(),
            redirected_to: None,
            upstream: match protocol {
                Protocol::Relay => self.relay_origin,
                Protocol::Http => self.http_origin,
            },
            workers,
            filter_micros: 0,
            tls: None,
            access_log: None,
        }
    }

    /// The last of the CPUs, unless told otherwise.
    pub(crate) fn load_cpus(&self) -> Vec<usize> {
        let last = || self.cpus.last().copied().into_iter().collect();
        self.load_cpus.clone().unwrap_or_else(last)
    }

    /// A CPU for each worker as long as one is left for the load. On a single CPU both share it.
    fn placement(&self, workers: usize) -> Placement {
        let left = (self.cpus.len() - 1).clamp(1, workers);
        Placement {
            proxy: self.proxy_cpus.clone().unwrap_or_else(|| self.cpus[..left].to_vec()),
            load: self.load_cpus(),
        }
    }

    /// The peers that take part, and what those that do not are missing.
    fn participants(
        &self,
        protocol: Protocol,
        workers: usize,
        usual: &[&str],
    ) -> (Vec<Peer>, Vec<String>) {
        let wanted = match &self.peers {
            Some(peers) => peers.clone(),
            None => usual.iter().filter_map(|name| Peer::named(name)).collect(),
        };
        let (mut ready, mut notes) = (Vec::new(), Vec::new());
        for peer in wanted.into_iter().filter(|peer| peer.speaks(protocol)) {
            match peer.prepare() {
                Ok(()) if workers > 1 && !peer.scales() => {
                    notes.push(format!("{} is left out: it has one worker", peer.name()));
                }
                Ok(()) => ready.push(peer),
                Err(error) => notes.push(format!("{} is left out: {error}", peer.name())),
            }
        }
        notes.iter().for_each(|note| eprintln!("{note}"));
        (ready, notes)
    }
}

/// Those of the participants that have TLS and an access log.
fn with_tls((peers, mut notes): (Vec<Peer>, Vec<String>)) -> (Vec<Peer>, Vec<String>) {
    let (peers, others) = peers.into_iter().partition::<Vec<_>, _>(Peer::speaks_tls);
    notes.extend(others.iter().map(|peer| format!("{} is left out: no TLS here", peer.name())));
    (peers, notes)
}

impl Placement {
    /// Starts a peer on its CPUs. The calling thread then has those of the load.
    fn start(&self, peer: &Peer, job: &Job) -> io::Result<Running> {
        process::pin(&self.proxy)?;
        let started = peer.start(job);
        process::pin(&self.load)?;
        started
    }

    fn describe(&self) -> String {
        format!("proxy on CPUs {:?}, load and origin on {:?}", self.proxy, self.load)
    }
}

/// What peers did in turns. The runs of all of them with the same index are of the same round.
struct Rounds<R> {
    runs: Vec<(Peer, Vec<R>)>,
    notes: Vec<String>,
}

/// Measures the peers in turns: A B C, C B A, A B C, so that a steady drift of the machine cancels
/// out. A peer with a run that fails takes no further part.
///
/// # Errors
/// Nobody is left.
fn in_turns<R>(
    (peers, notes): (Vec<Peer>, Vec<String>),
    rounds: usize,
    mut measure: impl FnMut(&Peer) -> io::Result<R>,
) -> io::Result<Rounds<R>> {
    let runs = peers.into_iter().map(|peer| (peer, Vec::with_capacity(rounds))).collect();
    let mut done: Rounds<R> = Rounds { runs, notes };
    for round in 0..rounds {
        let mut failed = Vec::new();
        let count = done.runs.len();
        for turn in 0..count {
            let index = if round % 2 == 0 { turn } else { count - 1 - turn };
            let (peer, runs) = &mut done.runs[index];
            match measure(peer) {
                Ok(run) => runs.push(run),
                Err(error) => {
                    let note = format!("{} failed in round {}: {error}", peer.name(), round + 1);
                    eprintln!("{note}");
                    done.notes.push(note);
                    failed.push(peer.clone());
                }
            }
        }
        done.runs.retain(|(peer, _)| !failed.contains(peer));
    }
    if done.runs.is_empty() {
        let reason = format!("no peer came to an end: {}", done.notes.join("; "));
        return Err(io::Error::other(reason));
    }
    Ok(done)
}

/// The values of one kind in some runs.
fn values<R>(runs: &[R], value: impl Fn(&R) -> f64) -> Vec<f64> {
    runs.iter().map(value).collect()
}

/// What a participant's runs cost beside those of another, as a cell of a table. Two participants may
/// be the same peer, to see the noise.
fn cost_ratio<R>(one: &(Peer, Vec<R>), other: &(Peer, Vec<R>), cost: impl Fn(&R) -> f64) -> String {
    if std::ptr::eq(one, other) {
        return "1".to_owned();
    }
    median_cell(paired_ratio(&values(&one.1, &cost), &values(&other.1, &cost)), 3)
}
