//! `sidecar run`: a configuration file becomes a proxy that serves until it is told to end.
//!
//! In: the file, signals, the admin server's requests. Out: on stdout a line for each listener once it
//! serves (`listening NAME ADDRESS`) and for the admin server (`admin ADDRESS`, `telemetry ADDRESS`), on
//! stderr the log, and an exit code. It owns the process: signals, the log, the limit of open files are
//! set here and nowhere in the library.

mod access_logs;
mod admin;
mod build;
mod clusters;
mod credentials;
mod event;
mod kept;
mod log;
mod open_files;
mod routes;
mod services;
mod status;
mod supervisor;

use std::{env, fmt, io, path::Path, process::ExitCode, sync::mpsc};

use evenkeel::{Builder, ring::Capabilities};

use self::{
    admin::InForce,
    kept::{Kept, Prepared},
    log::{BadFilter, Log},
    supervisor::{Ended, Supervisor},
};
use crate::{
    config::{self, Config, Host, Loaded},
    fail, print,
};

/// Names an older kernel, whose io_uring is then used and no more: `6.1` or `6.12`. For tests, which
/// find out with it what a newer kernel hides.
const KERNEL: &str = "EVENKEEL_KERNEL";

/// Runs the configuration of a file until the sidecar is told to end.
pub(crate) fn main(file: &Path) -> ExitCode {
    let loaded = match config::load(file, &Host::current()) {
        Ok(loaded) => loaded,
        Err(problems) => {
            print(io::stderr(), problems);
            return ExitCode::FAILURE;
        }
    };
    match run(file, loaded) {
        Ok(Ended::AsAsked) => ExitCode::SUCCESS,
        Ok(Ended::CutShort) => ExitCode::FAILURE,
        Err(error) => fail(error),
    }
}

fn run(file: &Path, Loaded { config, warnings }: Loaded) -> Result<Ended, CannotRun> {
    let log = Log::install(&config.log, config.log_format)?;
    let warnings = warnings.to_string();
    if !warnings.is_empty() {
        tracing::warn!("{}", warnings.trim_end());
    }
    let (sender, events) = mpsc::channel();
    event::from_signals(sender.clone()).map_err(CannotRun::system("taking over signals"))?;
    // With it goes how many connections there may be.
    let open_files =
        open_files::raise().map_err(CannotRun::system("raising the limit of open files"))?;
    let mut kept = Kept::new();
    let prepared = kept.prepare(&config)?;
    let builder = builder(&config, &prepared, open_files)?;
    let in_force = InForce::new(config, &prepared);
    let proxy = admin::routes(builder, &sender, &in_force, &log).start()?;
    kept.take(prepared, &proxy);
    let (shards, driver) = (proxy.shards().len(), proxy.driver().name());
    tracing::info!(file = %file.display(), shards, driver, "serving");
    let supervisor =
        Supervisor::new(file.to_owned(), open_files, in_force, log, proxy, kept, sender);
    Ok(supervisor.run(events))
}

fn builder(
    config: &Config,
    prepared: &Prepared,
    open_files: Option<u64>,
) -> Result<Builder, CannotRun> {
    let builder = build::proxy(config, prepared)?.limits(build::limits(config, open_files));
    match env::var_os(KERNEL) {
        None => Ok(builder),
        Some(kernel) if kernel == "6.1" => Ok(builder.capabilities(Capabilities::LINUX_6_1)),
        Some(kernel) if kernel == "6.12" => Ok(builder.capabilities(Capabilities::LINUX_6_12)),
        Some(kernel) => Err(CannotRun::Kernel(kernel.to_string_lossy().into_owned())),
    }
}

/// Why a configuration that is in order does not run.
#[derive(Debug)]
enum CannotRun {
    Log(BadFilter),
    Proxy(evenkeel::Error),
    Kernel(String),
    System { doing: &'static str, source: io::Error },
}

impl CannotRun {
    fn system(doing: &'static str) -> impl FnOnce(io::Error) -> CannotRun {
        move |source| CannotRun::System { doing, source }
    }
}

impl fmt::Display for CannotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CannotRun::Log(error) => error.fmt(f),
            CannotRun::Proxy(error) => error.fmt(f),
            CannotRun::Kernel(kernel) => {
                write!(f, "{KERNEL} is {kernel:?}: write 6.1 or 6.12, or leave it out")
            }
            CannotRun::System { doing, source } => write!(f, "{doing}: {source}"),
        }
    }
}

impl std::error::Error for CannotRun {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CannotRun::Log(error) => Some(error),
            CannotRun::Proxy(error) => Some(error),
            CannotRun::Kernel(_) => None,
            CannotRun::System { source, .. } => Some(source),
        }
    }
}

impl From<BadFilter> for CannotRun {
    fn from(error: BadFilter) -> CannotRun {
        CannotRun::Log(error)
    }
}

impl From<evenkeel::Error> for CannotRun {
    fn from(error: evenkeel::Error) -> CannotRun {
        CannotRun::Proxy(error)
    }
}
