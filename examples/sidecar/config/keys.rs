//! Every key that a configuration may have, section by section. In: nothing. Out: what is known here.
//! Never looks at a file.

/// The keys of one kind of section.
#[derive(Debug)]
pub(super) struct Keys {
    /// How the section is written in the file; empty for the top level.
    pub(super) section: &'static str,
    pub(super) known: &'static [&'static str],
}

pub(super) static ROOT: Keys = Keys {
    section: "",
    known: &[
        "shards",
        "cpus",
        "pin",
        "acceptors",
        "driver",
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
};

pub(super) static LIMITS: Keys = keys("[limits]", &["connections", "connections_per_shard"]);

pub(super) static DRAIN: Keys = keys("[drain]", &["keep_accepting", "deadline"]);

pub(super) static LISTENER: Keys = keys(
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

pub(super) static ACCESS_LOG_ONLY: Keys = keys("`access_log_only`", &["errors", "slower_than"]);

pub(super) static LISTENER_TIMEOUTS: Keys = keys(
    "[listener.timeouts]",
    &["idle", "half_close", "head", "request", "stream_idle", "max_age", "detect", "handshake"],
);

pub(super) static LISTENER_TLS: Keys = keys(
    "[listener.tls]",
    &["mode", "certificate", "key", "roots", "peers", "crl", "alpn", "drain_after"],
);

pub(super) static LISTENER_HTTP: Keys = keys(
    "[listener.http]",
    &["max_head", "max_fields", "max_body", "forwarded", "via", "paths", "connect"],
);

pub(super) static ROUTE: Keys = keys(
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

pub(super) static ROUTE_CLUSTER: Keys = keys("an element of `clusters`", &["name", "weight"]);

pub(super) static REDIRECT: Keys =
    keys("[route.redirect]", &["scheme", "host", "port", "path", "path_prefix", "status"]);

pub(super) static RESPOND: Keys = keys("[route.respond]", &["status", "body", "content_type"]);

pub(super) static REWRITE: Keys = keys("[route.rewrite]", &["host", "path", "path_prefix"]);

pub(super) static HEADER_CHANGES: Keys = keys("[route.request_headers]", &["remove", "set", "add"]);

pub(super) static ROUTE_RETRY: Keys = keys("[route.retry]", &["attempts", "statuses", "on"]);

pub(super) static CLUSTER: Keys = keys(
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

pub(super) static CLUSTER_TLS: Keys = keys(
    "[cluster.tls]",
    &["mode", "certificate", "key", "roots", "sni", "peers", "crl", "alpn", "drain_after"],
);

pub(super) static CLUSTER_TIMEOUTS: Keys = keys("[cluster.timeouts]", &["connect", "pool_idle"]);

pub(super) static CLUSTER_LIMITS: Keys =
    keys("[cluster.limits]", &["connections", "pending", "requests", "retries"]);

pub(super) static OUTLIER: Keys =
    keys("[cluster.outlier]", &["consecutive_failures", "ejection", "max_ejection", "max_percent"]);

pub(super) static CLUSTER_RETRY: Keys =
    keys("[cluster.retry]", &["attempts", "backoff", "max_backoff", "budget_percent"]);

pub(super) static HEALTH: Keys =
    keys("[cluster.health]", &["path", "host", "interval", "timeout", "healthy", "unhealthy"]);

pub(super) static POLICY: Keys = keys("a `policy`", &["hash"]);

pub(super) static ENDPOINT: Keys = keys("an endpoint", &["address", "weight"]);

const fn keys(section: &'static str, known: &'static [&'static str]) -> Keys {
    Keys { section, known }
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
