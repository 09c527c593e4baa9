//! The access logs: one for each place that lines go to, which all listeners that name it share.
//!
//! In: the places that a configuration names. Out: logs, open for as long as one does. A log that stays
//! keeps its file open over a reload.

use std::{
    collections::HashMap,
    io,
    path::Path,
    time::{Duration, Instant},
};

use evenkeel::{
    Error,
    telemetry::access_log::{self, Filter, Format},
};

use crate::config::{
    Config,
    schema::{AccessLog, AccessLogFormat, LogSink, Routing},
};

/// The logs of one configuration. `None` is standard output.
#[derive(Clone, Default)]
pub(super) struct AccessLogs(HashMap<LogSink, access_log::AccessLog>);

impl AccessLogs {
    /// The logs of `config`, with those of this value that it still has.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub(super) fn next(&self, config: &Config) -> Result<AccessLogs, Error> {
        let mut next = AccessLogs::default();
        for AccessLog { sink, .. } in all(config) {
            if *sink == LogSink::Off || next.0.contains_key(sink) {
                continue;
            }
            let log = match self.0.get(sink) {
                Some(known) => known.clone(),
                None => open(sink)?,
            };
            next.0.insert(sink.clone(), log);
        }
        Ok(next)
    }

    /// The log that a listener asks for.
    pub(super) fn get(&self, wanted: &AccessLog) -> Option<access_log::AccessLog> {
        let log = self.0.get(&wanted.sink)?.clone();
        let format = match wanted.format {
            AccessLogFormat::Istio => Format::istio(),
            AccessLogFormat::Json => Format::json(),
        };
        Some(log.format(format).filter(filter(wanted)))
    }

    /// Opens the files again. Whether there are any.
    pub(super) fn reopen(&self) -> bool {
        let mut files = 0;
        for (sink, log) in &self.0 {
            if matches!(sink, LogSink::File(_)) {
                log.reopen();
                files += 1;
            }
        }
        files > 0
    }

    /// Waits until what was logged is written, for at most `within` in all.
    pub(super) fn flush(&self, within: Duration) {
        let deadline = Instant::now() + within;
        for log in self.0.values() {
            if !log.flush(deadline.saturating_duration_since(Instant::now())) {
                tracing::warn!("lines of the access log could not be written in time");
            }
        }
    }
}

fn filter(wanted: &AccessLog) -> Filter {
    let mut filter = Filter::all().sample(wanted.sample);
    if let Some(only) = &wanted.only {
        if only.errors {
            filter = filter.errors();
        }
        if let Some(slower_than) = only.slower_than {
            filter = filter.slower_than(slower_than);
        }
    }
    filter
}

fn all(config: &Config) -> impl Iterator<Item = &AccessLog> {
    config.listeners.iter().flat_map(|listener| {
        let destinations = match &listener.routing {
            Routing::Fixed { .. } => &[][..],
            Routing::OriginalDestination(interception) => &interception.destinations,
        };
        let destinations = destinations.iter().map(|it| &it.connections);
        std::iter::once(&listener.connections).chain(destinations).map(|it| &it.access_log)
    })
}

fn open(sink: &LogSink) -> Result<access_log::AccessLog, Error> {
    let (opened, place) = match sink {
        LogSink::File(path) => (access_log::AccessLog::file(path), path.as_path()),
        LogSink::Stdout | LogSink::Off => (access_log::AccessLog::stdout(), Path::new("stdout")),
    };
    opened.map_err(|error: io::Error| {
        Error::Invalid(format!("access log {}: cannot be opened: {error}", place.display()))
    })
}
