//! A configuration that has been read and checked: every default filled in, every reference resolved.
//!
//! In: built by `check` alone. Out: plain owned values that the rest of the sidecar takes as they are,
//! and text that reads back as an equal configuration. Later code never checks anything again.

use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use serde::{Serialize, Serializer};

use super::{
    address::{Bind, CpuList, Pattern, Source},
    value::choice,
    written,
};

/// What the sidecar runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Config {
    /// How many shards, or on which CPUs. Default: one a usable CPU. Each shard costs a thread, a ring
    /// (about 100 KiB of locked memory) and its buffers.
    #[serde(flatten)]
    pub(crate) shards: Shards,
    /// Default: `auto`.
    pub(crate) pin: Pin,
    /// Acceptor threads, 1 to 64. Default: 1, which is enough up to some 80,000 connections a second.
    pub(crate) acceptors: usize,
    /// Default: `least-connections`.
    pub(crate) balance: Balance,
    /// The admin server. Default: off. It can stop the sidecar, so it belongs on loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) admin: Option<SocketAddr>,
    /// The read-only part of the admin server, for those who cannot reach loopback. Default: off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) telemetry: Option<SocketAddr>,
    /// A filter in the syntax of `tracing_subscriber::EnvFilter`; known to parse. Default: `info`.
    pub(crate) log: String,
    /// Default: `text`.
    pub(crate) log_format: LogFormat,
    pub(crate) limits: Limits,
    pub(crate) drain: Drain,
    /// The accepting listeners in the order of the file, each with its destinations.
    #[serde(rename = "listener", serialize_with = "written::listener_tables")]
    pub(crate) listeners: Vec<Listener>,
    #[serde(rename = "cluster")]
    pub(crate) clusters: Vec<Cluster>,
}

impl Config {
    /// The configuration as a JSON object with the keys of the file, for `GET /config_dump`. It holds
    /// no secrets.
    pub(crate) fn dump(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }

    /// The configuration as a file that reads back as an equal one.
    pub(crate) fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

/// How many shards there are, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) enum Shards {
    /// This many, at most 1024; 0: one a usable CPU (affinity mask cut by the cgroup quota).
    #[serde(rename = "shards")]
    Count(usize),
    /// One on each of these CPUs.
    #[serde(rename = "cpus")]
    Cpus(CpuList),
}

choice! {
    /// Whether a shard stays on one CPU.
    enum Pin {
        /// One to one when the shards cover the whole mask or `cpus` is given; otherwise every shard
        /// keeps the mask.
        Auto = "auto",
        Always = "always",
        Never = "never",
    }
}

choice! {
    /// Who gets an accepted connection.
    enum Balance {
        LeastConnections = "least-connections",
        LeastBusy = "least-busy",
        RoundRobin = "round-robin",
        /// One SO_REUSEPORT socket a shard, and the kernel chooses; there is no acceptor.
        Kernel = "kernel",
    }
}

choice! {
    /// How log lines look.
    enum LogFormat {
        Text = "text",
        Json = "json",
    }
}

/// Caps on open downstream connections. One above a cap is closed at once and counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Limits {
    /// In all. Default, `None` here and 0 in the file: (RLIMIT_NOFILE − reserve) / 2.
    #[serde(serialize_with = "written::zero_for_none")]
    pub(crate) connections: Option<NonZeroUsize>,
    /// On each shard. Default: none.
    #[serde(serialize_with = "written::zero_for_none")]
    pub(crate) connections_per_shard: Option<NonZeroUsize>,
}

/// How the sidecar stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Drain {
    /// How long it still accepts once it is not ready any more. Default: 0.
    #[serde(serialize_with = "written::in_words")]
    pub(crate) keep_accepting: Duration,
    /// How long connections may then take to finish before they are cut. Default: 30 s.
    #[serde(serialize_with = "written::in_words")]
    pub(crate) deadline: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { keep_accepting: Duration::ZERO, deadline: Duration::from_secs(30) }
    }
}

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
    /// Cap on open connections of this listener. Default: none.
    #[serde(serialize_with = "written::zero_for_none")]
    pub(crate) max_connections: Option<NonZeroUsize>,
    /// Whether each connection has to begin with a PROXY protocol header. Default: `off`.
    pub(crate) proxy_protocol: ProxyHeaderIn,
    pub(crate) timeouts: ListenerTimeouts,
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
    /// All of them go to the same target, which is never passthrough.
    Fixed { cluster: Target },
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

    pub(super) fn named(name: &str) -> Self {
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
    pub(crate) target: Target,
    /// `Some` exactly if the target is passthrough; what the file does not say here is taken from the
    /// accepting listener.
    #[serde(flatten)]
    pub(crate) passthrough: Option<Passthrough>,
    /// Cap on open connections of this destination. Default: none.
    #[serde(serialize_with = "written::zero_for_none")]
    pub(crate) max_connections: Option<NonZeroUsize>,
    pub(crate) timeouts: ListenerTimeouts,
}

choice! {
    /// The PROXY protocol on accepted connections.
    enum ProxyHeaderIn {
        Off = "off",
        /// Version 1 or 2, whichever comes; a connection without one is closed.
        Required = "required",
    }
}

/// How long a connection may be quiet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ListenerTimeouts {
    /// Without a byte either way. Default: 1 h. `None`: for ever.
    #[serde(serialize_with = "written::in_words_or_off")]
    pub(crate) idle: Option<Duration>,
    /// After one side has finished. Default: 1 h. `None`: for ever.
    #[serde(serialize_with = "written::in_words_or_off")]
    pub(crate) half_close: Option<Duration>,
}

impl Default for ListenerTimeouts {
    fn default() -> Self {
        let hour = Duration::from_secs(3600);
        Self { idle: Some(hour), half_close: Some(hour) }
    }
}

/// Addresses that serve the same.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Cluster {
    /// Unique among the clusters; the `cluster` label of the metrics.
    pub(crate) name: String,
    /// Tried in this order until one connects; at least one.
    pub(crate) endpoints: Vec<SocketAddr>,
    /// Default: the kernel's choice.
    pub(crate) source: ClusterSource,
    /// SO_MARK; needs CAP_NET_ADMIN. Default, `None` here and 0 in the file: none.
    #[serde(serialize_with = "written::no_mark_is_zero")]
    pub(crate) mark: Option<NonZeroU32>,
    /// The PROXY protocol header that each connection begins with. Default: `off`.
    pub(crate) proxy_protocol: ProxyHeaderOut,
    pub(crate) timeouts: ClusterTimeouts,
}

/// What the connections to a cluster are sent from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClusterSource {
    Address(Source),
    /// The client's own address (IP_TRANSPARENT; needs CAP_NET_ADMIN, and a route for the answers).
    Client,
}

impl ClusterSource {
    pub(super) const CLIENT: &str = "client";
}

impl Default for ClusterSource {
    fn default() -> Self {
        Self::Address(Source::default())
    }
}

impl Serialize for ClusterSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Address(source) => source.serialize(serializer),
            Self::Client => serializer.serialize_str(Self::CLIENT),
        }
    }
}

choice! {
    /// The PROXY protocol on upstream connections.
    enum ProxyHeaderOut {
        Off = "off",
        V1 = "v1",
        V2 = "v2",
    }
}

/// How long a cluster may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ClusterTimeouts {
    /// For one endpoint to take the connection; then the next one is tried. Default: 5 s.
    #[serde(serialize_with = "written::in_words")]
    pub(crate) connect: Duration,
}

impl Default for ClusterTimeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5) }
    }
}
