//! Every key that a configuration may have, section by section. In: nothing. Out: what is known here,
//! and what is known but belongs to a feature that this build lacks. Never looks at a file.

use std::fmt;

/// What a key or value needs that this build does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Feature {
    Epoll,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Epoll => "the epoll driver",
        })
    }
}

impl Feature {
    /// The refusal of something that needs this feature. It is refused even where it asks for what
    /// happens anyway, so that a configuration never seems to do more than it does.
    pub(super) fn missing_for(self, what: impl fmt::Display) -> String {
        format!("{what} needs {self}, which this build does not have: remove it")
    }
}

/// The keys of one kind of section.
#[derive(Debug)]
pub(super) struct Keys {
    /// How the section is written in the file; empty for the top level.
    pub(super) section: &'static str,
    pub(super) built: &'static [&'static str],
    pub(super) later: &'static [(&'static str, Feature)],
}

impl Keys {
    pub(super) fn all(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.built.iter().copied().chain(self.later.iter().map(|(key, _)| *key))
    }

    pub(super) fn later(&self, key: &str) -> Option<Feature> {
        self.later.iter().find(|(later, _)| *later == key).map(|(_, feature)| *feature)
    }
}

pub(super) static ROOT: Keys = Keys {
    section: "",
    built: &[
        "shards",
        "cpus",
        "pin",
        "acceptors",
        "balance",
        "admin",
        "telemetry",
        "log",
        "log_format",
        "limits",
        "drain",
        "listener",
        "route",
        "cluster",
    ],
    later: &[("driver", Feature::Epoll)],
};

pub(super) static LIMITS: Keys = whole("[limits]", &["connections", "connections_per_shard"]);

pub(super) static DRAIN: Keys = whole("[drain]", &["keep_accepting", "deadline"]);

pub(super) static LISTENER: Keys = whole(
    "[[listener]]",
    &[
        "name",
        "bind",
        "match",
        "via",
        "direction",
        "original_dst",
        "fallback",
        "protocol",
        "cluster",
        "source",
        "mark",
        "max_connections",
        "proxy_protocol",
        "access_log",
        "access_log_format",
        "access_log_sample",
        "access_log_only",
        "timeouts",
        "http",
        "tls",
    ],
);

pub(super) static ACCESS_LOG_ONLY: Keys = whole("`access_log_only`", &["errors", "slower_than"]);

pub(super) static LISTENER_TIMEOUTS: Keys = whole(
    "[listener.timeouts]",
    &["idle", "half_close", "head", "request", "stream_idle", "max_age", "detect", "handshake"],
);

pub(super) static LISTENER_TLS: Keys =
    whole("[listener.tls]", &["mode", "certificate", "key", "roots", "peers", "crl", "alpn"]);

pub(super) static LISTENER_HTTP: Keys = whole(
    "[listener.http]",
    &["max_head", "max_fields", "max_body", "forwarded", "via", "paths", "connect"],
);

pub(super) static ROUTE: Keys = whole(
    "[[route]]",
    &[
        "name",
        "listener",
        "hosts",
        "path",
        "path_prefix",
        "method",
        "headers",
        "cluster",
        "clusters",
        "redirect",
        "respond",
        "timeout",
        "try_timeout",
        "rewrite",
        "request_headers",
        "response_headers",
        "retry",
    ],
);

pub(super) static ROUTE_CLUSTER: Keys = whole("an element of `clusters`", &["name", "weight"]);

pub(super) static REDIRECT: Keys =
    whole("[route.redirect]", &["scheme", "host", "port", "path", "path_prefix", "status"]);

pub(super) static RESPOND: Keys = whole("[route.respond]", &["status", "body", "content_type"]);

pub(super) static REWRITE: Keys = whole("[route.rewrite]", &["host", "path", "path_prefix"]);

pub(super) static HEADER_CHANGES: Keys =
    whole("[route.request_headers]", &["remove", "set", "add"]);

pub(super) static ROUTE_RETRY: Keys = whole("[route.retry]", &["attempts", "statuses", "on"]);

pub(super) static CLUSTER: Keys = whole(
    "[[cluster]]",
    &[
        "name",
        "endpoints",
        "policy",
        "source",
        "mark",
        "proxy_protocol",
        "timeouts",
        "limits",
        "outlier",
        "retry",
        "health",
        "tls",
    ],
);

pub(super) static CLUSTER_TLS: Keys =
    whole("[cluster.tls]", &["mode", "certificate", "key", "roots", "sni", "peers", "crl", "alpn"]);

pub(super) static CLUSTER_TIMEOUTS: Keys = whole("[cluster.timeouts]", &["connect", "pool_idle"]);

pub(super) static CLUSTER_LIMITS: Keys =
    whole("[cluster.limits]", &["connections", "pending", "requests", "retries"]);

pub(super) static OUTLIER: Keys = whole(
    "[cluster.outlier]",
    &["consecutive_failures", "ejection", "max_ejection", "max_percent"],
);

pub(super) static CLUSTER_RETRY: Keys =
    whole("[cluster.retry]", &["attempts", "backoff", "max_backoff", "budget_percent"]);

pub(super) static HEALTH: Keys =
    whole("[cluster.health]", &["path", "host", "interval", "timeout", "healthy", "unhealthy"]);

pub(super) static POLICY: Keys = whole("a `policy`", &["hash"]);

pub(super) static ENDPOINT: Keys = whole("an endpoint", &["address", "weight"]);

/// A section of which everything is built.
const fn whole(section: &'static str, built: &'static [&'static str]) -> Keys {
    Keys { section, built, later: &[] }
}

/// Every kind of section, to find the one in which a misplaced key belongs. The first that has it is
/// named, so those come first whose keys are theirs alone.
pub(super) static SECTIONS: [&Keys; 23] = [
    &ROOT,
    &LIMITS,
    &DRAIN,
    &LISTENER,
    &LISTENER_TIMEOUTS,
    &LISTENER_HTTP,
    &LISTENER_TLS,
    &ACCESS_LOG_ONLY,
    &CLUSTER,
    &CLUSTER_TLS,
    &CLUSTER_TIMEOUTS,
    &CLUSTER_LIMITS,
    &OUTLIER,
    &CLUSTER_RETRY,
    &HEALTH,
    &ROUTE,
    &ROUTE_CLUSTER,
    &REDIRECT,
    &RESPOND,
    &REWRITE,
    &HEADER_CHANGES,
    &ROUTE_RETRY,
    &ENDPOINT,
];
