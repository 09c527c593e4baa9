//! What a request costs: the proxy's CPU time under a closed loop that leaves it no pause.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::pair::Pair;
use super::{Bench, Placement, Rounds, Scenario, cost_ratio, in_turns, values, with_tls};
use crate::credentials;
use crate::exchange::{BODY_LEN, Exchange};
use crate::load::{Workload, closed, held::Held, tls};
use crate::peers::{Job, Peer, Protocol, Running, Scratch, Side, Tls};
use crate::probe::Probed;
use crate::process::{self, CpuTime};
use crate::report::{Bar, Chart, Raw, Section, median_cell};
use crate::roles::Role;
use crate::statistics::median;
use crate::work::Work;

const IDLE: usize = 1_000;
const RELAYS: &[&str] = &[
    "bare-ring",
    "evenkeel",
    "evenkeel-epoll",
    "tokio",
    "tokio-guest",
    "monoio",
    "glommio",
    "glommio-guest",
    "nginx",
    "haproxy",
    "envoy",
];
const PROXIES: &[&str] = &["evenkeel", "evenkeel-epoll", "nginx", "haproxy", "envoy", "pingora"];
const PAIRS: &[&str] = &["evenkeel", "nginx", "haproxy", "envoy"];
const HANDSHAKES: &[&str] = &["evenkeel", "evenkeel-post-quantum", "nginx", "haproxy", "envoy"];

/// One run of one peer.
pub(super) struct Run {
    /// CPU time of a request in µs, of a body in ms.
    pub(super) cost: f64,
    /// The part of it in user space.
    user: f64,
    /// Requests or bodies a second.
    pub(super) rate: f64,
    /// CPU time over time: less than the CPUs where something else is the limit.
    busy: f64,
    /// 50th, 99th and 99.9th percentile, µs.
    pub(super) latency: [f64; 3],
    /// Anonymous memory in the end, MiB.
    memory: f64,
    /// Of peers on a ring: completions reaped for each `io_uring_enter`, over their whole life.
    completions_per_turn: Option<f64>,
    /// By request or body.
    probed: Option<Probed>,
}

pub(super) struct Plan {
    pub(super) job: Job,
    pub(super) placement: Placement,
    pub(super) workload: Workload,
    idle: usize,
    pub(super) duration: Duration,
    /// Two in a row, rather than one.
    pair: Option<Pair>,
    /// Each connection is one handshake and one request.
    handshake: Option<tls::Handshake>,
    /// The certificates of handshakes.
    _credentials: Option<Scratch>,
}

pub(super) fn run(scenario: Scenario, bench: &Bench) -> io::Result<Section> {
    let workers = bench.workers.unwrap_or(1);
    let plan = Plan::new(scenario, workers, bench)?;
    let (usual, rounds) = match scenario {
        Scenario::MtlsPair => (PAIRS, bench.rounds(3, 20)),
        Scenario::HandshakesFull | Scenario::HandshakesResumed => (HANDSHAKES, bench.rounds(3, 6)),
        // Where peers are far apart, fewer rounds tell.
        Scenario::RelayNewConnection | Scenario::RelayIdleActive => (RELAYS, bench.rounds(3, 10)),
        Scenario::RelayBulk => (RELAYS, bench.rounds(3, 10)),
        _ if plan.job.protocol == Protocol::Http => (PROXIES, bench.rounds(3, 20)),
        _ => (RELAYS, bench.rounds(3, 20)),
    };
    let mut participants = bench.participants(plan.job.protocol, workers, usual);
    if plan.pair.is_some() || plan.handshake.is_some() {
        participants = with_tls(participants);
    }
    let done = in_turns(participants, rounds, |peer| {
        let run = measure(peer, &plan, bench)?;
        if bench.verbose {
            println!("{:>20} {:8.2} {:10.0}/s", peer.name(), run.cost, run.rate);
        }
        Ok(run)
    })?;
    Ok(section(scenario, &plan, rounds, done))
}

impl Plan {
    pub(super) fn new(scenario: Scenario, workers: usize, bench: &Bench) -> io::Result<Self> {
        let (protocol, exchange, connections, idle) = match scenario {
            Scenario::HttpKeepAlive | Scenario::MtlsPair | Scenario::ScalingHttp => {
                (Protocol::Http, Exchange::HTTP, 64, 0)
            }
            Scenario::HttpNewConnection => (Protocol::Http, Exchange::HTTP_LAST, 64, 0),
            Scenario::HandshakesFull | Scenario::HandshakesResumed => {
                (Protocol::Http, Exchange::HTTP_LAST, 16, 0)
            }
            Scenario::RelayNewConnection => (Protocol::Relay, Exchange::SMALL_LAST, 64, 0),
            Scenario::RelayBulk => (Protocol::Relay, Exchange::BULK, 1, 0),
            Scenario::RelayIdleActive => (Protocol::Relay, Exchange::SMALL, 64, IDLE),
            _ => (Protocol::Relay, Exchange::SMALL, 64, 0),
        };
        let mut plan = Self {
            job: bench.job(protocol, workers),
            placement: bench.placement(workers),
            workload: Workload { connections: bench.connections.unwrap_or(connections), exchange },
            idle,
            duration: bench.duration(Duration::from_millis(500), Duration::from_millis(700)),
            pair: None,
            handshake: None,
            _credentials: None,
        };
        match scenario {
            Scenario::MtlsPair => plan.pair = Some(Pair::new()?),
            Scenario::HandshakesFull => plan.shake_hands(false)?,
            Scenario::HandshakesResumed => plan.shake_hands(true)?,
            _ => {}
        }
        Ok(plan)
    }

