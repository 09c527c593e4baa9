//! Listeners: where connections come in, and what becomes of them.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use serde::{Serialize, Serializer};

use super::{
    super::{
        address::{Bind, Pattern, Source},
        value::choice,
        written,
    },
    http::{AccessLog, HttpOptions},
    tls::ListenerTls,
};

/// A listener that accepts on a socket.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Listener {
    /// Unique among all listeners; the `listener` label of the metrics.
    pub(crate) name: String,
    pub(crate) bind: Bind,
    /// Default: `outbound`.
    pub(crate) direction: Direction,
    #[serde(flatten)]
    pub(crate) routing: Routing,
    /// Whether each connection has to begin with a PROXY protocol header. Default: `off`.
    pub(crate) proxy_protocol: ProxyHeaderIn,
    #[serde(flatten)]
    pub(crate) connections: ConnectionOptions,
}

/// How connections are served, as listeners of either kind say it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ConnectionOptions {
    /// Default: `tcp`.
    pub(crate) protocol: Protocol,
    /// Cap on those that are open. Default: none.
    #[serde(serialize_with = "written::zero_for_none")]
    pub(crate) max_connections: Option<NonZeroUsize>,
    #[serde(flatten)]
    pub(crate) access_log: AccessLog,
    pub(crate) timeouts: ListenerTimeouts,
    /// Unless the protocol is `tcp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) http: Option<HttpOptions>,
    /// Default: none, whatever an accepting listener says of its own connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<ListenerTls>,
}

choice! {
    /// What connections carry.
    enum Protocol {
        /// Bytes.
        Tcp = "tcp",
        /// HTTP/1.1.
        Http = "http",
        /// Whichever of the two their first bytes look like.
        Auto = "auto",
    }
}

impl Protocol {
    pub(crate) fn may_be_http(self) -> bool {
        self != Self::Tcp
    }

    pub(crate) fn may_be_tcp(self) -> bool {
        self != Self::Http
    }
}

choice! {
    /// Which way a listener's connections go, seen from this host.
    enum Direction {
        Outbound = "outbound",
        /// Forwards only to this host's own addresses.
        Inbound = "inbound",
    }
}

/// How an accepting listener finds the target of a connection.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Routing {
    /// All of them go to the same target, which is never passthrough; with HTTP those that no route
    /// takes, and `None` is nowhere.
    Fixed {
        #[serde(skip_serializing_if = "Option::is_none")]
        cluster: Option<Target>,
    },
    /// By where the connection was going before it was redirected.
    OriginalDestination(Interception),
}

/// What becomes of redirected connections.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Interception {
    #[serde(rename = "original_dst")]
    pub(crate) lookup: Lookup,
    /// Where a connection goes that no destination matches.
    #[serde(flatten)]
    pub(crate) unmatched: Unmatched,
    /// How the listener's own passthrough connections are made.
    #[serde(flatten)]
    pub(crate) passthrough: Passthrough,
    #[serde(skip)]
    pub(crate) destinations: Vec<Destination>,
}

impl Interception {
    /// Where a connection goes that was *not* redirected; `None`: it is refused.
    pub(crate) fn direct(&self) -> Option<&Target> {
        match &self.unmatched {
            Unmatched::Cluster(Target::Passthrough) | Unmatched::Fallback(_) => None,
            Unmatched::Cluster(target) => Some(target),
        }
    }
}

choice! {
    /// How the original destination is found.
    enum Lookup {
        /// Asked of connection tracking (SO_ORIGINAL_DST).
        Redirect = "redirect",
        /// The local address of a transparent socket (IP_TRANSPARENT; needs CAP_NET_ADMIN).
        Tproxy = "tproxy",
    }
}

/// Where a redirected connection goes that no destination matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) enum Unmatched {
    /// The `cluster` that the listener names; direct connections are served from it as well.
    #[serde(rename = "cluster")]
    Cluster(Target),
    /// Default: passthrough. Direct connections are refused.
    #[serde(rename = "fallback")]
    Fallback(Fallback),
}

choice! {
    /// What `fallback` can be.
    enum Fallback {
        Passthrough = "passthrough",
        Blackhole = "blackhole",
    }
}

/// Where connections are forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// The cluster of this name; it exists.
    Cluster(String),
    /// The original destination.
    Passthrough,
    /// Nowhere: closed at once and counted.
    Blackhole,
}

impl Target {
    pub(crate) const PASSTHROUGH: &str = "passthrough";
    pub(crate) const BLACKHOLE: &str = "blackhole";

