//! The command line. In: the arguments. Out: the command to run, or why there is none. Prints nothing,
//! opens nothing, and knows nothing of the arguments of `iptables`, which it passes on.

use std::{ffi::OsString, fmt, path::PathBuf};

use lexopt::{Arg, Parser};

/// `--help`, word for word.
pub(crate) const HELP: &str = "\
A transparent TCP and HTTP sidecar that keeps every core evenly loaded.

Usage:
  sidecar [--once]               show it at work on loopback (--once: then end)
  sidecar run --config FILE      run until SIGTERM or SIGINT
  sidecar check --config FILE    say what is wrong with FILE; exit 0 or 1
      --print                    and print it with every default filled in
  sidecar iptables print|apply|remove [OPTIONS]
                                 the redirect rules of this host
  sidecar --version | --help

SIGHUP reads FILE again. Exit: 0 done, 1 failed, 2 wrong usage.
";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// The demonstration; `once`: end when it has been shown.
    Demo {
        once: bool,
    },
    /// Run this configuration.
    Run {
        config: PathBuf,
    },
    /// Say what is wrong with this configuration; `print`: and what it comes to.
    Check {
        config: PathBuf,
        print: bool,
    },
    /// The redirect rules; the arguments are as they were given.
    Iptables(Vec<OsString>),
    Version,
    Help,
}

/// Why the arguments are no command. Displays as one line.
#[derive(Debug)]
pub(crate) struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; see `sidecar --help`", self.0)
    }
}

impl std::error::Error for Usage {}

impl From<lexopt::Error> for Usage {
    fn from(error: lexopt::Error) -> Self {
        Self(error.to_string())
    }
}

/// Reads the arguments that follow the program's name.
///
/// # Errors
/// A command, option or value that is unknown, missing or given twice.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Usage> {
    let mut parser = Parser::from_args(arguments);
    let mut once = false;
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Short('V') | Arg::Long("version") => return Ok(Command::Version),
            Arg::Long("once") => once = true,
            Arg::Value(command) if !once => return parse_command(&command, parser),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Demo { once })
}

fn parse_command(command: &OsString, mut parser: Parser) -> Result<Command, Usage> {
    match command.to_str() {
        Some("run") => parse_file(parser, "run"),
        Some("check") => parse_file(parser, "check"),
        Some("iptables") => Ok(Command::Iptables(parser.raw_args()?.collect())),
        Some("help") => Ok(Command::Help),
        _ => Err(Usage(format!("there is no command {command:?}"))),
    }
}

/// The arguments of `run` and `check`.
fn parse_file(mut parser: Parser, command: &'static str) -> Result<Command, Usage> {
    let mut config = None;
    let mut print = false;
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Short('c') | Arg::Long("config") => {
                if config.replace(PathBuf::from(parser.value()?)).is_some() {
                    return Err(Usage("--config is given twice".into()));
                }
            }
            Arg::Long("print") if command == "check" => print = true,
            other => return Err(other.unexpected().into()),
        }
    }
    match config {
        Some(config) if command == "check" => Ok(Command::Check { config, print }),
        Some(config) => Ok(Command::Run { config }),
        None => Err(Usage(format!("`{command}` needs --config FILE"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(OsString::from)).map_err(|usage| usage.to_string())
    }

    #[test]
    fn commands_are_told_apart() {
        let config = PathBuf::from("f");
        for (line, expected) in [
            ("", Command::Demo { once: false }),
            ("--once", Command::Demo { once: true }),
            ("run --config f", Command::Run { config: config.clone() }),
            ("run --config=f", Command::Run { config: config.clone() }),
            ("run -c f", Command::Run { config: config.clone() }),
            ("check --config f", Command::Check { config: config.clone(), print: false }),
            ("check --print --config f", Command::Check { config, print: true }),
            ("--help", Command::Help),
            ("-h", Command::Help),
            ("help", Command::Help),
            ("run --help", Command::Help),
            ("--version", Command::Version),
            ("-V", Command::Version),
        ] {
            assert_eq!(parsed(line).as_ref(), Ok(&expected), "{line}");
        }
    }

    #[test]
    fn iptables_gets_its_arguments_as_they_are() {
        for rest in ["", "apply --uid 1337 --help", "print --inbound-ports=* -x -- --once"] {
            let expected = rest.split_whitespace().map(OsString::from).collect();
            let line = format!("iptables {rest}");
            assert_eq!(parsed(&line), Ok(Command::Iptables(expected)), "{line}");
        }
    }

    #[test]
    fn wrong_usage_is_said() {
        for (line, word) in [
            ("start", "\"start\""),
            ("--twice", "--twice"),
            ("--once run --config f", "run"),
            ("run", "--config"),
            ("run --config", "--config"),
            ("run --config f --config g", "twice"),
            ("run --config f --print", "--print"),
            ("check f", "f"),
        ] {
            let usage = parsed(line).unwrap_err();
            assert!(usage.contains(word) && usage.ends_with("see `sidecar --help`"), "{usage}");
        }
    }

    #[test]
    fn the_help_fits_a_terminal() {
        assert!(HELP.lines().all(|line| line.len() <= 80));
        assert!(HELP.lines().count() <= 24);
    }
}
