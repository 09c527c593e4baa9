//! Why `sidecar iptables` did not do it, what has been undone, and the remedy.

use std::fmt;
use std::io;
use std::process::ExitStatus;

use super::arguments::UsageError;

/// What went wrong.
#[derive(Debug)]
pub(super) enum Error {
    /// The command line means nothing.
    Usage(UsageError),
    /// The process may not change the network.
    NoNetAdmin,
    /// A program is not there.
    NoProgram { program: &'static str },
    /// A program could not be started or talked to.
    Start { program: &'static str, source: io::Error },
    /// A command has failed.
    Command { command: String, status: ExitStatus, stderr: String },
    /// What there was to say could not be written; all else is done.
    Output(io::Error),
    /// `apply` has failed, and has been undone.
    NotApplied { cause: Box<Error>, rollback: Rollback },
    /// `remove` has left something.
    NotRemoved(Vec<Error>),
}

/// What has become of a failed `apply`.
#[derive(Debug)]
pub(super) enum Rollback {
    /// It had changed nothing.
    NothingToUndo,
    /// These commands have led back to the former state.
    Complete(Vec<String>),
    /// Not all could be undone.
    Incomplete(Vec<Error>),
}

impl Error {
    /// 2 for wrong usage, 1 for every other failure.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            _ => 1,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) => error.fmt(f),
            Self::NoNetAdmin => f.write_str(
                "changing the rules needs CAP_NET_ADMIN: run as root, in a pod as an init \
                 container with the capabilities NET_ADMIN and NET_RAW",
            ),
            Self::NoProgram { program } => {
                let package = if *program == "ip" { "iproute2" } else { "iptables" };
                write!(f, "`{program}` is not in PATH: install the package {package}")
            }
            Self::Start { program, source } => write!(f, "running `{program}`: {source}"),
            Self::Command { command, status, stderr } => {
                write!(f, "`{command}` failed ({status}): {}", stderr.trim())
            }
            Self::Output(source) => write!(f, "writing to standard output: {source}"),
            Self::NotApplied { cause, rollback } => write!(f, "not applied: {cause}\n{rollback}"),
            Self::NotRemoved(failures) => {
                f.write_str("not everything is removed:")?;
                lines(f, failures)?;
                f.write_str("\nThe rest is. Running `remove` again is safe.")
            }
        }
    }
}

impl fmt::Display for Rollback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingToUndo => f.write_str("Nothing had been changed."),
            Self::Complete(undone) => {
                f.write_str("Rolled back, all is as before:")?;
                lines(f, undone)
            }
            Self::Incomplete(failures) => {
                f.write_str("Rolling back failed, the rules are incomplete:")?;
                lines(f, failures)?;
                f.write_str("\nRun `sidecar iptables remove` to take away what is left.")
            }
        }
    }
}

fn lines(f: &mut fmt::Formatter<'_>, lines: &[impl fmt::Display]) -> fmt::Result {
    lines.iter().try_for_each(|line| write!(f, "\n  {line}"))
}
