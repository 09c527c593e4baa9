//! A transparent sidecar: relays redirected TCP connections to where they were going, evenly over the
//! cores. In: arguments, a configuration, connections. Out: the same connections, metrics, an exit
//! code. This file only leads from the command line to the part that does the work.

mod cli;
mod config;
mod demo;
mod iptables;
mod run;

use std::{
    fmt,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use cli::Command;
use config::Host;

/// Wrong usage (sysexits would say 64; shells and most tools say 2).
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(usage) => {
            print(io::stderr(), format_args!("sidecar: {usage}\n"));
            return ExitCode::from(WRONG_USAGE);
        }
    };
    match command {
        Command::Help => print(io::stdout(), cli::HELP),
        Command::Version => {
            print(io::stdout(), concat!("sidecar ", env!("CARGO_PKG_VERSION"), "\n"));
        }
        Command::Check { config, print: and_print } => return check(&config, and_print),
        Command::Run { config } => return run::main(&config),
        Command::Demo { once } => {
            if let Err(error) = demo::run(once) {
                return fail(error);
            }
        }
        Command::Iptables(arguments) => return iptables::main(arguments),
    }
    ExitCode::SUCCESS
}

fn fail(error: impl std::error::Error) -> ExitCode {
    print(io::stderr(), format_args!("sidecar: {error}\n"));
    ExitCode::FAILURE
}

/// Prints all that is wrong with a configuration; what it comes to only if nothing is.
fn check(file: &Path, and_print: bool) -> ExitCode {
    let loaded = match config::load(file, &Host::current()) {
        Ok(loaded) => loaded,
        Err(problems) => {
            print(io::stdout(), problems);
            return ExitCode::FAILURE;
        }
    };
    if !and_print {
        print(io::stdout(), loaded.warnings);
        print(io::stdout(), format_args!("{}: ok\n", file.display()));
        return ExitCode::SUCCESS;
    }
    // The output has to be a configuration and nothing else.
    print(io::stderr(), loaded.warnings);
    match loaded.config.to_toml() {
        Ok(text) => {
            print(io::stdout(), text);
            ExitCode::SUCCESS
        }
        Err(error) => fail(error),
    }
}

/// Prints to a stream that may be closed: nobody is there to be told then.
fn print(mut stream: impl Write, text: impl fmt::Display) {
    let _ = write!(stream, "{text}");
}
