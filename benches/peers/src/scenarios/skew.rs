//! What it costs when connections lie badly: few of them, long-lived, each with work to do.
//!
//! The library against itself, so that nothing differs but who chooses the shard: its acceptor, or
//! the kernel by a hash. Each request spends some CPU time in a filter, as the check of a signature
//! would. With twice as many connections as shards the kernel leaves a shard without any every few
//! starts; each run is a new start.

use std::io;
use std::time::Duration;

use super::{Bench, Scenario, in_turns, values};
use crate::exchange::Exchange;
use crate::load::{Workload, closed};
use crate::origin::{self, Speech};
use crate::peers::{Job, Protocol};
use crate::process::{self, Thread};
use crate::report::{Bar, Chart, Raw, Section, median_cell};
use crate::statistics::{largest_over_mean, median};

const PEERS: &[&str] = &["evenkeel", "evenkeel-kernel"];
const FILTER_MICROS: u64 = 50;

struct Run {
    rate: f64,
    p50: f64,
    p99: f64,
    busiest: f64,
}

pub(super) fn run(scenario: Scenario, bench: &Bench) -> io::Result<Section> {
    let workers = bench.workers.unwrap_or(2);
    let connections = bench.connections.unwrap_or(2 * workers);
    let mut placement = bench.placement(workers);
    if bench.proxy_cpus.is_none() && placement.proxy.len() < workers {
        // Shards want a CPU each even where the load has none of its own then.
        placement.proxy = bench.cpus.clone();
        placement.load = bench.cpus.clone();
    }
    process::pin(&placement.load)?;
    // Load and origin stand for other machines: they must not wait for a shard's CPU.
    let urgent = process::set_urgent(true);
    let upstream = origin::start(Speech::Http)?;
    let _ = process::set_urgent(false);
    let job = Job { upstream, filter_micros: FILTER_MICROS, ..bench.job(Protocol::Http, workers) };
    let workload = Workload { connections, exchange: Exchange::HTTP };
    let duration = bench.duration(Duration::from_millis(500), Duration::from_secs(1));
    let rounds = bench.rounds(6, 24);
    let done = in_turns(bench.participants(Protocol::Http, workers, PEERS), rounds, |peer| {
        let running = placement.start(peer, &job)?;
        let workers = running.workers()?;
        let sample = || workers.iter().map(Thread::run_time).collect::<io::Result<Vec<_>>>();
        let _ = process::set_urgent(true);
        let loaded = closed::run(running.addresses[0], workload, duration, sample);
        let _ = process::set_urgent(false);
        let (load, before, after) = loaded?;
        let busy = before.iter().zip(&after).map(|(a, b)| (*b - *a).as_secs_f64());
        let micros = |quantile| load.latency.value_at_quantile(quantile) as f64 / 1e3;
        Ok(Run {
            rate: load.requests as f64 / load.elapsed.as_secs_f64(),
            p50: micros(0.5),
            p99: micros(0.99),
            busiest: largest_over_mean(&busy.collect::<Vec<_>>()),
        })
    })?;

    let mut section = Section::new(scenario.name(), scenario.describe());
    section.conditions = format!(
        "{connections} connections, {workers} shards, {FILTER_MICROS} µs of CPU time a request in a \
         filter, {rounds} rounds of {duration:?}; {}",
        placement.describe(),
    );
    section.header = [
        "peer",
        "requests/s",
        "fewest requests/s",
        "p50 µs",
        "p99 µs",
        "worst p99 µs",
        "busiest shard / mean",
        "worst",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut chart = Chart::new(scenario.describe(), "requests/s");
    for (peer, runs) in &done.runs {
        let (rates, p99) = (values(runs, |run| run.rate), values(runs, |run| run.p99));
        let busiest = values(runs, |run| run.busiest);
        let largest = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
        section.rows.push(vec![
            peer.name().to_owned(),
            median_cell(median(&rates), 0),
            format!("{:.0}", rates.iter().copied().fold(f64::INFINITY, f64::min)),
            format!("{:.0}", median(&values(runs, |run| run.p50)).value),
            median_cell(median(&p99), 0),
            format!("{:.0}", largest(&p99)),
            format!("{:.2}", median(&busiest).value),
            format!("{:.2}", largest(&busiest)),
        ]);
        chart.bars.push(Bar::new(peer, median(&rates)));
        for (round, run) in runs.iter().enumerate() {
            section.raw.push(Raw::new(peer.name(), round, "rate", run.rate));
            section.raw.push(Raw::new(peer.name(), round, "p99_us", run.p99));
            section.raw.push(Raw::new(peer.name(), round, "busiest", run.busiest));
        }
    }
    if let Err(error) = urgent {
        section.notes.push(format!("load and origin wait for the shards' CPUs: {error}"));
    }
    section.notes.extend(done.notes);
    section.chart = Some(chart);
    Ok(section)
}
