//! What a byte relay costs, measured side by side.
//!
//! A relay in a process of its own on one CPU, or on one for each of its shards; a load generator and
//! an origin on another, or on the same ones where none is left. Reported is the relay's CPU time
//! (user and system, all threads) for each request, or its memory for each idle connection. Machines
//! drift by more than relays differ, so two contestants run in turns, in fresh processes, and what
//! decides is the median of the pairs' ratios with its confidence interval. The same contestant
//! against itself shows the noise.
//!
//! ```text
//! cargo bench --bench relay                            a short smoke run of the bare ring
//! cargo bench --bench relay -- --scenario small --a bare-ring --b nginx --pairs 20 --seconds 1
//! ```
//!
//! Reading order: [`scenario`] (what is measured), [`bare_ring`] (the yardstick), [`contestant`],
//! [`load`] and [`origin`] (the two ends), [`ring`] and [`pool`] (the kernel), [`statistics`], [`probe`],
//! [`work`].

mod bare_ring;
mod contestant;
mod evenkeel;
mod guests;
mod load;
mod message;
mod origin;
mod pool;
mod probe;
mod process;
mod report;
mod ring;
mod scenario;
mod statistics;
mod work;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::ParseIntError;
use std::process::ExitCode;
use std::time::Duration;

use lexopt::prelude::*;

use contestant::Contestant;
use probe::Probe;
use scenario::{Measurement, Scenario, Setting};

const USAGE: &str = "\
usage: cargo bench --bench relay -- [OPTIONS]

  --scenario small|bulk|churn|idle   what is put on the relays (without: a smoke run)
  --a NAME, --b NAME                 bare-ring, evenkeel, evenkeel-on-shard, nginx, haproxy or command; with the
                                     features tokio and glommio tokio-guest, tokio-own (the same relay, with
                                     an accept loop of its own), glommio-guest and glommio-own; --a is
                                     bare-ring unless given, and runs alone without --b
  --command 'PROGRAM ARGUMENTS'      what `command` runs; {listen} and {upstream} stand for the
                                     addresses
  --pairs N                          runs of each (20; idle: 1)
  --seconds S                        how long a run counts (1)
  --connections N                    (small, churn: 64; bulk: 1; idle: 10000)
  --count syscalls|instructions      count these with strace or perf, instead of comparing times
  --shards N                         of evenkeel and guests; the others have one thread (1)
  --relay-cpus LIST                  as 0,1 (the first usable CPUs, one a shard)
  --load-cpus LIST                   (the next usable CPU, or else all)
  --verbose                          print every run
";

/// The smoke run's length under `cargo bench`, and under `cargo test --benches`.
const SMOKE: Duration = Duration::from_secs(1);
const QUICK_SMOKE: Duration = Duration::from_millis(100);

enum Task {
    Usage,
    List,
    Play { role: String, listen: SocketAddr, upstream: SocketAddr, shards: usize },
    Smoke { duration: Duration },
    Compare { setting: Setting, a: Contestant, b: Option<Contestant>, pairs: usize, verbose: bool },
}

