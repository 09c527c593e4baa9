//! Every key that a configuration may have, section by section. In: nothing. Out: what is known here,
//! and what is known but belongs to a feature that this build lacks. Never looks at a file.

use std::fmt;

/// What a key or value needs that this build does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Feature {
    Http,
    Tls,
    Epoll,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP proxying",
            Self::Tls => "TLS",
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
        "cluster",
    ],
    later: &[("driver", Feature::Epoll), ("route", Feature::Http)],
};

pub(super) static LIMITS: Keys =
    Keys { section: "[limits]", built: &["connections", "connections_per_shard"], later: &[] };

pub(super) static DRAIN: Keys =
    Keys { section: "[drain]", built: &["keep_accepting", "deadline"], later: &[] };

pub(super) static LISTENER: Keys = Keys {
    section: "[[listener]]",
    built: &[
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
        "timeouts",
    ],
    later: &[
        ("access_log", Feature::Http),
        ("access_log_format", Feature::Http),
        ("clusters", Feature::Http),
        ("http", Feature::Http),
        ("tls", Feature::Tls),
    ],
};

pub(super) static LISTENER_TIMEOUTS: Keys = Keys {
    section: "[listener.timeouts]",
    built: &["idle", "half_close"],
    later: &[
        ("head", Feature::Http),
        ("request", Feature::Http),
        ("detect", Feature::Http),
        ("handshake", Feature::Tls),
        ("max_age", Feature::Http),
    ],
};

pub(super) static CLUSTER: Keys = Keys {
    section: "[[cluster]]",
    built: &["name", "endpoints", "source", "mark", "proxy_protocol", "timeouts"],
    later: &[
        ("policy", Feature::Http),
        ("limits", Feature::Http),
        ("outlier", Feature::Http),
        ("retry", Feature::Http),
        ("tls", Feature::Tls),
    ],
};

pub(super) static CLUSTER_TIMEOUTS: Keys = Keys {
    section: "[cluster.timeouts]",
    built: &["connect"],
    later: &[("pool_idle", Feature::Http)],
};

pub(super) static ENDPOINT: Keys =
    Keys { section: "an endpoint", built: &["address"], later: &[("weight", Feature::Http)] };

/// Every kind of section, to find the one in which a misplaced key belongs.
pub(super) static SECTIONS: [&Keys; 8] =
    [&ROOT, &LIMITS, &DRAIN, &LISTENER, &LISTENER_TIMEOUTS, &CLUSTER, &CLUSTER_TIMEOUTS, &ENDPOINT];
