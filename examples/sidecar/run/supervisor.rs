//! Looks after a running proxy. In: events, one at a time. Out: reloads, a drain, and how it all ended.
//! It owns the proxy. It never blocks on a drain, which has a thread of its own: whoever is tired of
//! waiting can still end it.

use std::{
    collections::HashSet,
    fmt::Write as _,
    io,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, Sender},
    },
    thread,
    time::Duration,
};

use evenkeel::{Drain, Drained, Error, Proxy, telemetry::ReloadResult};

use super::{admin::InForce, build, event::Event, kept::Kept, log::Log};
use crate::{
    config::{self, Config, Host, reload_refusals},
    print,
};

/// How long the answers of the admin server may take where the process ends in the middle of a drain.
const LAST_ANSWERS: Duration = Duration::from_millis(200);

/// How long the last lines of the access logs may take to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

/// How a sidecar ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was drained, or was told to end without.
    AsAsked,
    /// A second signal ended it while it drained.
    CutShort,
}

/// Where it stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining {
        exit: bool,
    },
    /// Drained, and told to stay.
    Drained,
}

pub(super) struct Supervisor {
    file: PathBuf,
    /// How many files may be open; `None`: any number.
    open_files: Option<u64>,
    in_force: InForce,
    log: Log,
    proxy: Arc<Proxy>,
    kept: Kept,
    /// To hear of the end of a drain.
    events: Sender<Event>,
    phase: Phase,
    terminations: u32,
    /// The lines that have told where it listens.
    announced: HashSet<String>,
}

impl Supervisor {
    pub(super) fn new(
        file: PathBuf,
        open_files: Option<u64>,
        in_force: InForce,
        log: Log,
        proxy: Proxy,
        kept: Kept,
        events: Sender<Event>,
    ) -> Supervisor {
        Supervisor {
            file,
            open_files,
            in_force,
            log,
            proxy: Arc::new(proxy),
            kept,
            events,
            phase: Phase::Serving,
            terminations: 0,
            announced: HashSet::new(),
        }
    }

    /// Does what it is told until it is told to end. The proxy has ended when this returns.
    pub(super) fn run(mut self, events: Receiver<Event>) -> Ended {
        self.announce();
        let ended = events.iter().find_map(|event| self.handle(event)).unwrap_or(Ended::AsAsked);
        // Whoever waits for an answer to what is still queued learns that none will come.
        drop(events);
        match Arc::into_inner(self.proxy) {
            // Its admin server gives the answers that are on their way.
            Some(proxy) => drop(proxy),
            // A drain goes on, and ends with the process.
            None => thread::sleep(LAST_ANSWERS),
        }
        self.kept.logs().flush(LAST_LINES);
        ended
    }

    /// Handles one event; `Some` if it was the last one.
    fn handle(&mut self, event: Event) -> Option<Ended> {
        match event {
            Event::Terminate => {
                self.terminations += 1;
                if self.terminations > 1 {
                    tracing::warn!("ending at once, before the drain is over");
                    return Some(Ended::CutShort);
                }
                self.drain(true)
            }
            Event::Drain { exit } => self.drain(exit),
            Event::Drained(drained) => self.drained(drained),
            Event::Quit => {
                tracing::warn!("told to quit: ending at once, without a drain");
                Some(Ended::AsAsked)
            }
            Event::Reload(reply) => {
                let result = self.reload();
                if let Some(reply) = reply {
                    let _ = reply.send(result);
                }
                None
            }
            Event::ReopenLogs => {
                match self.kept.logs().reopen() {
                    true => tracing::info!("opening the files of the access logs again"),
                    false => tracing::info!("there is no file to open again"),
                }
                None
            }
        }
    }

    fn drain(&mut self, exit: bool) -> Option<Ended> {
        match self.phase {
            Phase::Serving => {
                self.phase = Phase::Draining { exit };
                self.start_drain();
                None
            }
            Phase::Draining { exit: already } => {
                self.phase = Phase::Draining { exit: exit || already };
                None
            }
            Phase::Drained => exit.then_some(Ended::AsAsked),
        }
    }

