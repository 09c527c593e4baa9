//! Routes: which requests go where, and what is changed on the way; or, where TLS is passed through,
//! which server names. They are held as they are written;
//! `route` makes of them what the library looks up.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::super::{value::choice, written};

/// Requests of a listener that are treated alike.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Route {
    /// What the access log calls it. Default: `route-N`, its place in the file.
    pub(crate) name: String,
    /// The listener whose requests these are; it speaks HTTP, or passes TLS through.
    pub(crate) listener: String,
    /// `name`, `*.suffix` or `*`, with or without a port; none is any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) hosts: Vec<String>,
    /// Default: every path.
    #[serde(flatten)]
    pub(crate) path: PathRule,
    /// Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<String>,
    /// Fields that have to be there with these values. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) headers: HeaderMap,
    #[serde(flatten)]
    pub(crate) action: RouteAction,
    /// For all tries together. Default: the listener's. `Some(None)`: none.
    #[serde(
        serialize_with = "written::in_words_or_off_if_any",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) timeout: Option<Option<Duration>>,
    /// For each try. Default: none.
    #[serde(
        serialize_with = "written::in_words_or_off_if_any",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) try_timeout: Option<Option<Duration>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rewrite: Option<Rewrite>,
    /// What the upstream gets.
    #[serde(skip_serializing_if = "HeaderChanges::is_empty")]
    pub(crate) request_headers: HeaderChanges,
    /// What the client gets.
    #[serde(skip_serializing_if = "HeaderChanges::is_empty")]
    pub(crate) response_headers: HeaderChanges,
    /// Default: as the cluster says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry: Option<RouteRetry>,
}

/// Fields by their names in lower case.
pub(crate) type HeaderMap = BTreeMap<String, String>;

/// Which paths; the query does not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) enum PathRule {
    #[serde(rename = "path")]
    Exact(String),
    /// By whole segments.
    #[serde(rename = "path_prefix")]
    Prefix(String),
}

impl Default for PathRule {
    fn default() -> Self {
        Self::Prefix("/".into())
    }
}

/// What is done with a request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) enum RouteAction {
    #[serde(rename = "cluster")]
    Cluster(String),
    /// At least one, and one of them with a weight.
    #[serde(rename = "clusters")]
    Clusters(Vec<WeightedCluster>),
    #[serde(rename = "redirect")]
    Redirect(Redirect),
    #[serde(rename = "respond")]
    Respond(Respond),
}

/// A cluster and its share of the requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct WeightedCluster {
    pub(crate) name: String,
    /// Default: 1. 0 is none.
    pub(crate) weight: u32,
}

/// Sends the client elsewhere; what is not written stays as the client had it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Redirect {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scheme: Option<Scheme>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<u16>,
    /// In place of the whole path, or of the prefix that the route matches.
    #[serde(flatten)]
    pub(crate) path: Option<PathRule>,
    /// Default: 302.
    pub(crate) status: u16,
}

choice! {
    /// How a redirect leads on.
    enum Scheme {
        Http = "http",
        Https = "https",
    }
}

/// An answer of the sidecar's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Respond {
    pub(crate) status: u16,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) body: String,
    /// Default: `text/plain` with a body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_type: Option<String>,
}

/// What the upstream gets in place of what the client sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Rewrite {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<String>,
    /// In place of the whole path, or of the prefix that the route matches.
    #[serde(flatten)]
    pub(crate) path: Option<PathRule>,
}

/// Changes to header fields, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct HeaderChanges {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) remove: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) set: HeaderMap,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) add: HeaderMap,
}

impl HeaderChanges {
    pub(crate) fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

/// When a request is sent again, if it may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct RouteRetry {
    /// Default: 1. 0: never, whatever the cluster says.
    pub(crate) attempts: u32,
    /// Answers after which it is. Default: none.
    pub(crate) statuses: Vec<u16>,
    /// Failures after which it is. Default: `connect-failure` and `reset`.
    pub(crate) on: Vec<RetryOn>,
}

choice! {
    /// Failures of a try.
    enum RetryOn {
        ConnectFailure = "connect-failure",
        Reset = "reset",
        Timeout = "timeout",
    }
}
