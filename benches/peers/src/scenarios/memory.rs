//! What an idle connection costs: anonymous memory of the proxy's processes, divided.
//!
//! The kernel's own memory for sockets is not in it, and much the same for all.

use std::io;
use std::time::Duration;

use super::{Bench, Scenario, in_turns, values};
use crate::exchange::Exchange;
use crate::load::{Workload, closed, held::Held};
use crate::peers::{Protocol, connection_limit};
use crate::process;
use crate::report::{Bar, Chart, Raw, Section, median_cell};
use crate::statistics::median;

const CONNECTIONS: usize = 10_000;
const WARM_UP_CONNECTIONS: usize = 64;
const WARM_UP: Duration = Duration::from_millis(500);
const RELAYS: &[&str] = &[
    "bare-ring",
    "evenkeel",
    "evenkeel-epoll",
    "tokio",
    "monoio",
    "glommio",
    "nginx",
    "haproxy",
    "envoy",
];
const PROXIES: &[&str] = &["evenkeel", "evenkeel-epoll", "nginx", "haproxy", "envoy", "pingora"];

struct Run {
    /// Bytes, before the connections.
    base: f64,
    /// Bytes.
    each: f64,
}

pub(super) fn run(scenario: Scenario, protocol: Protocol, bench: &Bench) -> io::Result<Section> {
    let (exchange, usual) = match protocol {
        Protocol::Http => (Exchange::HTTP, PROXIES),
        Protocol::Relay => (Exchange::SMALL, RELAYS),
    };
    let workers = bench.workers.unwrap_or(1);
    let wanted = bench.connections.unwrap_or(CONNECTIONS);
    // The load and the origin have one end of each connection as well.
    process::raise_open_files(2 * wanted as u64 + 1024);
    // Scenarios before may have left some open on the origin's side.
    let connections = wanted.min(connection_limit().saturating_sub(process::files_in_use()?));
    let (job, placement) = (bench.job(protocol, workers), bench.placement(workers));
    let rounds = bench.rounds(1, 3);
    let done = in_turns(bench.participants(protocol, workers, usual), rounds, |peer| {
        let running = placement.start(peer, &job)?;
        let proxy = running.addresses[0];
        // Pools that serve all connections fill up first: they are not the connections' own.
        let warm_up = Workload { connections: WARM_UP_CONNECTIONS, exchange };
        closed::run(proxy, warm_up, WARM_UP, || Ok(()))?;
        let base = process::anonymous_memory(&running.pids)?;
        let held = Held::open_many(proxy, exchange, connections)?;
        let grown = process::anonymous_memory(&running.pids)?.saturating_sub(base);
        drop(held);
        Ok(Run { base: base as f64, each: grown as f64 / connections as f64 })
    })?;

    let mut section = Section::new(scenario.name(), scenario.describe());
    section.conditions = format!(
        "{connections} connections that have had one response each, {rounds} round(s), {workers} \
         worker(s); RssAnon (proc_pid_status(5))",
    );
    if connections < wanted {
        section.notes.push(format!("{connections} are all that the limit of open files allows"));
    }
    section.header = ["peer", "KiB/connection", "MiB without"].map(str::to_owned).to_vec();
    let mut chart = Chart::new(scenario.describe(), "KiB/connection");
    for (peer, runs) in &done.runs {
        let each = median(&values(runs, |run| run.each / 1024.0));
        let base = median(&values(runs, |run| run.base / f64::from(1 << 20)));
        section.rows.push(vec![
            peer.name().to_owned(),
            median_cell(each, 2),
            format!("{:.1}", base.value),
        ]);
        chart.bars.push(Bar::new(peer, each));
        for (round, run) in runs.iter().enumerate() {
            section.raw.push(Raw::new(peer.name(), round, "bytes_a_connection", run.each));
        }
    }
    section.notes.extend(done.notes);
    section.chart = Some(chart);
    Ok(section)
}