    fn shake_hands(&mut self, resumed: bool) -> io::Result<()> {
        let files = Scratch::in_memory()?;
        credentials::write(files.directory())?;
        self.handshake = Some(tls::Handshake { resumed, post_quantum: false });
        self.job.tls = Some(Tls { side: Side::Clients, credentials: files.directory().to_owned() });
        self._credentials = Some(files);
        Ok(())
    }

    /// The proxies that a request goes through, the first of them first.
    fn start(&self, peer: &Peer) -> io::Result<Vec<Running>> {
        match &self.pair {
            Some(pair) => pair.start(peer, &self.job, &self.placement),
            None => Ok(vec![self.placement.start(peer, &self.job)?]),
        }
    }

    /// What the numbers of TLS are of.
    fn describe_tls(&self) -> String {
        if let Some(pair) = &self.pair {
            return format!(
                "; TLS 1.3 with AES-128-GCM, ECDSA certificates on P-256 of both sides, a keep-alive \
                 pool; CPU time and memory of both proxies together; a second proxy that answers plain \
                 HTTP or a client without a certificate fails, as does a log without a line for each \
                 request; logs are files in `{}`, so that lines are really written, but to no disk",
                pair.directory().parent().unwrap_or(pair.directory()).display(),
            );
        }
        match self.handshake {
            None => String::new(),
            Some(_) => "; the clients are blocking threads, and offer X25519 (evenkeel-post-quantum: \
                        X25519MLKEM768) and AES-128-GCM; an ECDSA certificate on P-256 of the server; \
                        one request, which each proxy passes on over its pool, then the server closes. \
                        The load's CPU may be the limit: what a handshake costs decides, not the rate"
                .to_owned(),
        }
    }

    fn load<T>(
        &self,
        peer: &Peer,
        proxy: SocketAddr,
        sample: impl FnMut() -> io::Result<T>,
    ) -> io::Result<(closed::Load, T, T)> {
        let Some(handshake) = self.handshake else {
            return closed::run(proxy, self.workload, self.duration, sample);
        };
        let post_quantum = *peer == Peer::Role(Role::EvenkeelPostQuantum);
        let handshake = tls::Handshake { post_quantum, ..handshake };
        tls::run(proxy, handshake, self.workload.connections, self.duration, sample)
    }
}

pub(super) fn measure(peer: &Peer, plan: &Plan, bench: &Bench) -> io::Result<Run> {
    let proxies = plan.start(peer)?;
    let pids: Vec<u32> = proxies.iter().flat_map(|running| running.pids.clone()).collect();
    let proxy = proxies[0].addresses[0];
    let idle = Held::open_many(proxy, plan.workload.exchange, plan.idle)?;
    let mut probing = None;
    let (load, before, after) = plan.load(peer, proxy, || {
        // A probe slows the proxy down, but what it counts stays the same.
        if let (Some(probe), None) = (bench.probe, &probing) {
            probing = Some(probe.attach(&pids)?);
        }
        CpuTime::of(&pids)
    })?;
    let probed = probing.map(|probing| probing.finish()).transpose()?;
    let memory = process::anonymous_memory(&pids)?;
    drop(idle);
    let work: Vec<_> = proxies.into_iter().map(Running::stop).collect();
    if let Some(pair) = &plan.pair {
        pair.check_logs(load.requests)?;
    }

    let cpu = (after.total - before.total).as_secs_f64();
    let user = (after.user - before.user).as_secs_f64().min(cpu);
    let (done, unit) = match plan.workload.exchange.response_len {
        Some(BODY_LEN) => (load.bytes as f64 / BODY_LEN as f64, 1e3),
        _ => (load.requests as f64, 1e6),
    };
    let percentile = |p| load.latency.value_at_quantile(p) as f64 / 1e3;
    Ok(Run {
        cost: cpu * unit / done,
        user: user * unit / done,
        rate: done / load.elapsed.as_secs_f64(),
        latency: [0.5, 0.99, 0.999].map(percentile),
        memory: memory as f64 / f64::from(1 << 20),
        completions_per_turn: work[0].map(Work::completions_per_turn),
        busy: cpu / load.elapsed.as_secs_f64(),
        probed: probed.map(|probed| probed.divided_by(done)),
    })
}