fn main() -> ExitCode {
    let task = match parse() {
        Ok(task) => task,
        Err(error) => {
            eprint!("relay bench: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let done = match task {
        Task::Usage => {
            print!("{USAGE}");
            Ok(())
        }
        Task::List => {
            println!("relay: benchmark");
            Ok(())
        }
        Task::Play { role, listen, upstream, shards } => {
            contestant::play(&role, listen, upstream, shards)
        }
        Task::Smoke { duration } => smoke(duration),
        Task::Compare { setting, a, b, pairs, verbose } => {
            let contestants: Vec<&Contestant> = std::iter::once(&a).chain(&b).collect();
            process::pin(&setting.load_cpus)
                .and_then(|()| origin::start())
                .and_then(|origin| compare(&setting, origin, &contestants, pairs, verbose))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relay bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Options as they were given.
struct Options {
    scenario: Option<Scenario>,
    a: String,
    b: Option<String>,
    command: Option<String>,
    pairs: Option<usize>,
    duration: Duration,
    connections: Option<usize>,
    probe: Option<Probe>,
    shards: usize,
    relay_cpus: Vec<usize>,
    load_cpus: Vec<usize>,
    verbose: bool,
    role: Option<String>,
    listen: SocketAddr,
    upstream: SocketAddr,
    /// cargo bench says `--bench`, cargo test says nothing.
    bench: bool,
    list: bool,
    help: bool,
}

fn parse() -> Result<Task, lexopt::Error> {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut options = Options {
        scenario: None,
        a: "bare-ring".into(),
        b: None,
        command: None,
        pairs: None,
        duration: Duration::from_secs(1),
        connections: None,
        probe: None,
        shards: 1,
        relay_cpus: Vec::new(),
        load_cpus: Vec::new(),
        verbose: false,
        role: None,
        listen: nowhere,
        upstream: nowhere,
        bench: false,
        list: false,
        help: false,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("scenario") => {
                options.scenario = Some(parser.value()?.parse_with(|name| {
                    Scenario::ALL.into_iter().find(|it| it.name() == name).ok_or("no such scenario")
                })?);
            }
            Long("a") => options.a = parser.value()?.string()?,
            Long("b") => options.b = Some(parser.value()?.string()?),
            Long("command") => options.command = Some(parser.value()?.string()?),
            Long("pairs") => options.pairs = Some(parser.value()?.parse_with(positive)?),
            Long("seconds") => {
                options.duration = parser.value()?.parse_with(|text| {
                    let seconds = text.parse().ok().filter(|&seconds: &f64| seconds > 0.0);
                    seconds.and_then(|s| Duration::try_from_secs_f64(s).ok()).ok_or("no duration")
                })?;
            }
            Long("connections") => options.connections = Some(parser.value()?.parse()?),
            Long("count") => {
                let probe = |name: &str| Probe::named(name).ok_or("syscalls or instructions");
                options.probe = Some(parser.value()?.parse_with(probe)?);
            }
            Long("shards") => options.shards = parser.value()?.parse_with(positive)?,
            Long("relay-cpus") => options.relay_cpus = parser.value()?.parse_with(cpu_list)?,
            Long("load-cpus") => options.load_cpus = parser.value()?.parse_with(cpu_list)?,
            Long("verbose") => options.verbose = true,
            Long("role") => options.role = Some(parser.value()?.string()?),
            Long("listen") => options.listen = parser.value()?.parse()?,
            Long("upstream") => options.upstream = parser.value()?.parse()?,
            Long("bench") => options.bench = true,
            Long("list") => options.list = true,
            Long("help") | Short('h') => options.help = true,
            // What test harnesses are told: it changes nothing here.
            Long("test" | "nocapture" | "exact" | "quiet") => {}
            _ => return Err(argument.unexpected()),
        }
    }
    options.into_task()
}

fn positive(text: &str) -> Result<usize, &'static str> {
    text.parse().ok().filter(|&number| number > 0).ok_or("no number above 0")
}

fn cpu_list(text: &str) -> Result<Vec<usize>, ParseIntError> {
    text.split(',').map(str::parse).collect()
}

impl Options {
    fn into_task(self) -> Result<Task, lexopt::Error> {
        if self.help {
            return Ok(Task::Usage);
        }
        if self.list {
            return Ok(Task::List);
        }
        if let Some(role) = self.role {
            let Options { listen, upstream, shards, .. } = self;
            return Ok(Task::Play { role, listen, upstream, shards });
        }
        let Some(scenario) = self.scenario else {
            let duration = if self.bench { SMOKE } else { QUICK_SMOKE };
            return Ok(Task::Smoke { duration });
        };
        let contestant = |name: &str| Contestant::named(name, self.command.as_deref());
        let (relay_cpus, load_cpus) = cpus(self.shards, self.relay_cpus, self.load_cpus)?;
        Ok(Task::Compare {
            setting: Setting {
                scenario,
                connections: self.connections.unwrap_or(scenario.default_connections()).max(1),
                duration: self.duration,
                shards: self.shards,
                relay_cpus,
                load_cpus,
                probe: self.probe,
            },
            a: contestant(&self.a)?,
            b: self.b.as_deref().map(contestant).transpose()?,
            pairs: self.pairs.unwrap_or(if scenario == Scenario::Idle { 1 } else { 20 }),
            verbose: self.verbose,
        })
    }
}

/// The relay's and the load's CPUs: as asked for, or one a shard, and the next one for the load.
fn cpus(
    shards: usize,
    relay: Vec<usize>,
    load: Vec<usize>,
) -> Result<(Vec<usize>, Vec<usize>), lexopt::Error> {
    let usable = process::usable_cpus().map_err(|error| format!("usable CPUs: {error}"))?;
    let (for_relay, left) = usable.split_at(shards.min(usable.len()));
    let relay = if relay.is_empty() { for_relay.to_vec() } else { relay };
    let load = match left.first() {
        _ if !load.is_empty() => load,
        Some(&next) => vec![next],
        None => usable,
    };
    if load.iter().any(|cpu| relay.contains(cpu)) {
        eprintln!(
            "relay bench: relay (CPUs {relay:?}) and load ({load:?}) will disturb each other"
        );
    }
    Ok((relay, load))
}

/// Each scenario once, briefly, on the bare ring: does the instrument still work?
fn smoke(duration: Duration) -> io::Result<()> {
    if let Err(error) = io_uring::IoUring::new(2) {
        if std::env::var_os("CI").is_some_and(|value| value == "true") {
            return Err(io::Error::new(error.kind(), format!("no io_uring here: {error}")));
        }
        eprintln!("SKIPPED relay bench: no io_uring here: {error}");
        return Ok(());
    }
    let (relay_cpus, load_cpus) = cpus(1, Vec::new(), Vec::new()).map_err(io::Error::other)?;
    process::pin(&load_cpus)?;
    let origin = origin::start()?;
    for scenario in Scenario::ALL {
        let connections = scenario.default_connections().min(256);
        let setting = Setting {
            scenario,
            connections,
            duration,
            shards: 1,
            relay_cpus: relay_cpus.clone(),
            load_cpus: load_cpus.clone(),
            probe: None,
        };
        compare(&setting, origin, [&Contestant::BareRing].as_slice(), 1, false)?;
    }
    Ok(())
}

/// Runs the contestants in turns, and prints what came of it.
fn compare(
    setting: &Setting,
    origin: SocketAddr,
    contestants: &[&Contestant],
    pairs: usize,
    verbose: bool,
) -> io::Result<()> {
    process::raise_open_files(2 * setting.connections as u64 + 1024);
    let limit = contestant::connection_limit();
    let setting = &Setting { connections: setting.connections.min(limit), ..setting.clone() };
    println!(
        "{}: {} connections, {pairs} runs of {:?}, {} shards, relay on CPUs {:?}, load and origin on {:?}",
        setting.scenario.name(),
        setting.connections,
        setting.duration,
        setting.shards,
        setting.relay_cpus,
        setting.load_cpus,
    );
    if setting.connections == limit {
        println!("{:>12}  {limit} connections are all that the limit of open files allows", "");
    }
    let mut runs: Vec<Vec<Measurement>> = contestants.iter().map(|_| Vec::new()).collect();
    for pair in 0..pairs {
        // A B, B A, A B: a steady drift of the machine cancels out.
        let mut order: Vec<usize> = (0..contestants.len()).collect();
        if pair % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let run = setting.measure(contestants[index], origin)?;
            if verbose {
                report::contestant(setting, contestants[index].name(), std::slice::from_ref(&run));
            }
            runs[index].push(run);
        }
    }
    for (contestant, runs) in contestants.iter().zip(&runs) {
        report::contestant(setting, contestant.name(), runs);
    }
    if let ([a, b], [a_runs, b_runs]) = (contestants, runs.as_slice()) {
        report::ratio((a.name(), a_runs), (b.name(), b_runs));
    }
    Ok(())
}
