//! A `[[cluster]]` as it was written.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    path::Path,
    time::Duration,
};

use evenkeel::upstream::settings::{EndpointAddress, HEAVIEST};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    super::{
        address::{endpoint, is_host_name},
        keys,
        nearest::did_you_mean,
        problem::{Findings, Span},
        schema::{
            ClusterLimits, ClusterMode, ClusterRetry, ClusterSource, ClusterTimeouts, Health,
            Outlier, Policy, ProxyHeaderOut, Target,
        },
        section::Section,
        value::{choice, choice_of, count, kind, limit, name, positive_duration, text, timeout},
    },
    mark, source,
    tls::TlsDraft,
};

/// A `[[cluster]]`.
pub(in super::super) struct ClusterDraft<'d> {
    pub(in super::super) section: Section<'d>,
    pub(in super::super) name: Option<String>,
    pub(in super::super) endpoints: Vec<EndpointDraft>,
    pub(in super::super) source: Option<ClusterSource>,
    pub(in super::super) mark: Option<Option<NonZeroU32>>,
    pub(in super::super) proxy_protocol: Option<ProxyHeaderOut>,
    pub(in super::super) policy: Option<Policy>,
    pub(in super::super) timeouts: ClusterTimeouts,
    pub(in super::super) limits: ClusterLimits,
    pub(in super::super) outlier: Option<Outlier>,
    pub(in super::super) retry: Option<ClusterRetry>,
    pub(in super::super) health: Option<Health>,
    pub(in super::super) tls: Option<TlsDraft<'d, ClusterMode>>,
}

/// One of the endpoints.
pub(in super::super) struct EndpointDraft {
    pub(in super::super) address: EndpointAddress,
    pub(in super::super) weight: u32,
    pub(in super::super) at: Span,
}

impl EndpointDraft {
    fn read(element: &Spanned<DeValue<'_>>, findings: &mut Findings) -> Option<Self> {
        let at = element.span();
        let (address, weight) = match element.get_ref() {
            DeValue::Table(table) => Self::read_table(table, at.clone(), findings),
            value => {
                let address = endpoint_address(value);
                (
                    address
                        .map_err(|why| findings.error(at.clone(), format!("`endpoints`: {why}")))
                        .ok(),
                    1,
                )
            }
        };
        Some(Self { address: address?, weight, at })
    }

    fn read_table(
        table: &DeTable<'_>,
        at: Span,
        findings: &mut Findings,
    ) -> (Option<EndpointAddress>, u32) {
        let section = Section::open(&keys::ENDPOINT, table, at, findings);
        if !section.has("address") {
            findings.error(section.span(), "an endpoint has no `address`: write one");
        }
        let weight = section.read("weight", findings, |value| count(value, 1..=HEAVIEST));
        (section.read("address", findings, endpoint_address), weight.unwrap_or(1))
    }

    /// Its address, unless it is a name.
    pub(in super::super) fn socket(&self) -> Option<SocketAddr> {
        match &self.address {
            EndpointAddress::Socket(address) => Some(*address),
            EndpointAddress::Name { .. } => None,
        }
    }
}

impl<'d> ClusterDraft<'d> {
    pub(super) fn read(section: Section<'d>, directory: &Path, findings: &mut Findings) -> Self {
        let elements = section.array("endpoints", findings);
        let endpoints =
            elements.filter_map(|element| EndpointDraft::read(element, findings)).collect();
        Self {
            name: section.read("name", findings, cluster_name),
            endpoints,
            source: section.read("source", findings, cluster_source),
            mark: section.read("mark", findings, mark),
            proxy_protocol: section.read("proxy_protocol", findings, choice_of),
            policy: read_policy(&section, findings),
            timeouts: read_timeouts(&section, findings),
            limits: read_limits(&section, findings),
            outlier: read_outlier(&section, findings),
            retry: read_retry(&section, findings),
            health: read_health(&section, findings),
            tls: TlsDraft::read(&section, &keys::CLUSTER_TLS, directory, findings),
            section,
        }
    }
}

choice! {
    /// The policies that need nothing but their name.
    enum PlainPolicy {
        LeastRequest = "least-request",
        RoundRobin = "round-robin",
        Random = "random",
    }
}

fn read_policy(cluster: &Section<'_>, findings: &mut Findings) -> Option<Policy> {
    if let Some(table) = cluster.inline("policy", &keys::POLICY, findings) {
        if !table.has("hash") {
            findings.error(table.span(), "`policy`: write { hash = \"HEADER\" }");
        }
        return table.read("hash", findings, header_name).map(Policy::Hash);
    }
    let plain = cluster.read("policy", findings, |value| match value {
        DeValue::String(_) => choice_of(value),
        other => Err(format!(
            "expected a policy such as \"least-request\", or {{ hash = \"HEADER\" }}, found {}",
            kind(other)
        )),
    });
    plain.map(|plain| match plain {
        PlainPolicy::LeastRequest => Policy::LeastRequest,
        PlainPolicy::RoundRobin => Policy::RoundRobin,
        PlainPolicy::Random => Policy::Random,
    })
}

