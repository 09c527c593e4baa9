//! A configuration that has been read and checked: every default filled in, every reference resolved.
//!
//! In: built by `check` alone. Out: plain owned values that the rest of the sidecar takes as they are,
//! and text that reads back as an equal configuration. Later code never checks anything again.

mod cluster;
pub(crate) mod http;
mod listener;
mod route;
mod tls;

use std::{net::SocketAddr, num::NonZeroUsize, time::Duration};

use serde::Serialize;

pub(crate) use self::{
    cluster::{
        Cluster, ClusterLimits, ClusterRetry, ClusterSource, ClusterTimeouts, Endpoint, Health,
        Outlier, Policy, ProxyHeaderOut,
    },
    http::{AccessLog, AccessLogFormat, HttpOptions, LogSink, LoggedOnly},
    listener::{
        ConnectionOptions, Destination, Direction, Fallback, HttpTimeouts, Interception, Listener,
        ListenerTimeouts, Lookup, Passthrough, Protocol, ProxyHeaderIn, Routing, Target, Unmatched,
    },
    route::{
        HeaderChanges, HeaderMap, PathRule, Redirect, Respond, RetryOn, Rewrite, Route,
        RouteAction, RouteRetry, Scheme, WeightedCluster,
    },
    tls::{ClusterMode, ClusterTls, ListenerMode, ListenerTls, Own, Roots, Terminated, Trust},
};
use super::{address::CpuList, value::choice, written};

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
    /// The routes of all listeners, in the order of the file.
    #[serde(rename = "route", skip_serializing_if = "Vec::is_empty")]
    pub(crate) routes: Vec<Route>,
    #[serde(rename = "cluster")]
    pub(crate) clusters: Vec<Cluster>,
}

impl Config {
    /// The configuration as a JSON object with the keys of the file, for `GET /config_dump`. It holds
    /// no secrets: keys are shown by the paths of their files.
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
