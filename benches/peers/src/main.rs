//! evenkeel beside what a user would pick instead: what a request costs, what it waits, what a
//! connection takes, and how evenly the work lies.
//!
//! A proxy in processes of its own, on one CPU or on one for each of its workers; a load generator
//! and an origin, which are this process, on another. Machines drift by more than proxies differ, so
//! the peers run in turns, in fresh processes, and what decides is the median of the rounds' ratios
//! with its confidence interval. A peer against itself shows the noise.
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- --quick all
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- --report target/peers http-keep-alive
//! ```
//!
//! Reading order: [`scenarios`] (what is measured), [`peers`] and [`roles`] (the proxies),
//! [`credentials`], [`exchange`], [`load`] and [`origin`] (the two ends), [`ring`] (the kernel),
//! [`statistics`], [`report`].
//!
//! `all` takes some 40 minutes on two CPUs, which should have nothing else to do.

mod credentials;
mod exchange;
mod load;
mod machine;
mod message;
mod options;
mod origin;
mod peers;
mod probe;
mod process;
mod report;
mod ring;
mod roles;
mod scenarios;
mod statistics;
#[cfg(test)]
mod tests;
mod work;

use std::io;
use std::process::ExitCode;

use options::Command;
use origin::Speech;
use report::Section;
use scenarios::{Bench, Scenario};

/// Descriptors that all scenarios but those of memory do with.
const OPEN_FILES: u64 = 8192;

fn main() -> ExitCode {
    let done = match options::parse(lexopt::Parser::from_env()) {
        Ok(Command::Usage) => {
            print!("{}", options::usage());
            Ok(())
        }
        Ok(Command::Role(arguments)) => roles::play(arguments).map_err(io::Error::other),
        Ok(Command::Measure(scenarios, bench)) => measure(&scenarios, bench),
        Err(error) => {
            eprint!("peers: {error}\n\n{}", options::usage());
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(scenarios: &[Scenario], mut bench: Bench) -> io::Result<()> {
    process::raise_open_files(OPEN_FILES);
    process::pin(&bench.load_cpus())?;
    bench.relay_origin = origin::start(Speech::Orders)?;
    bench.http_origin = origin::start(Speech::Http)?;
    let preamble = machine::preamble(bench.cpus.len());
    let (mut sections, mut failed) = (Vec::new(), Vec::new());
    for &scenario in scenarios {
        match scenario.run(&bench) {
            Ok(section) => {
                section.print();
                sections.push(section);
            }
            Err(error) => {
                eprintln!("{}: {error}", scenario.name());
                sections.push(Section::without_result(scenario, &error));
                failed.push(scenario.name());
            }
        }
        if let Some(folder) = &bench.report {
            report::write(folder, &preamble, &sections)?;
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(io::Error::other(format!("without a result: {}", failed.join(", ")))),
    }
}
