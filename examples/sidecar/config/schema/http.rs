//! What HTTP listeners may say besides: limits of messages, what they tell upstreams about clients, and
//! the access log, which other listeners write as well.

use std::{path::PathBuf, time::Duration};

use serde::{Serialize, Serializer};

use super::super::{value::choice, written};

/// How messages are taken and passed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct HttpOptions {
    /// The longest head of a request, in bytes. Default: 64 KiB, which a connection takes only while
    /// it receives a head in pieces.
    #[serde(serialize_with = "written::bytes")]
    pub(crate) max_head: u64,
    /// The most fields in it, 1 to 256. Default: 100.
    pub(crate) max_fields: usize,
    /// The longest body of a request, in bytes. Default: any.
    #[serde(serialize_with = "written::bytes_or_off")]
    pub(crate) max_body: Option<u64>,
    /// Default: `append`.
    pub(crate) forwarded: Forwarded,
    /// The name in `Via` fields. Default: none are added.
    #[serde(serialize_with = "written::text_or_off")]
    pub(crate) via: Option<String>,
    /// Default: `refuse`.
    pub(crate) paths: PathPolicy,
    /// Whether CONNECT is taken: a client that is routed to a cluster by the host and port that it
    /// names gets a connection to one of its endpoints. Default: no.
    pub(crate) connect: bool,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            max_head: 64 << 10,
            max_fields: 100,
            max_body: None,
            forwarded: Forwarded::Append,
            via: None,
            paths: PathPolicy::Refuse,
            connect: false,
        }
    }
}

choice! {
    /// How far clients are believed that say who they are (`X-Forwarded-For` and the like).
    enum Forwarded {
        /// The client's address is put behind what came.
        Append = "append",
        /// What came is dropped: for clients that are nobody's.
        Replace = "replace",
        /// What came stays as it is: behind a proxy that has seen to it.
        Trust = "trust",
    }
}

choice! {
    /// What becomes of paths with dot segments.
    enum PathPolicy {
        Refuse = "refuse",
        Resolve = "resolve",
    }
}

/// Where a listener logs its requests, or its relayed connections, and how.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct AccessLog {
    /// Default: `off`.
    #[serde(rename = "access_log")]
    pub(crate) sink: LogSink,
    /// Default: `istio`.
    #[serde(rename = "access_log_format")]
    pub(crate) format: AccessLogFormat,
    /// The share of them that gets a line, above 0 and up to 1, drawn at random. Default: 1.
    #[serde(rename = "access_log_sample")]
    pub(crate) sample: f64,
    /// Which of them get lines; the sample is taken of those. Default: all.
    #[serde(rename = "access_log_only", skip_serializing_if = "Option::is_none")]
    pub(crate) only: Option<LoggedOnly>,
}

/// What is logged where not all is: what is one of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LoggedOnly {
    /// A status of 500 or more, or a flag. Default: no.
    pub(crate) errors: bool,
    /// What took longer. Default: nothing.
    #[serde(serialize_with = "written::in_words_if_any", skip_serializing_if = "Option::is_none")]
    pub(crate) slower_than: Option<Duration>,
}

/// Where lines of an access log go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum LogSink {
    Off,
    Stdout,
    /// Appended to this file; absolute.
    File(PathBuf),
}

impl LogSink {
    pub(in super::super) const OFF: &str = "off";
    pub(in super::super) const STDOUT: &str = "stdout";
}

impl Serialize for LogSink {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_str(Self::OFF),
            Self::Stdout => serializer.serialize_str(Self::STDOUT),
            Self::File(path) => serializer.collect_str(&path.display()),
        }
    }
}

choice! {
    /// How the lines look.
    enum AccessLogFormat {
        /// The text that Istio's proxies write.
        Istio = "istio",
        /// The same fields as JSON, an object a line.
        Json = "json",
    }
}