fn read_timeouts(cluster: &Section<'_>, findings: &mut Findings) -> ClusterTimeouts {
    let default = ClusterTimeouts::default();
    let Some(section) = cluster.table("timeouts", &keys::CLUSTER_TIMEOUTS, findings) else {
        return default;
    };
    ClusterTimeouts {
        connect: section.read("connect", findings, positive_duration).unwrap_or(default.connect),
        pool_idle: section.read("pool_idle", findings, timeout).unwrap_or(default.pool_idle),
    }
}

fn read_limits(cluster: &Section<'_>, findings: &mut Findings) -> ClusterLimits {
    let Some(section) = cluster.table("limits", &keys::CLUSTER_LIMITS, findings) else {
        return ClusterLimits::default();
    };
    let mut read = |key| section.read(key, findings, limit).flatten();
    ClusterLimits {
        connections: read("connections"),
        pending: read("pending"),
        requests: read("requests"),
        retries: read("retries"),
    }
}

fn read_outlier(cluster: &Section<'_>, findings: &mut Findings) -> Option<Outlier> {
    let section = cluster.table("outlier", &keys::OUTLIER, findings)?;
    Some(Outlier {
        consecutive_failures: section
            .read("consecutive_failures", findings, |value| count(value, 1..=u32::MAX))
            .unwrap_or(5),
        ejection: section
            .read("ejection", findings, positive_duration)
            .unwrap_or(Duration::from_secs(30)),
        max_ejection: section
            .read("max_ejection", findings, positive_duration)
            .unwrap_or(Duration::from_secs(300)),
        max_percent: section
            .read("max_percent", findings, |value| count(value, 0..=100))
            .unwrap_or(10),
    })
}

fn read_retry(cluster: &Section<'_>, findings: &mut Findings) -> Option<ClusterRetry> {
    let section = cluster.table("retry", &keys::CLUSTER_RETRY, findings)?;
    Some(ClusterRetry {
        attempts: section
            .read("attempts", findings, |value| count(value, 0..=MOST_ATTEMPTS))
            .unwrap_or(1),
        backoff: section
            .read("backoff", findings, positive_duration)
            .unwrap_or(Duration::from_millis(25)),
        max_backoff: section
            .read("max_backoff", findings, positive_duration)
            .unwrap_or(Duration::from_millis(250)),
        budget_percent: section.read("budget_percent", findings, limit).flatten(),
    })
}

/// More tries of a request than this are hardly meant.
pub(super) const MOST_ATTEMPTS: u32 = 100;

fn read_health(cluster: &Section<'_>, findings: &mut Findings) -> Option<Health> {
    let section = cluster.table("health", &keys::HEALTH, findings)?;
    let interval = |value: &DeValue<'_>| match positive_duration(value)? {
        short if short < Duration::from_millis(10) => Err("has to be at least 10ms".into()),
        interval => Ok(interval),
    };
    let mut times = |key, default| {
        section.read(key, findings, |value| count(value, 1..=1000)).unwrap_or(default)
    };
    let (healthy, unhealthy) = (times("healthy", 2), times("unhealthy", 3));
    let health = Health {
        path: section.read("path", findings, probe_path),
        host: section.read("host", findings, |value| visible(value, "web.example")),
        interval: section.read("interval", findings, interval).unwrap_or(Duration::from_secs(5)),
        timeout: section
            .read("timeout", findings, positive_duration)
            .unwrap_or(Duration::from_secs(1)),
        healthy,
        unhealthy,
    };
    if section.has("host") && !section.has("path") {
        findings.error(section.key_at("host"), "`host` is for a request: write its `path` as well");
    }
    Some(health)
}

fn probe_path(value: &DeValue<'_>) -> Result<String, String> {
    match visible(value, "/healthz")? {
        path if path.starts_with('/') => Ok(path),
        path => Err(format!("\"{path}\" is not a path: it begins with /")),
    }
}

/// Something that is written into a request as it is.
fn visible(value: &DeValue<'_>, example: &str) -> Result<String, String> {
    let text = text(value, example)?;
    match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err(format!("\"{text}\" is not made of visible ASCII characters")),
    }
}

/// The name of a header field, in lower case.
pub(super) fn header_name(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value, "x-user")?;
    match text.parse::<http::HeaderName>() {
        Ok(name) => Ok(name.as_str().to_owned()),
        Err(_) => Err(format!("\"{text}\" is not the name of a header field")),
    }
}

fn cluster_name(value: &DeValue<'_>) -> Result<String, String> {
    match name(value)? {
        name if Target::named(&name) == Target::Cluster(name.clone()) => Ok(name),
        name => Err(format!("\"{name}\" is reserved: choose another name")),
    }
}

/// `ip:port`, or `name:port`.
fn endpoint_address(value: &DeValue<'_>) -> Result<EndpointAddress, String> {
    let address = text(value, "127.0.0.1:8000")?;
    if is_host_name(address) {
        return address.parse().map_err(|error| format!("{error}"));
    }
    endpoint(address).map(EndpointAddress::Socket)
}

fn cluster_source(value: &DeValue<'_>) -> Result<ClusterSource, String> {
    match value {
        DeValue::String(word) if word == ClusterSource::CLIENT => Ok(ClusterSource::Client),
        DeValue::String(word) if word.parse::<IpAddr>().is_err() && word != "off" => Err(format!(
            "\"{word}\" is neither an IP address nor \"client\"{}",
            did_you_mean(word, [ClusterSource::CLIENT])
        )),
        value => source(value).map(ClusterSource::Address),
    }
}
