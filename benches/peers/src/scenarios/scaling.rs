//! What a request costs with more and more workers: the price of being several.
//!
//! The connections stay as many as they are, so that each worker has fewer of them, and less to do at
//! a time. With a CPU for each worker it also shows what CPUs cost each other. Where there are fewer,
//! workers share them: then it shows what more workers cost by themselves, and says nothing of speed.

use std::io;

use super::cost::{Plan, Run, measure};
use super::{Bench, Scenario, cost_ratio, in_turns, values};
use crate::report::{Bar, Chart, Raw, Section, median_cell};
use crate::statistics::{Median, median, paired_ratio};

const PEERS: &[&str] = &["evenkeel", "nginx-reuseport", "haproxy"];
/// The most workers where CPUs are few, and where each of them has one.
const MOST_SHARING: usize = 8;
const MOST: usize = 16;

pub(super) fn run(scenario: Scenario, bench: &Bench) -> io::Result<Section> {
    let for_workers = bench.cpus.len().saturating_sub(1);
    let most = bench.workers.unwrap_or(if for_workers < MOST { MOST_SHARING } else { MOST });
    let plans = std::iter::successors(Some(1), |workers| Some(2 * workers))
        .take_while(|&workers| workers <= most)
        .map(|workers| Plan::new(scenario, workers, bench))
        .collect::<io::Result<Vec<_>>>()?;
    let rounds = bench.rounds(2, 6);
    let participants = bench.participants(plans[0].job.protocol, most, PEERS);
    // A round is one run with each number of workers, upwards and downwards by turns.
    let mut downwards = false;
    let done = in_turns(participants, rounds, |peer| {
        let one = |plan| measure(peer, plan, bench);
        let mut runs: Vec<Run> = match downwards {
            false => plans.iter().map(one).collect::<io::Result<_>>()?,
            true => plans.iter().rev().map(one).collect::<io::Result<_>>()?,
        };
        if downwards {
            runs.reverse();
        }
        downwards = !downwards;
        Ok(runs)
    })?;

    let mut section = Section::new(scenario.name(), scenario.describe());
    let last = &plans[plans.len() - 1];
    section.conditions = format!(
        "{} connections, {rounds} rounds of {:?}; {} with {most} workers",
        last.workload.connections,
        last.duration,
        last.placement.describe(),
    );
    if last.placement.proxy.len() < most {
        section.notes.push(format!(
            "workers share {} CPU(s): it shows what more of them cost by themselves, not what they \
             can do",
            last.placement.proxy.len(),
        ));
    }
    section.header = [
        "peer",
        "workers",
        "CPU µs/request",
        "to its one",
        "evenkeel to it",
        "requests/s",
        "p99 µs",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut chart = Chart::new(scenario.describe(), "CPU µs/request");
    let evenkeel = done.runs.iter().find(|(peer, _)| peer.name() == "evenkeel");
    for entry in &done.runs {
        let (peer, runs) = entry;
        for (index, plan) in plans.iter().enumerate() {
            let workers = plan.job.workers;
            let costs = values(runs, |run| run[index].cost);
            let growth = match index {
                0 => "1".to_owned(),
                _ => median_cell(paired_ratio(&costs, &values(runs, |run| run[0].cost)), 3),
            };
            let of_evenkeel = |evenkeel| cost_ratio(evenkeel, entry, |run| run[index].cost);
            let cost = median(&costs);
            section.rows.push(vec![
                peer.name().to_owned(),
                workers.to_string(),
                median_cell(cost, 2),
                growth,
                evenkeel.map_or_else(String::new, of_evenkeel),
                format!("{:.0}", median(&values(runs, |run| run[index].rate)).value),
                format!("{:.0}", median(&values(runs, |run| run[index].latency[1])).value),
            ]);
            let bar = Median { interval: None, ..cost };
            chart.bars.push(Bar::labelled(format!("{}, {workers}", peer.name()), peer, bar));
            for (round, run) in runs.iter().enumerate() {
                let metric = format!("cost_of_{workers}");
                section.raw.push(Raw::new(peer.name(), round, metric, run[index].cost));
            }
        }
    }
    section.notes.extend(done.notes);
    section.chart = Some(chart);
    Ok(section)
}