    fn start_drain(&self) {
        let config = self.in_force.get();
        let drain =
            Drain::within(config.drain.deadline).keep_accepting(config.drain.keep_accepting);
        tracing::info!(
            "draining: accepting for {:?} more, then {:?} for connections to finish",
            drain.keep_accepting,
            drain.deadline
        );
        let (proxy, events) = (Arc::clone(&self.proxy), self.events.clone());
        let run = move || {
            let drained = proxy.drain(drain);
            // The supervisor is to hold the proxy alone once it hears of it.
            drop(proxy);
            let _ = events.send(Event::Drained(drained));
        };
        if let Err(error) = thread::Builder::new().name("drain".to_owned()).spawn(run) {
            tracing::error!("cannot start a thread to drain: {error}; ending at once");
            let _ = self.events.send(Event::Quit);
        }
    }

    fn drained(&mut self, drained: Drained) -> Option<Ended> {
        let _ = drained.report();
        match self.phase {
            Phase::Draining { exit: false } => {
                self.phase = Phase::Drained;
                None
            }
            _ => Some(Ended::AsAsked),
        }
    }

    /// Reads the file again and makes it the configuration, or leaves all as it is. Gives what is to be
    /// said about it: warnings, or why it was refused.
    fn reload(&mut self) -> Result<String, String> {
        let loaded = config::load(&self.file, &Host::current())
            .map_err(|problems| problems.to_string())
            .and_then(|loaded| self.refuse_unchangeable(&loaded.config).map(|()| loaded))
            .and_then(|loaded| self.kept.credentials().look().map(|()| loaded));
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(refusal) => {
                self.proxy.registry().proxy().reloaded(ReloadResult::Refused);
                return Err(refused(refusal));
            }
        };
        self.reload_proxy(&loaded.config)
            .map_err(|error| refused(format!("{}: error: {error}\n", self.file.display())))?;
        self.apply_log(&loaded.config);
        self.in_force.set(loaded.config, &self.kept);
        self.announce();
        let warnings = loaded.warnings.to_string();
        tracing::info!(file = %self.file.display(), "reloaded");
        if !warnings.is_empty() {
            tracing::warn!("{}", warnings.trim_end());
        }
        Ok(warnings)
    }

    fn reload_proxy(&mut self, new: &Config) -> Result<(), Error> {
        let prepared = self.kept.prepare(new).inspect_err(|_| {
            self.proxy.registry().proxy().reloaded(ReloadResult::Refused);
        })?;
        let reload = build::reload(&self.in_force.get(), new, &prepared)?
            .limits(build::limits(new, self.open_files));
        self.proxy.reload(reload)?;
        self.kept.take(prepared, &self.proxy);
        Ok(())
    }

    fn refuse_unchangeable(&self, new: &Config) -> Result<(), String> {
        let refusals = reload_refusals(&self.in_force.get(), new);
        let mut text = String::new();
        for refusal in &refusals {
            let _ = writeln!(text, "{}: error: {refusal}", self.file.display());
        }
        if refusals.is_empty() { Ok(()) } else { Err(text) }
    }

    /// A filter that was set by hand stays until the file has another one than before.
    fn apply_log(&self, new: &Config) {
        let old = self.in_force.get();
        if new.log_format != old.log_format {
            self.log.set_format(new.log_format);
        }
        if new.log != old.log
            && let Err(error) = self.log.set(&new.log)
        {
            tracing::error!("the log's filter stays as it is: {error}");
        }
    }

    /// Says where it listens, as far as that has not been said.
    fn announce(&mut self) {
        let bound = self.proxy.local_addrs().into_iter();
        let mut lines: Vec<_> =
            bound.map(|bound| format!("listening {} {}\n", bound.name, bound.address)).collect();
        let admin = self.proxy.admin_addrs().iter();
        lines.extend(admin.map(|address| format!("admin {address}\n")));
        let telemetry = self.proxy.telemetry_addrs().into_iter();
        lines.extend(telemetry.map(|address| format!("telemetry {address}\n")));
        for line in lines {
            if !self.announced.contains(&line) {
                print(io::stdout(), &line);
                self.announced.insert(line);
            }
        }
    }
}

fn refused(refusal: String) -> String {
    tracing::error!("the new configuration is refused, the old one stays:\n{}", refusal.trim_end());
    refusal
}
