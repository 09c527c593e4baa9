//! What a byte relay costs, measured side by side.
//!
//! A relay in a process of its own on one CPU; a load generator and an origin on another. Reported
//! is the relay's CPU time (user and system, all threads) for each request, or its memory for each
//! idle connection. Machines drift by more than relays differ, so two contestants run in turns, in
//! fresh processes, and what decides is the median of the pairs' ratios with its confidence interval.
//! The same contestant against itself shows the noise.
//!
//! ```text
//! cargo bench --bench relay                            a short smoke run of the bare ring
//! cargo bench --bench relay -- --scenario small --a bare-ring --b nginx --pairs 20 --seconds 1
//! ```
//!
//! Reading order: [`scenario`] (what is measured), [`bare_ring`] (the yardstick), [`contestant`],
//! [`load`] and [`origin`] (the two ends), [`ring`] and [`pool`] (the kernel), [`statistics`], [`probe`].

mod bare_ring;
mod contestant;
mod evenkeel;
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

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use lexopt::prelude::*;

use contestant::Contestant;
use probe::Probe;
use scenario::{Measurement, Scenario, Setting};

const USAGE: &str = "\
usage: cargo bench --bench relay -- [OPTIONS]

  --scenario small|bulk|churn|idle   what is put on the relays (without: a smoke run)
  --a NAME, --b NAME                 bare-ring, evenkeel, evenkeel-on-shard, nginx, haproxy or command; --a is
                                     bare-ring unless given, and runs alone without --b
  --command 'PROGRAM ARGUMENTS'      what `command` runs; {listen} and {upstream} stand for the
                                     addresses
  --pairs N                          runs of each (20; idle: 1)
  --seconds S                        how long a run counts (1)
  --connections N                    (small, churn: 64; bulk: 1; idle: 10000)
  --count syscalls|instructions      count these with strace or perf, instead of comparing times
  --relay-cpu N, --load-cpu N        (the first two usable CPUs)
  --verbose                          print every run
";

/// The smoke run's length under `cargo bench`, and under `cargo test --benches`.
const SMOKE: Duration = Duration::from_secs(1);
const QUICK_SMOKE: Duration = Duration::from_millis(100);

enum Task {
    Usage,
    List,
    Play { role: String, listen: SocketAddr, upstream: SocketAddr },
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
        Task::Play { role, listen, upstream } => contestant::play(&role, listen, upstream),
        Task::Smoke { duration } => smoke(duration),
        Task::Compare { setting, a, b, pairs, verbose } => {
            let contestants: Vec<&Contestant> = std::iter::once(&a).chain(&b).collect();
            process::pin(setting.load_cpu)
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
    cpus: [Option<usize>; 2],
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
        cpus: [None; 2],
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
            Long("pairs") => {
                let positive = |text: &str| text.parse().ok().filter(|&n| n > 0).ok_or("no number");
                options.pairs = Some(parser.value()?.parse_with(positive)?);
            }
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
            Long("relay-cpu") => options.cpus[0] = Some(parser.value()?.parse()?),
            Long("load-cpu") => options.cpus[1] = Some(parser.value()?.parse()?),
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

impl Options {
    fn into_task(self) -> Result<Task, lexopt::Error> {
        if self.help {
            return Ok(Task::Usage);
        }
        if self.list {
            return Ok(Task::List);
        }
        if let Some(role) = self.role {
            return Ok(Task::Play { role, listen: self.listen, upstream: self.upstream });
        }
        let Some(scenario) = self.scenario else {
            let duration = if self.bench { SMOKE } else { QUICK_SMOKE };
            return Ok(Task::Smoke { duration });
        };
        let contestant = |name: &str| Contestant::named(name, self.command.as_deref());
        let [relay_cpu, load_cpu] = cpus(self.cpus)?;
        Ok(Task::Compare {
            setting: Setting {
                scenario,
                connections: self.connections.unwrap_or(scenario.default_connections()).max(1),
                duration: self.duration,
                relay_cpu,
                load_cpu,
                probe: self.probe,
            },
            a: contestant(&self.a)?,
            b: self.b.as_deref().map(contestant).transpose()?,
            pairs: self.pairs.unwrap_or(if scenario == Scenario::Idle { 1 } else { 20 }),
            verbose: self.verbose,
        })
    }
}

/// The relay's and the load's CPU: as asked for, or the first two usable ones.
fn cpus(wanted: [Option<usize>; 2]) -> Result<[usize; 2], lexopt::Error> {
    let usable = process::usable_cpus().map_err(|error| format!("usable CPUs: {error}"))?;
    let first = usable.first().copied().unwrap_or(0);
    let second = usable.get(1).copied().unwrap_or(first);
    let cpus = [wanted[0].unwrap_or(first), wanted[1].unwrap_or(second)];
    if cpus[0] == cpus[1] {
        eprintln!("relay bench: relay and load share CPU {first}: they will disturb each other");
    }
    Ok(cpus)
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
    let [relay_cpu, load_cpu] = cpus([None; 2]).map_err(io::Error::other)?;
    process::pin(load_cpu)?;
    let origin = origin::start()?;
    for scenario in Scenario::ALL {
        let connections = scenario.default_connections().min(256);
        let setting = Setting { scenario, connections, duration, relay_cpu, load_cpu, probe: None };
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
    let setting = &Setting { connections: setting.connections.min(limit), ..*setting };
    println!(
        "{}: {} connections, {pairs} runs of {:?}, relay on CPU {}, load and origin on CPU {}",
        setting.scenario.name(),
        setting.connections,
        setting.duration,
        setting.relay_cpu,
        setting.load_cpu,
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