/// The yardstick where it takes part, otherwise the cheapest of the others.
fn reference(done: &Rounds<Run>) -> usize {
    let cost = |index: &usize| median(&values(&done.runs[*index].1, |run| run.cost)).value;
    let by_name = done.runs.iter().position(|(peer, _)| peer.name() == "bare-ring");
    let others = (0..done.runs.len()).filter(|&index| !done.runs[index].0.is_evenkeel());
    by_name.or_else(|| others.min_by(|a, b| cost(a).total_cmp(&cost(b)))).unwrap_or(0)
}

fn section(scenario: Scenario, plan: &Plan, rounds: usize, done: Rounds<Run>) -> Section {
    let bulk = scenario == Scenario::RelayBulk;
    let (cost, rate) = match plan.handshake {
        _ if bulk => ("CPU ms/64 MiB", "bodies/s"),
        Some(_) => ("CPU µs/handshake", "handshakes/s"),
        None => ("CPU µs/request", "requests/s"),
    };
    let reference = &done.runs[reference(&done)];
    let evenkeel = done.runs.iter().find(|(peer, _)| peer.name() == "evenkeel");
    let mut section = Section::new(scenario.name(), scenario.describe());
    section.conditions = format!(
        "{} connections{}, {rounds} rounds of {:?}, {} worker(s); {}{}",
        plan.workload.connections,
        if plan.idle > 0 { format!(" beside {} idle", plan.idle) } else { String::new() },
        plan.duration,
        plan.job.workers,
        plan.placement.describe(),
        plan.describe_tls(),
    );
    section.header = ["peer", cost, "user", "system"].map(str::to_owned).to_vec();
    section.header.push(format!("ratio to {}", reference.0.name()));
    section.header.extend(evenkeel.map(|_| "evenkeel to it".to_owned()));
    let rest = [rate, "CPU busy", "p50 µs", "p99 µs", "p99.9 µs", "memory MiB", "completions/turn"];
    section.header.extend(rest.map(str::to_owned));
    let mut chart = Chart::new(scenario.describe(), cost);
    let digits = if bulk { 1 } else { 2 };
    let cost_of = |run: &Run| run.cost;
    for done in &done.runs {
        let (peer, runs) = done;
        let mut row = vec![peer.name().to_owned()];
        row.extend(costs(runs, digits));
        row.push(cost_ratio(done, reference, cost_of));
        row.extend(evenkeel.map(|evenkeel| cost_ratio(evenkeel, done, cost_of)));
        row.extend(carried(runs, usize::from(bulk)));
        section.rows.push(row);
        chart.bars.push(Bar::new(peer, median(&values(runs, |run| run.cost))));
        section.raw.extend(raw(peer, runs));
        section.notes.extend(counts(peer, runs));
    }
    section.notes.extend(done.notes);
    section.chart = Some(chart);
    section
}

/// CPU time, and its parts in user space and in the kernel.
fn costs(runs: &[Run], digits: usize) -> [String; 3] {
    let cost = median(&values(runs, |run| run.cost));
    // Sampled by the timer tick: only all runs together have enough ticks.
    let sum = |value: fn(&Run) -> f64| values(runs, value).iter().sum::<f64>();
    let user = cost.value * sum(|run| run.user) / sum(|run| run.cost);
    let system = cost.value - user;
    [median_cell(cost, digits), format!("{user:.digits$}"), format!("{system:.digits$}")]
}

/// Rate, how busy, latencies, memory, completions a turn.
fn carried(runs: &[Run], digits: usize) -> [String; 7] {
    let of = |value: fn(&Run) -> f64| median(&values(runs, value)).value;
    let turns: Vec<f64> = runs.iter().filter_map(|run| run.completions_per_turn).collect();
    [
        format!("{:.digits$}", of(|run| run.rate)),
        format!("{:.0} %", of(|run| run.busy * 100.0)),
        format!("{:.0}", of(|run| run.latency[0])),
        format!("{:.0}", of(|run| run.latency[1])),
        format!("{:.0}", of(|run| run.latency[2])),
        format!("{:.1}", of(|run| run.memory)),
        if turns.is_empty() { String::new() } else { format!("{:.1}", median(&turns).value) },
    ]
}

fn raw(peer: &Peer, runs: &[Run]) -> Vec<Raw> {
    let of_run = |(round, run): (usize, &Run)| {
        let raw = |metric, value| Raw::new(peer.name(), round, metric, value);
        [
            raw("cost", run.cost),
            raw("user", run.user),
            raw("rate", run.rate),
            raw("busy", run.busy),
            raw("p50_us", run.latency[0]),
            raw("p99_us", run.latency[1]),
            raw("p999_us", run.latency[2]),
            raw("memory_mib", run.memory),
        ]
    };
    runs.iter().enumerate().flat_map(of_run).collect()
}

/// What a probe counted.
fn counts(peer: &Peer, runs: &[Run]) -> Option<String> {
    let probed = runs.last()?.probed.as_ref()?;
    let counts: Vec<String> =
        probed.0.iter().map(|(name, count)| format!("{count:.3} {name}")).collect();
    Some(format!("{}, each request: {}", peer.name(), counts.join(", ")))
}
