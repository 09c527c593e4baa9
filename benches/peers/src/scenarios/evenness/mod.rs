//! How connections lie on the workers of a proxy: on one listener, and one on each of 64.
//!
//! Seen from outside, the same for every peer: [`owner`] makes one connection work and looks which
//! thread has run. The 64 destinations are addresses in a network namespace of the instrument's own.
//! Peers that know original destinations get them redirected to one port, as a sidecar does; the
//! others listen on each of them.

pub(super) mod churn;
mod namespace;
mod owner;

use std::io;
use std::net::SocketAddr;
use std::thread;

use self::owner::{Owners, spread};
use super::{Bench, Placement, Rounds, Scenario, in_turns, values};
use crate::exchange::Exchange;
use crate::load::held::Held;
use crate::origin::{self, Speech};
use crate::peers::{Job, Peer, Protocol};
use crate::process;
use crate::report::{Bar, Chart, Raw, Section};
use crate::statistics::{Median, largest_over_mean, median};

const WORKERS: usize = 8;
const CONNECTIONS: usize = 64;
/// Of each connection, to see how work lies where connections do.
const ROUND_TRIPS: usize = 100;
const PEERS: &[&str] =
    &["evenkeel", "evenkeel-kernel", "nginx", "nginx-reuseport", "haproxy", "envoy", "envoy-exact"];

struct Run {
    /// Connections of each worker.
    counts: Vec<usize>,
    /// CPU time of the busiest worker over the mean of all, while all connections did the same.
    busiest: f64,
}

pub(super) fn run(scenario: Scenario, bench: &Bench) -> io::Result<Section> {
    let destinations = scenario == Scenario::EvennessDestinations;
    let workers = bench.workers.unwrap_or(WORKERS);
    let connections = bench.connections.unwrap_or(CONNECTIONS);
    let placement = bench.placement(workers);
    let rounds = bench.rounds(2, 6);
    let participants = bench.participants(Protocol::Relay, workers, PEERS);
    let done = if destinations {
        // A network namespace belongs to a thread, and what that starts is in it too.
        let in_namespace = || {
            process::pin(&placement.load)?;
            namespace::enter(connections)?;
            let upstream = origin::start(Speech::Orders)?;
            in_turns(participants, rounds, |peer| {
                let job = Job {
                    listen: namespace::destinations(connections),
                    redirected_to: peer
                        .finds_original_destinations()
                        .then_some(namespace::REDIRECTED_TO),
                    upstream,
                    ..bench.job(Protocol::Relay, workers)
                };
                let _redirection = job.redirected_to.map(|_| namespace::redirect()).transpose()?;
                measure(peer, &job, &placement, connections)
            })
        };
        thread::scope(|scope| scope.spawn(in_namespace).join())
            .unwrap_or_else(|_| Err(io::Error::other("the scenario panicked")))?
    } else {
        let job = bench.job(Protocol::Relay, workers);
        in_turns(participants, rounds, |peer| measure(peer, &job, &placement, connections))?
    };

    let conditions = format!(
        "{connections} long-lived connections, opened at once, {workers} workers, {rounds} rounds; {}. Spread: most \
         minus fewest connections of a worker. Busiest: CPU time of the busiest worker over the mean, \
         while every connection did the same",
        placement.describe(),
    );
    Ok(section(scenario, conditions, done))
}

fn section(scenario: Scenario, conditions: String, done: Rounds<Run>) -> Section {
    let mut section = Section::new(scenario.name(), scenario.describe());
    section.conditions = conditions;
    section.header = [
        "peer",
        "spread",
        "worst spread",
        "busiest / mean",
        "connections of each worker, last round",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut chart = Chart::new(scenario.describe(), "most minus fewest connections of a worker");
    for (peer, runs) in &done.runs {
        let spreads = values(runs, |run| spread(&run.counts) as f64);
        let middle = median(&spreads).value;
        let last = runs.last().map(|run| run.counts.as_slice()).unwrap_or_default();
        section.rows.push(vec![
            peer.name().to_owned(),
            format!("{middle:.0}"),
            format!("{:.0}", spreads.iter().copied().fold(0.0, f64::max)),
            format!("{:.2}", median(&values(runs, |run| run.busiest)).value),
            last.iter().map(usize::to_string).collect::<Vec<_>>().join(" "),
        ]);
        chart.bars.push(Bar::new(peer, Median { value: middle, interval: None }));
        for (round, run) in runs.iter().enumerate() {
            let spread = spread(&run.counts) as f64;
            section.raw.push(Raw::new(peer.name(), round, "spread", spread));
            section.raw.push(Raw::new(peer.name(), round, "busiest", run.busiest));
        }
    }
    section.notes.extend(done.notes);
    section.chart = Some(chart);
    section
}

fn measure(peer: &Peer, job: &Job, placement: &Placement, connections: usize) -> io::Result<Run> {
    let running = placement.start(peer, job)?;
    let workers = running.workers()?;
    let addresses: Vec<SocketAddr> =
        running.addresses.iter().copied().cycle().take(connections).collect();
    owner::let_it_settle();
    let mut held = addresses
        .into_iter()
        .map(|address| Held::connect(address, Exchange::SMALL))
        .collect::<io::Result<Vec<_>>>()?;
    held.iter_mut().try_for_each(Held::exchange)?;
    let owners = Owners::of(&workers);
    let mut counts = vec![0; workers.len()];
    for connection in &mut held {
        counts[owners.find(connection)?] += 1;
    }
    let before = owners.run_times()?;
    for _ in 0..ROUND_TRIPS {
        held.iter_mut().try_for_each(Held::exchange)?;
    }
    let after = owners.run_times()?;
    let busy: Vec<f64> =
        before.iter().zip(&after).map(|(before, after)| (*after - *before).as_secs_f64()).collect();
    Ok(Run { counts, busiest: largest_over_mean(&busy) })
}
