//! Clusters: what serves the same, and what it may cost.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use evenkeel::upstream::settings::EndpointAddress;
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{
    super::{address::Source, value::choice, written},
    tls::ClusterTls,
};

/// Addresses that serve the same.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Cluster {
    /// Unique among the clusters; the `cluster` label of the metrics.
    pub(crate) name: String,
    /// At least one. A relay tries them in this order until one connects, those that are not well last.
    pub(crate) endpoints: Vec<Endpoint>,
    /// How HTTP chooses among them. Default: `least-request`.
    pub(crate) policy: Policy,
    /// Default: the kernel's choice.
    pub(crate) source: ClusterSource,
    /// SO_MARK; needs CAP_NET_ADMIN. Default, `None` here and 0 in the file: none.
    #[serde(serialize_with = "written::no_mark_is_zero")]
    pub(crate) mark: Option<NonZeroU32>,
    /// The PROXY protocol header that each connection begins with. Default: `off`.
    pub(crate) proxy_protocol: ProxyHeaderOut,
    pub(crate) timeouts: ClusterTimeouts,
    /// Of HTTP, over all shards together. Default: none.
    pub(crate) limits: ClusterLimits,
    /// When endpoints that fail get no requests for a while. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) outlier: Option<Outlier>,
    /// What is sent again. Default: nothing but what met a connection that was being closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry: Option<ClusterRetry>,
    /// How endpoints are asked whether they are well. Default: they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) health: Option<Health>,
    /// Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<ClusterTls>,
}

/// One endpoint, or with a name as many as it has addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: EndpointAddress,
    /// Its share of the requests. Default: 1.
    pub(crate) weight: u32,
}

/// `"10.0.0.1:80"`, or a table where it has a weight.
impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let address = self.address.to_string();
        if self.weight == 1 {
            return serializer.serialize_str(&address);
        }
        let mut table = serializer.serialize_map(Some(2))?;
        table.serialize_entry("address", &address)?;
        table.serialize_entry("weight", &self.weight)?;
        table.end()
    }
}

/// How an endpoint is chosen for a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) enum Policy {
    /// The one of two, drawn by weight, with fewer requests in flight.
    #[serde(rename = "least-request")]
    LeastRequest,
    #[serde(rename = "round-robin")]
    RoundRobin,
    #[serde(rename = "random")]
    Random,
    /// The same one for the same value of this header field.
    #[serde(rename = "hash")]
    Hash(String),
}

/// Limits of a cluster; none here and 0 in the file is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ClusterLimits {
    /// Upstream connections, idle ones included.
    #[serde(serialize_with = "written::zero_for_none")]
    pub(crate) connections: Option<NonZeroUsize>,
    /// Requests that wait for a connection.
    #[serde(serialize_with = "written::zero_for_none")]
    pub(crate) pending: Option<NonZeroUsize>,
    /// Requests in flight.
    #[serde(serialize_with = "written::zero_for_none")]
    pub(crate) requests: Option<NonZeroUsize>,
    /// Retries in flight.
    #[serde(serialize_with = "written::zero_for_none")]
    pub(crate) retries: Option<NonZeroUsize>,
}

/// When an endpoint gets no requests for a while. The last one always does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Outlier {
    /// So many failures in a row. Default: 5.
    pub(crate) consecutive_failures: u32,
    /// The first time; each further one takes twice as long. Default: 30 s.
    #[serde(serialize_with = "written::in_words")]
    pub(crate) ejection: Duration,
    /// The longest. Default: 5 min.
    #[serde(serialize_with = "written::in_words")]
    pub(crate) max_ejection: Duration,
    /// The share of the endpoints that may be left out at a time; one always may. Default: 10.
    pub(crate) max_percent: u32,
}

/// What is sent again unless a route says otherwise: what failed before its answer began, if that does
/// no harm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ClusterRetry {
    /// Not counting the first try. Default: 1.
    pub(crate) attempts: u32,
    /// Bounds the pause before the first retry, which is drawn at random. Default: 25 ms.
    #[serde(serialize_with = "written::in_words")]
    pub(crate) backoff: Duration,
    /// Bounds all further ones, which double. Default: 250 ms.
    #[serde(serialize_with = "written::in_words")]
    pub(crate) max_backoff: Duration,
    /// So many retries at a time beside a hundred requests, and three in any case. Default, `None` here
    /// and 0 in the file: any number.
    #[serde(serialize_with = "written::zero_for_none")]
    pub(crate) budget_percent: Option<NonZeroUsize>,
}

/// How endpoints are asked whether they are well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Health {
    /// What is asked for; it is well if the answer has a status from 200 to 299. Default: nothing, and
    /// it is well if it can be connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    /// Who is asked, in the field `Host`. Default: the endpoint as it is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<String>,
    /// Default: 5 s.
    #[serde(serialize_with = "written::in_words")]
    pub(crate) interval: Duration,
    /// Default: 1 s.
    #[serde(serialize_with = "written::in_words")]
    pub(crate) timeout: Duration,
    /// Good answers in a row that make it well. Default: 2.
    pub(crate) healthy: u32,
    /// Bad ones that make it unwell. Default: 3.
    pub(crate) unhealthy: u32,
}

/// What the connections to a cluster are sent from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClusterSource {
    Address(Source),
    /// The client's own address (IP_TRANSPARENT; needs CAP_NET_ADMIN, and a route for the answers).
    Client,
}

impl ClusterSource {
    pub(in super::super) const CLIENT: &str = "client";
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
    /// For an HTTP connection to wait for its next request; shorter than what servers allow, which is
    /// 5 s for many. Default: 4 s. `None`: for ever.
    #[serde(serialize_with = "written::in_words_or_off")]
    pub(crate) pool_idle: Option<Duration>,
}

impl Default for ClusterTimeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), pool_idle: Some(Duration::from_secs(4)) }
    }
}
