//! How connections lie on the workers while they come and go.
//!
//! Connections are opened at random moments; most live for a moment, some for seconds. Each is
//! assigned to its worker as soon as it is open, so that the instrument knows at any time how many
//! each worker has. After each open some of those that are open, picked at random, have a request each:
//! the longer a connection lives, the more it works. Random numbers come from a fixed seed: every peer gets the same lives.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::owner::{self, Owners, spread};
use super::{PEERS, WORKERS};
use crate::exchange::Exchange;
use crate::load::held::Held;
use crate::peers::{Peer, Protocol};
use crate::report::{Bar, Chart, Raw, Section};
use crate::scenarios::{Bench, Placement, Scenario, in_turns, values};
use crate::statistics::{Median, largest_over_mean, median};

const SEED: u64 = 1;
const OPENS_PER_SECOND: f64 = 200.0;
const LONG_LIFE: Duration = Duration::from_secs(3);
const SHORT_LIFE: Duration = Duration::from_millis(20);
const LONG_SHARE: f64 = 0.2;
/// After each open.
const REQUESTS: usize = 10;

struct Run {
    /// After each open.
    spreads: Vec<f64>,
    /// CPU time of the busiest worker over the mean of all, and of the least busy.
    busy: [f64; 2],
    /// Mean of the connections that were open after an open.
    open: f64,
}

pub(in crate::scenarios) fn run(scenario: Scenario, bench: &Bench) -> io::Result<Section> {
    let workers = bench.workers.unwrap_or(WORKERS);
    let placement = bench.placement(workers);
    let duration = bench.duration(Duration::from_secs(5), Duration::from_secs(60));
    let rounds = bench.rounds(1, 1);
    let done = in_turns(bench.participants(Protocol::Relay, workers, PEERS), rounds, |peer| {
        measure(peer, bench, &placement, workers, duration)
    })?;

    let mut section = Section::new(scenario.name(), scenario.describe());
    section.conditions = format!(
        "{OPENS_PER_SECOND} opens a second for {duration:?}, {rounds} round(s); of 10 connections 8 \
         live for {SHORT_LIFE:?} on average and 2 for {LONG_LIFE:?}; {workers} workers; {}. Spread: \
         most minus fewest connections of a worker, after each open. Busiest and least busy: CPU time \
         of that worker over the mean, all the time together; after each open {REQUESTS} of the open \
         connections have a request each",
        placement.describe(),
    );
    section.header = [
        "peer",
        "median spread",
        "p99",
        "worst",
        "busiest / mean",
        "least busy / mean",
        "open at a time",
        "opened",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut chart = Chart::new(scenario.describe(), "median spread");
    for (peer, runs) in &done.runs {
        let mut spreads: Vec<f64> = runs.iter().flat_map(|run| run.spreads.clone()).collect();
        spreads.sort_by(f64::total_cmp);
        let middle = median(&spreads).value;
        let p99 = spreads[spreads.len() * 99 / 100];
        section.rows.push(vec![
            peer.name().to_owned(),
            format!("{middle:.0}"),
            format!("{p99:.0}"),
            format!("{:.0}", spreads[spreads.len() - 1]),
            format!("{:.2}", median(&values(runs, |run| run.busy[0])).value),
            format!("{:.2}", median(&values(runs, |run| run.busy[1])).value),
            format!("{:.0}", runs.iter().map(|run| run.open).sum::<f64>() / runs.len() as f64),
            spreads.len().to_string(),
        ]);
        chart.bars.push(Bar::new(peer, Median { value: middle, interval: None }));
        for (round, run) in runs.iter().enumerate() {
            let middle = median(&run.spreads).value;
            section.raw.push(Raw::new(peer.name(), round, "median_spread", middle));
            section.raw.push(Raw::new(peer.name(), round, "busiest", run.busy[0]));
        }
    }
    section.notes.extend(done.notes);
    section.chart = Some(chart);
    Ok(section)
}

fn measure(
    peer: &Peer,
    bench: &Bench,
    placement: &Placement,
    workers: usize,
    duration: Duration,
) -> io::Result<Run> {
    let running = placement.start(peer, &bench.job(Protocol::Relay, workers))?;
    let threads = running.workers()?;
    let owners = Owners::of(&threads);
    owner::let_it_settle();

    let mut random = fastrand::Rng::with_seed(SEED);
    let mut exponential = |mean: Duration| mean.mul_f64(-(1.0 - random.f64()).ln());
    let mut lives = fastrand::Rng::with_seed(SEED);
    let mut picks = fastrand::Rng::with_seed(SEED);
    let mut slots: Vec<Option<(Held, usize)>> = Vec::new();
    let mut vacant = Vec::new();
    // When which slot ends.
    let mut ends = BinaryHeap::new();
    let mut counts = vec![0; threads.len()];
    let mut spreads = Vec::new();
    let mut open = 0;
    let idle = owners.run_times()?;
    let started = Instant::now();
    let mut next_open = started;
    while spreads.is_empty() || started.elapsed() < duration {
        let next_end = ends.peek().map(|&Reverse((end, _))| end);
        let next = next_end.map_or(next_open, |end: Instant| end.min(next_open));
        thread::sleep(next.saturating_duration_since(Instant::now()));
        if next_end == Some(next) {
            let Some(Reverse((_, slot))) = ends.pop() else { continue };
            let ended: Option<(Held, usize)> = std::mem::take(&mut slots[slot]);
            counts[ended.map_or(0, |(_, owner)| owner)] -= 1;
            vacant.push(slot);
            continue;
        }
        let mut connection = Held::open(running.addresses[0], Exchange::SMALL)?;
        let owner = owners.find(&mut connection)?;
        counts[owner] += 1;
        let slot = vacant.pop().unwrap_or_else(|| {
            slots.push(None);
            slots.len() - 1
        });
        slots[slot] = Some((connection, owner));
        let mean = if lives.f64() < LONG_SHARE { LONG_LIFE } else { SHORT_LIFE };
        ends.push(Reverse((Instant::now() + exponential(mean), slot)));
        next_open += exponential(Duration::from_secs_f64(1.0 / OPENS_PER_SECOND));
        spreads.push(spread(&counts) as f64);
        open += counts.iter().sum::<usize>();
        for _ in 0..REQUESTS {
            let slot = picks.usize(..slots.len());
            if let Some((connection, _)) = &mut slots[slot] {
                connection.exchange()?;
            }
        }
    }
    let busy: Vec<f64> = owners
        .run_times()?
        .iter()
        .zip(&idle)
        .map(|(now, then)| (*now - *then).as_secs_f64())
        .collect();
    let least = busy.iter().copied().fold(f64::INFINITY, f64::min) * busy.len() as f64;
    let open = open as f64 / spreads.len().max(1) as f64;
    let busy = [largest_over_mean(&busy), least / busy.iter().sum::<f64>()];
    Ok(Run { spreads, busy, open })
}
