//! What requests wait at rates that every peer can carry, or cannot.

use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::{Bench, Scenario, in_turns};
use crate::exchange::Exchange;
use crate::load::{Workload, histogram, open};
use crate::peers::Protocol;
use crate::process::CpuTime;
use crate::report::{Bar, Chart, Raw, Section};
use crate::statistics::Median;

const RELAYS: &[&str] =
    &["bare-ring", "evenkeel", "tokio", "monoio", "glommio", "nginx", "haproxy", "envoy"];
const PROXIES: &[&str] = &["evenkeel", "nginx", "haproxy", "envoy", "pingora"];

struct Run {
    latencies: open::Latencies,
    /// CPU time of a request, µs.
    cost: f64,
}

pub(super) fn run(scenario: Scenario, protocol: Protocol, bench: &Bench) -> io::Result<Section> {
    let (exchange, usual) = match protocol {
        Protocol::Http => (Exchange::HTTP, PROXIES),
        Protocol::Relay => (Exchange::SMALL, RELAYS),
    };
    let workers = bench.workers.unwrap_or(1);
    let workload = Workload { connections: bench.connections.unwrap_or(64), exchange };
    let (job, placement) = (bench.job(protocol, workers), bench.placement(workers));
    let duration = bench.duration(Duration::from_secs(1), Duration::from_secs(5));
    let rounds = bench.rounds(1, 6);

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
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "worst µs",
        "CPU µs/request",
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
            Ok(Run { cost: cpu * 1e6 / latencies.answered.max(1) as f64, latencies })
        })?;
        for (peer, runs) in &done.runs {
            let (latency, lag) =
                (together(runs, |run| &run.latency), together(runs, |run| &run.lag));
            let micros = |histogram: &Histogram<u64>, quantile| {
                histogram.value_at_quantile(quantile) as f64 / 1e3
            };
            let cost = runs.iter().map(|run| run.cost).sum::<f64>() / runs.len() as f64;
            let unanswered: u64 = runs.iter().map(|run| run.latencies.unanswered).sum();
            section.rows.push(vec![
                peer.name().to_owned(),
                format!("{rate:.0}"),
                format!("{:.0}", micros(&latency, 0.5)),
                format!("{:.0}", micros(&latency, 0.99)),
                format!("{:.0}", micros(&latency, 0.999)),
                format!("{:.0}", latency.max() as f64 / 1e3),
                format!("{cost:.2}"),
                unanswered.to_string(),
                format!("{:.0}", micros(&lag, 0.99)),
            ]);
            let p99 = Median { value: micros(&latency, 0.99), interval: None };
            chart.bars.push(Bar::labelled(format!("{} {rate:.0}/s", peer.name()), peer, p99));
            for (round, run) in runs.iter().enumerate() {
                for (name, quantile) in [("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999)] {
                    let metric = format!("{name}_at_{rate:.0}");
                    let value = micros(&run.latencies.latency, quantile);
                    section.raw.push(Raw::new(peer.name(), round, metric, value));
                }
            }
        }
        section.notes.extend(done.notes);
    }
    section.notes.sort();
    section.notes.dedup();
    section.chart = Some(chart);
    Ok(section)
}

fn together(runs: &[Run], of: impl Fn(&open::Latencies) -> &Histogram<u64>) -> Histogram<u64> {
    runs.iter().fold(histogram(), |mut sum, run| {
        // They have the same bounds.
        let _ = sum.add(of(&run.latencies));
        sum
    })
}