    pub(in super::super) fn named(name: &str) -> Self {
        match name {
            Self::PASSTHROUGH => Self::Passthrough,
            Self::BLACKHOLE => Self::Blackhole,
            name => Self::Cluster(name.to_owned()),
        }
    }

    /// The `cluster` label of the metrics.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Cluster(name) => name,
            Self::Passthrough => Self::PASSTHROUGH,
            Self::Blackhole => Self::BLACKHOLE,
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// How passthrough connections are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Passthrough {
    /// Default: for inbound 127.0.0.6 and ::6, so that the redirect rules let them pass; otherwise the
    /// kernel's choice. Naming an address of one family leaves the other at its default.
    pub(crate) source: Source,
    /// SO_MARK; needs CAP_NET_ADMIN. Default, `None` here and 0 in the file: none.
    #[serde(serialize_with = "written::no_mark_is_zero")]
    pub(crate) mark: Option<NonZeroU32>,
}

/// A listener without a socket: it takes the redirected connections that its pattern fits.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Destination {
    /// Unique among all listeners; the `listener` label of the metrics.
    pub(crate) name: String,
    #[serde(rename = "match")]
    pub(crate) pattern: Pattern,
    #[serde(rename = "cluster")]
    pub(crate) target: Option<Target>,
    /// `Some` exactly if the target is passthrough; what the file does not say here is taken from the
    /// accepting listener.
    #[serde(flatten)]
    pub(crate) passthrough: Option<Passthrough>,
    #[serde(flatten)]
    pub(crate) connections: ConnectionOptions,
}

choice! {
    /// The PROXY protocol on accepted connections.
    enum ProxyHeaderIn {
        Off = "off",
        /// Version 1 or 2, whichever comes; a connection without one is closed.
        Required = "required",
    }
}

/// How long a connection may take for things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ListenerTimeouts {
    /// Without a byte either way, and with HTTP without a request. Default, `None` here unless the
    /// protocol is `tcp`: 1 h for bytes, which HTTP relays after an upgrade or a CONNECT; 60 s for
    /// requests. `Some(None)`: for ever.
    #[serde(
        serialize_with = "written::in_words_or_off_if_any",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) idle: Option<Option<Duration>>,
    /// For relayed bytes, after one side has finished. Default: 1 h. `None`: for ever.
    #[serde(serialize_with = "written::in_words_or_off")]
    pub(crate) half_close: Option<Duration>,
    /// Unless the protocol is `tcp`.
    #[serde(flatten)]
    pub(crate) http: Option<HttpTimeouts>,
    /// For first bytes to come, with `auto` or permissive TLS; then the connection is relayed, since its
    /// server may speak first. Default: 100 ms.
    #[serde(serialize_with = "written::in_words_if_any", skip_serializing_if = "Option::is_none")]
    pub(crate) detect: Option<Duration>,
    /// For a TLS handshake, or for its first message where TLS is passed through. `None` without TLS.
    /// Default: 10 s.
    #[serde(serialize_with = "written::in_words_if_any", skip_serializing_if = "Option::is_none")]
    pub(crate) handshake: Option<Duration>,
}

impl ListenerTimeouts {
    pub(crate) const DETECT: Duration = Duration::from_millis(100);
    pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);
    /// Of relayed bytes.
    pub(crate) const IDLE: Duration = Duration::from_secs(3600);
    pub(crate) const HALF_CLOSE: Duration = Duration::from_secs(3600);
}

/// Those of HTTP. `None`: none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct HttpTimeouts {
    /// For the whole head of a request. Default: 10 s.
    #[serde(serialize_with = "written::in_words_or_off")]
    pub(crate) head: Option<Duration>,
    /// For a whole exchange, unless its route says otherwise. Default: none.
    #[serde(serialize_with = "written::in_words_or_off")]
    pub(crate) request: Option<Duration>,
    /// In which nothing moves in an exchange. Default: 5 min.
    #[serde(serialize_with = "written::in_words_or_off")]
    pub(crate) stream_idle: Option<Duration>,
    /// From which age on a connection's next answer is its last. Default: none.
    #[serde(serialize_with = "written::in_words_or_off")]
    pub(crate) max_age: Option<Duration>,
}

impl Default for HttpTimeouts {
    fn default() -> Self {
        Self {
            head: Some(Duration::from_secs(10)),
            request: None,
            stream_idle: Some(Duration::from_secs(300)),
            max_age: None,
        }
    }
}
