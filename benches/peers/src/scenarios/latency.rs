//! What requests wait at rates that every peer can carry, or cannot.

use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::{Bench, Scenario, cost_ratio, in_turns, values};
use crate::exchange::Exchange;
use crate::load::{Workload, histogram, open};
use crate::peers::{Peer, Protocol};
use crate::process::CpuTime;
use crate::report::{Bar, Chart, Raw, Section, median_cell};
use crate::statistics::{Median, median};

const RELAYS: &[&str] =
    &["bare-ring", "evenkeel", "tokio", "monoio", "glommio", "nginx", "haproxy", "envoy"];
const PROXIES: &[&str] = &["evenkeel", "nginx", "haproxy", "envoy", "pingora"];

struct Run {
    latencies: open::Latencies,
    /// CPU time of a request, µs.
    cost: f64,
    /// Responses a second.
    rate: f64,
}

pub(super) fn run(scenario: Scenario, protocol: Protocol, bench: &Bench) -> io::Result<Section> {
    let (exchange, usual) = match protocol {
        Protocol::Http => (Exchange::HTTP, PROXIES),
        Protocol::Relay => (Exchange::SMALL, RELAYS),
    };
    let workers = bench.workers.unwrap_or(1);
    let workload = Workload { connections: bench.connections.unwrap_or(64), exchange };
    let (job, placement) = (bench.job(protocol, workers), bench.placement(workers));
    let duration = bench.duration(Duration::from_secs(1), Duration::from_secs(2));
    let rounds = bench.rounds(1, 3);

    let mut section = Section::new(scenario.name(), scenario.describe());
    section.conditions = format!(
        "{} connections, {rounds} rounds of {duration:?} at each rate, {workers} worker(s); {}. \
         Requests fall due at random moments; a latency counts from then. `late` is what the load \
         generator itself added at the 99th percentile",
        workload.connections,
        placement.describe(),
    );
    section.header = [
        "peer",
        "requests/s",
        "answered/s",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "worst µs",
        "CPU µs/request",
        "evenkeel to it",
        "unanswered",
        "late µs",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut chart = Chart::new(scenario.describe(), "p99 µs");
    for &rate in &bench.rates {
        let done = in_turns(bench.participants(protocol, workers, usual), rounds, |peer| {
            let running = placement.start(peer, &job)?;
            let sample = || CpuTime::of(&running.pids);
            let (latencies, before, after) =
                open::run(running.addresses[0], workload, rate, duration, sample)?;
            let cpu = (after.total - before.total).as_secs_f64();
            let answered = latencies.answered.max(1) as f64;
            let rate = answered / duration.as_secs_f64();
            Ok(Run { cost: cpu * 1e6 / answered, rate, latencies })
        })?;
        let evenkeel = done.runs.iter().find(|(peer, _)| peer.name() == "evenkeel");
        for entry in &done.runs {
            let (peer, runs) = entry;
            let latency = together(runs, |run| &run.latency);
            section.rows.push(row(entry, evenkeel, rate, &latency));
            let p99 = Median { value: micros(&latency, 0.99), interval: None };
            chart.bars.push(Bar::labelled(format!("{} {rate:.0}/s", peer.name()), peer, p99));
            section.raw.extend(raw(peer, runs, rate));
        }
        section.notes.extend(done.notes);
    }
    section.notes.sort();
    section.notes.dedup();
    section.chart = Some(chart);
    Ok(section)
}

fn row(
    entry: &(Peer, Vec<Run>),
    evenkeel: Option<&(Peer, Vec<Run>)>,
    rate: f64,
    latency: &Histogram<u64>,
) -> Vec<String> {
    let (peer, runs) = entry;
    let cost = |run: &Run| run.cost;
    let unanswered: u64 = runs.iter().map(|run| run.latencies.unanswered).sum();
    vec![
        peer.name().to_owned(),
        format!("{rate:.0}"),
        format!("{:.0}", median(&values(runs, |run| run.rate)).value),
        format!("{:.0}", micros(latency, 0.5)),
        format!("{:.0}", micros(latency, 0.99)),
        format!("{:.0}", micros(latency, 0.999)),
        format!("{:.0}", latency.max() as f64 / 1e3),
        median_cell(median(&values(runs, cost)), 2),
        evenkeel.map_or_else(String::new, |evenkeel| cost_ratio(evenkeel, entry, cost)),
        unanswered.to_string(),
        format!("{:.0}", micros(&together(runs, |run| &run.lag), 0.99)),
    ]
}

fn raw(peer: &Peer, runs: &[Run], rate: f64) -> Vec<Raw> {
    let of_run = |(round, run): (usize, &Run)| {
        let raw =
            |metric, value| Raw::new(peer.name(), round, format!("{metric}_at_{rate:.0}"), value);
        [
            raw("cost", run.cost),
            raw("p50_us", micros(&run.latencies.latency, 0.5)),
            raw("p99_us", micros(&run.latencies.latency, 0.99)),
            raw("p999_us", micros(&run.latencies.latency, 0.999)),
        ]
    };
    runs.iter().enumerate().flat_map(of_run).collect()
}

fn micros(times: &Histogram<u64>, quantile: f64) -> f64 {
    times.value_at_quantile(quantile) as f64 / 1e3
}

fn together(runs: &[Run], of: impl Fn(&open::Latencies) -> &Histogram<u64>) -> Histogram<u64> {
    runs.iter().fold(histogram(), |mut sum, run| {
        // They have the same bounds.
        let _ = sum.add(of(&run.latencies));
        sum
    })
}
