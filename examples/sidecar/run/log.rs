//! The log: lines on stderr, through a filter that can change while the sidecar runs. In: what the
//! library and the sidecar trace. Out: text or JSON, a line an event. It is installed once a process.

use std::{
    fmt,
    io::{self, IsTerminal},
};

use tracing_subscriber::{
    EnvFilter, Registry, fmt as lines,
    layer::SubscriberExt,
    reload::{self, Handle},
    util::SubscriberInitExt,
};

use crate::config::schema::LogFormat;

/// The filter of the log that is installed.
#[derive(Clone)]
pub(super) struct Log(Handle<EnvFilter, Registry>);

/// A filter that cannot be used.
#[derive(Debug)]
pub(super) struct BadFilter {
    filter: String,
    why: String,
}

impl fmt::Display for BadFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { filter, why } = self;
        write!(
            f,
            "{filter:?} is no log filter ({why}): write a level, as in \"debug\", or \
             \"info,evenkeel=trace\""
        )
    }
}

impl std::error::Error for BadFilter {}

impl Log {
    /// Installs the log of this process.
    ///
    /// # Errors
    /// A filter that does not parse, or a log that is installed already.
    pub(super) fn install(filter: &str, format: LogFormat) -> Result<Log, BadFilter> {
        let (layer, handle) = reload::Layer::new(parse(filter)?);
        let registry = tracing_subscriber::registry().with(layer);
        let lines = lines::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
        let installed = match format {
            LogFormat::Text => registry.with(lines).try_init(),
            LogFormat::Json => registry.with(lines.json()).try_init(),
        };
        installed.map_err(|error| bad(filter, &error))?;
        Ok(Log(handle))
    }

    /// Lets through what this filter does from now on.
    ///
    /// # Errors
    /// A filter that does not parse; the old one stays.
    pub(super) fn set(&self, filter: &str) -> Result<(), BadFilter> {
        self.0.reload(parse(filter)?).map_err(|error| bad(filter, &error))
    }
}

fn parse(filter: &str) -> Result<EnvFilter, BadFilter> {
    EnvFilter::try_new(filter).map_err(|error| bad(filter, &error))
}

fn bad(filter: &str, why: &dyn fmt::Display) -> BadFilter {
    BadFilter { filter: filter.to_owned(), why: why.to_string() }
}
