//! The command line.

use std::net::SocketAddr;
use std::num::ParseIntError;
use std::time::Duration;

use lexopt::prelude::*;

use crate::peers::Peer;
use crate::probe::Probe;
use crate::process;
use crate::scenarios::{Bench, Scenario};

pub(crate) fn usage() -> String {
    let mut scenarios = String::new();
    for scenario in Scenario::ALL {
        scenarios += &format!("  {:<24}{}\n", scenario.name(), scenario.describe());
    }
    let peers = Peer::all().map(|peer| peer.name().to_owned()).collect::<Vec<_>>().join(", ");
    format!(
        "\
usage: cargo run --release --manifest-path benches/peers/Cargo.toml -- [OPTIONS] SCENARIO...

Scenarios, or `all`:
{scenarios}
Options:
  --quick                 few rounds, to see that it works
  --report DIR            write README.md, charts and runs.csv there
  --peers A,B,…           {peers},
                          or `command` (those that make sense in the scenario)
  --command 'PROGRAM …'   what `command` runs; {{listen}} and {{upstream}} stand for the addresses
  --rounds N              runs of each peer (20 where a few percent decide)
  --seconds S             how long a run counts
  --connections N
  --rates R,…             requests a second of the latency scenarios (5000,10000,15000)
  --workers N             shards, threads or processes of the proxy (1, or 8 where it is about several);
                          the most of them where they become more
  --count syscalls|instructions   count these with strace or perf, beside the cost
  --proxy-cpus LIST       as 0,1 (the first usable CPUs, one a worker, but the last)
  --load-cpus LIST        (the next one)
  --verbose               print every run
"
    )
}

pub(crate) enum Command {
    Usage,
    Role(lexopt::Parser),
    Measure(Vec<Scenario>, Bench),
}

pub(crate) fn parse(mut parser: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut scenarios = Vec::new();
    let (mut peers, mut command) = (None, None);
    let mut bench = Bench {
        peers: None,
        rounds: None,
        quick: false,
        duration: None,
        connections: None,
        rates: vec![5_000.0, 10_000.0, 15_000.0],
        workers: None,
        cpus: process::usable_cpus().map_err(|error| format!("usable CPUs: {error}"))?,
        proxy_cpus: None,
        load_cpus: None,
        probe: None,
        verbose: false,
        report: None,
        relay_origin: nowhere,
        http_origin: nowhere,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Value(name) if name == "role" && scenarios.is_empty() => {
                return Ok(Command::Role(parser));
            }
            Value(name) if name == "all" => scenarios.extend(Scenario::ALL),
            Value(name) => scenarios.push(name.parse_with(scenario)?),
            Long("quick") => bench.quick = true,
            Long("report") => bench.report = Some(parser.value()?.into()),
            Long("peers") => peers = Some(parser.value()?.string()?),
            Long("command") => command = Some(parser.value()?.string()?),
            Long("rounds") => bench.rounds = Some(parser.value()?.parse_with(positive)?),
            Long("seconds") => {
                let seconds = parser.value()?.parse_with(positive_number)?;
                bench.duration = Some(Duration::from_secs_f64(seconds));
            }
            Long("connections") => bench.connections = Some(parser.value()?.parse_with(positive)?),
            Long("rates") => {
                let rates = |text: &str| text.split(',').map(positive_number).collect();
                bench.rates = parser.value()?.parse_with(rates)?;
            }
            Long("workers") => bench.workers = Some(parser.value()?.parse_with(positive)?),
            Long("count") => {
                let probe = |name: &str| Probe::named(name).ok_or("syscalls or instructions");
                bench.probe = Some(parser.value()?.parse_with(probe)?);
            }
            Long("proxy-cpus") => bench.proxy_cpus = Some(parser.value()?.parse_with(cpu_list)?),
            Long("load-cpus") => bench.load_cpus = Some(parser.value()?.parse_with(cpu_list)?),
            Long("verbose") => bench.verbose = true,
            Long("help") | Short('h') => return Ok(Command::Usage),
            _ => return Err(argument.unexpected()),
        }
    }
    if scenarios.is_empty() {
        return Err("which scenario?".into());
    }
    let named = |name: &str| match (name, &command) {
        ("command", Some(command)) => Ok(Peer::Command(command.clone())),
        ("command", None) => Err("the peer `command` needs --command".to_owned()),
        _ => Peer::named(name).ok_or_else(|| format!("there is no peer `{name}`")),
    };
    bench.peers = peers.map(|list| list.split(',').map(named).collect()).transpose()?;
    Ok(Command::Measure(scenarios, bench))
}

fn scenario(name: &str) -> Result<Scenario, &'static str> {
    Scenario::ALL.into_iter().find(|scenario| scenario.name() == name).ok_or("no such scenario")
}

fn positive(text: &str) -> Result<usize, &'static str> {
    text.parse().ok().filter(|&number| number > 0).ok_or("no number above 0")
}

fn positive_number(text: &str) -> Result<f64, &'static str> {
    let number = text.parse().ok().filter(|&number: &f64| number > 0.0 && number < 1e9);
    number.ok_or("no number above 0")
}

fn cpu_list(text: &str) -> Result<Vec<usize>, ParseIntError> {
    text.split(',').map(str::parse).collect()
}
