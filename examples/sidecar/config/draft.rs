//! The file as it was written, before anything is compared with anything else.
//!
//! In: the parsed document. Out: typed values section by section, with the places that the checks
//! point at, and findings for single keys and values. Whatever could not be read is `None`; defaults
//! come later, with `check`.

mod cluster;
mod listener;
mod route;
mod tls;

use std::{net::SocketAddr, num::NonZeroU32, path::Path, time::Duration};

use toml::de::{DeTable, DeValue};
use tracing_subscriber::EnvFilter;

pub(super) use self::{
    cluster::{ClusterDraft, EndpointDraft},
    listener::ListenerDraft,
    route::RouteDraft,
    tls::TlsDraft,
};
use super::{
    address::{CpuList, Source, socket_address},
    keys,
    problem::Findings,
    schema::{Balance, ClusterSource, Drain, Limits, LogFormat, Pin, Protocol, Target},
    section::Section,
    value::{choice_of, duration, kind, limit, number, size, text},
};

/// The whole file.
pub(super) struct Draft<'d> {
    pub(super) root: Section<'d>,
    pub(super) shards: Option<usize>,
    pub(super) cpus: Option<CpuList>,
    pub(super) pin: Option<Pin>,
    pub(super) acceptors: Option<usize>,
    pub(super) balance: Option<Balance>,
    pub(super) admin: Option<SocketAddr>,
    pub(super) telemetry: Option<SocketAddr>,
    pub(super) log: Option<String>,
    pub(super) log_format: Option<LogFormat>,
    pub(super) limits: Limits,
    pub(super) drain: Drain,
    pub(super) listeners: Vec<ListenerDraft<'d>>,
    pub(super) routes: Vec<RouteDraft<'d>>,
    pub(super) clusters: Vec<ClusterDraft<'d>>,
}

impl<'d> Draft<'d> {
    /// Reads everything that is written. `directory` is what relative paths are relative to.
    pub(super) fn read(
        document: &'d DeTable<'d>,
        directory: &Path,
        findings: &mut Findings,
    ) -> Self {
        let root = Section::open(&keys::ROOT, document, 0..0, findings);
        let address = |value: &DeValue<'_>| socket_address(text(value, "127.0.0.1:15000")?);
        Self {
            shards: root.read("shards", findings, |value| size(value, 0..=1024)),
            cpus: root.read("cpus", findings, |value| CpuList::parse(text(value, "0-3,8")?)),
            pin: root.read("pin", findings, choice_of),
            acceptors: root.read("acceptors", findings, |value| size(value, 1..=64)),
            balance: root.read("balance", findings, choice_of),
            admin: root.read("admin", findings, address),
            telemetry: root.read("telemetry", findings, address),
            log: root.read("log", findings, log_filter),
            log_format: root.read("log_format", findings, choice_of),
            limits: read_limits(&root, findings),
            drain: read_drain(&root, findings),
            listeners: root
                .tables("listener", &keys::LISTENER, findings)
                .into_iter()
                .map(|section| ListenerDraft::read(section, directory, findings))
                .collect(),
            routes: root
                .tables("route", &keys::ROUTE, findings)
                .into_iter()
                .map(|section| RouteDraft::read(section, findings))
                .collect(),
            clusters: root
                .tables("cluster", &keys::CLUSTER, findings)
                .into_iter()
                .map(|section| ClusterDraft::read(section, directory, findings))
                .collect(),
            root,
        }
    }
}

/// Who forwards to a cluster.
#[derive(Clone, Copy, Default)]
pub(super) struct Users {
    pub(super) http: bool,
    pub(super) relay: bool,
}

impl Draft<'_> {
    /// Who forwards to the cluster of this name.
    pub(super) fn users(&self, cluster: &str) -> Users {
        let mut users = Users::default();
        let target = Target::Cluster(cluster.to_owned());
        for listener in self.listeners.iter().filter(|it| it.cluster.as_ref() == Some(&target)) {
            let protocol = listener.protocol.unwrap_or(Protocol::Tcp);
            users.http |= protocol.may_be_http();
            users.relay |= protocol.may_be_tcp();
        }
        for route in &self.routes {
            if route.action.clusters.iter().any(|(name, _)| name == cluster) {
                let by_name = self.listeners.iter().any(|listener| {
                    listener.name == route.listener && listener.passes_tls_through()
                });
                users.http |= !by_name;
                users.relay |= by_name;
            }
        }
        users
    }
}

fn read_limits(root: &Section<'_>, findings: &mut Findings) -> Limits {
    let Some(section) = root.table("limits", &keys::LIMITS, findings) else {
        return Limits::default();
    };
    Limits {
        connections: section.read("connections", findings, limit).flatten(),
        connections_per_shard: section.read("connections_per_shard", findings, limit).flatten(),
    }
}

fn read_drain(root: &Section<'_>, findings: &mut Findings) -> Drain {
    let default = Drain::default();
    let Some(section) = root.table("drain", &keys::DRAIN, findings) else { return default };
    // Not accepting any longer than needed is what "off" and "0s" both say.
    let keep_accepting = |value: &DeValue<'_>| match value {
        DeValue::String(word) if word == "off" => Ok(Duration::ZERO),
        value => duration(value),
    };
    Drain {
        keep_accepting: section
            .read("keep_accepting", findings, keep_accepting)
            .unwrap_or(default.keep_accepting),
        deadline: section.read("deadline", findings, duration).unwrap_or(default.deadline),
    }
}

fn log_filter(value: &DeValue<'_>) -> Result<String, String> {
    let filter = text(value, "info")?;
    match EnvFilter::builder().parse(filter) {
        Ok(_) => Ok(filter.to_owned()),
        Err(why) => Err(format!(
            "\"{filter}\" is not a filter: {why}; write a level (error, warn, info, debug, trace, \
             off), or levels by module as in \"warn,evenkeel=debug\""
        )),
    }
}

/// `"off"`, an address, or an array with one address of each family.
fn source(value: &DeValue<'_>) -> Result<Source, String> {
    let mut source = Source::default();
    match value {
        DeValue::String(word) if word == "off" => {}
        DeValue::String(word) if word == ClusterSource::CLIENT => {
            return Err("\"client\" is possible on a cluster only: write an address".into());
        }
        DeValue::String(address) => source.add(address)?,
        DeValue::Array(addresses) if !addresses.is_empty() => {
            for address in addresses.iter() {
                source.add(text(address.get_ref(), "127.0.0.6")?)?;
            }
        }
        other => {
            return Err(format!(
                "expected an address such as \"127.0.0.6\", or an array with one of each family, \
                 found {}",
                kind(other)
            ));
        }
    }
    Ok(source)
}

fn mark(value: &DeValue<'_>) -> Result<Option<NonZeroU32>, String> {
    let mark = number(value, 0..=u64::from(u32::MAX))?;
    Ok(u32::try_from(mark).ok().and_then(NonZeroU32::new))
}
