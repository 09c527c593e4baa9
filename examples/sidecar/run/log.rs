//! The log: lines on stderr, whose filter and format can change while the sidecar runs. In: what the
//! library and the sidecar trace. Out: text or JSON, a line an event. It is installed once a process.

use std::{
    fmt,
    io::{self, IsTerminal},
};

use tracing_subscriber::{
    EnvFilter, Layer, Registry, fmt as lines,
    layer::{Layered, SubscriberExt},
    reload::{self, Handle},
    util::SubscriberInitExt,
};

use crate::config::{log_filter::misspelt_level, schema::LogFormat};

/// What passes the filter.
type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Lines = Box<dyn Layer<Filtered> + Send + Sync>;

/// The log that is installed.
#[derive(Clone)]
pub(super) struct Log {
    filter: Handle<EnvFilter, Registry>,
    lines: Handle<Lines, Filtered>,
}

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
        let (filter_layer, filter_handle) = reload::Layer::new(parse(filter)?);
        let (lines_layer, lines_handle) = reload::Layer::new(in_format(format));
        tracing_subscriber::registry()
            .with(filter_layer)
            .with(lines_layer)
            .try_init()
            .map_err(|error| bad(filter, &error))?;
        Ok(Log { filter: filter_handle, lines: lines_handle })
    }

    /// Lets through what this filter does from now on.
    ///
    /// # Errors
    /// A filter that does not parse; the old one stays.
    pub(super) fn set(&self, filter: &str) -> Result<(), BadFilter> {
        self.filter.reload(parse(filter)?).map_err(|error| bad(filter, &error))
    }

    /// Writes lines in this format from now on.
    pub(super) fn set_format(&self, format: LogFormat) {
        // It fails only where no log is installed, and then nobody reads it.
        let _ = self.lines.reload(in_format(format));
    }
}

fn in_format(format: LogFormat) -> Lines {
    let lines = lines::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    }
}

fn parse(filter: &str) -> Result<EnvFilter, BadFilter> {
    if let Some(wrong) = misspelt_level(filter) {
        return Err(bad(filter, &wrong));
    }
    EnvFilter::try_new(filter).map_err(|error| bad(filter, &error))
}

fn bad(filter: &str, why: &dyn fmt::Display) -> BadFilter {
    BadFilter { filter: filter.to_owned(), why: why.to_string() }
}
