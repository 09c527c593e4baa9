//! The file as it was written, before anything is compared with anything else.
//!
//! In: the parsed document. Out: typed values section by section, with the places that the checks
//! point at, and findings for single keys and values. Whatever could not be read is `None`; defaults
//! come later, with `check`.

use std::{
    net::{IpAddr, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    path::Path,
    time::Duration,
};

use toml::de::{DeTable, DeValue};
use tracing_subscriber::EnvFilter;

use super::{
    address::{Bind, CpuList, Pattern, Source, endpoint, is_host_name, socket_address},
    keys::{self, Feature},
    nearest::did_you_mean,
    problem::{Findings, Span},
    schema::{
        Balance, ClusterSource, ClusterTimeouts, Direction, Drain, Fallback, Limits,
        ListenerTimeouts, LogFormat, Lookup, Pin, ProxyHeaderIn, ProxyHeaderOut, Target,
    },
    section::Section,
    value::{
        choice, choice_of, duration, kind, limit, name, number, positive_duration, size, text,
        timeout,
    },
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
    pub(super) clusters: Vec<ClusterDraft<'d>>,
}

/// A `[[listener]]` of either kind: which one it is, is for the checks to say.
pub(super) struct ListenerDraft<'d> {
    pub(super) section: Section<'d>,
    pub(super) name: Option<String>,
    pub(super) bind: Option<Bind>,
    pub(super) pattern: Option<Pattern>,
    pub(super) via: Option<String>,
    pub(super) direction: Option<Direction>,
    pub(super) original_dst: Option<OriginalDst>,
    pub(super) fallback: Option<Fallback>,
    pub(super) cluster: Option<Target>,
    pub(super) source: Option<Source>,
    pub(super) mark: Option<Option<NonZeroU32>>,
    pub(super) max_connections: Option<NonZeroUsize>,
    pub(super) proxy_protocol: Option<ProxyHeaderIn>,
    pub(super) timeouts: ListenerTimeouts,
}

choice! {
    /// What `original_dst` can be.
    enum OriginalDst {
        None = "none",
        Redirect = "redirect",
        Tproxy = "tproxy",
    }
}

/// A `[[cluster]]`.
pub(super) struct ClusterDraft<'d> {
    pub(super) section: Section<'d>,
    pub(super) name: Option<String>,
    pub(super) endpoints: Vec<(SocketAddr, Span)>,
    pub(super) source: Option<ClusterSource>,
    pub(super) mark: Option<Option<NonZeroU32>>,
    pub(super) proxy_protocol: Option<ProxyHeaderOut>,
    pub(super) timeouts: ClusterTimeouts,
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
            clusters: root
                .tables("cluster", &keys::CLUSTER, findings)
                .into_iter()
                .map(|section| ClusterDraft::read(section, findings))
                .collect(),
            root,
        }
    }
}

impl<'d> ListenerDraft<'d> {
    fn read(section: Section<'d>, directory: &Path, findings: &mut Findings) -> Self {
        section.read("protocol", findings, protocol);
        Self {
            name: section.read("name", findings, name),
            bind: section.read("bind", findings, |value| {
                Bind::parse(text(value, "127.0.0.1:15001")?, directory)
            }),
            pattern: section
                .read("match", findings, |value| Pattern::parse(text(value, "10.0.0.7:9080")?)),
            via: section.read("via", findings, |value| Ok(text(value, "outbound")?.to_owned())),
            direction: section.read("direction", findings, choice_of),
            original_dst: section.read("original_dst", findings, choice_of),
            fallback: section.read("fallback", findings, choice_of),
            cluster: section
                .read("cluster", findings, |value| name(value).map(|n| Target::named(&n))),
            source: section.read("source", findings, source),
            mark: section.read("mark", findings, mark),
            max_connections: section.read("max_connections", findings, limit).flatten(),
            proxy_protocol: section.read("proxy_protocol", findings, choice_of),
            timeouts: read_listener_timeouts(&section, findings),
            section,
        }
    }

    /// How the original destination is found, if it is asked for.
    pub(super) fn lookup(&self) -> Option<Lookup> {
        match self.original_dst? {
            OriginalDst::None => None,
            OriginalDst::Redirect => Some(Lookup::Redirect),
            OriginalDst::Tproxy => Some(Lookup::Tproxy),
        }
    }
}

impl<'d> ClusterDraft<'d> {
    fn read(section: Section<'d>, findings: &mut Findings) -> Self {
        let mut endpoints = Vec::new();
        for element in section.array("endpoints", findings) {
            let inline = match element.get_ref() {
                DeValue::Table(table) => {
                    Some(Section::open(&keys::ENDPOINT, table, element.span(), findings))
                }
                _ => None,
            };
            let read = |value: &DeValue<'_>| endpoint_address(value);
            let address = match &inline {
                Some(inline) if inline.has("address") => inline.read("address", findings, read),
                Some(inline) => {
                    findings.error(inline.span(), "an endpoint has no `address`: write one");
                    None
                }
                None => read(element.get_ref())
                    .map_err(|why| findings.error(element.span(), format!("`endpoints`: {why}")))
                    .ok(),
            };
            endpoints.extend(address.map(|address| (address, element.span())));
        }
        Self {
            name: section.read("name", findings, cluster_name),
            endpoints,
            source: section.read("source", findings, cluster_source),
            mark: section.read("mark", findings, mark),
            proxy_protocol: section.read("proxy_protocol", findings, choice_of),
            timeouts: read_cluster_timeouts(&section, findings),
            section,
        }
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

fn read_listener_timeouts(listener: &Section<'_>, findings: &mut Findings) -> ListenerTimeouts {
    let default = ListenerTimeouts::default();
    let Some(section) = listener.table("timeouts", &keys::LISTENER_TIMEOUTS, findings) else {
        return default;
    };
    ListenerTimeouts {
        idle: section.read("idle", findings, timeout).unwrap_or(default.idle),
        half_close: section.read("half_close", findings, timeout).unwrap_or(default.half_close),
    }
}

fn read_cluster_timeouts(cluster: &Section<'_>, findings: &mut Findings) -> ClusterTimeouts {
    let default = ClusterTimeouts::default();
    let Some(section) = cluster.table("timeouts", &keys::CLUSTER_TIMEOUTS, findings) else {
        return default;
    };
    ClusterTimeouts {
        connect: section.read("connect", findings, positive_duration).unwrap_or(default.connect),
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

fn protocol(value: &DeValue<'_>) -> Result<(), String> {
    match text(value, "tcp")? {
        "tcp" => Ok(()),
        word @ ("http" | "auto") => Err(Feature::Http.missing_for(format_args!("\"{word}\""))),
        word => Err(format!("\"{word}\" is not a protocol: write \"tcp\"")),
    }
}

fn cluster_name(value: &DeValue<'_>) -> Result<String, String> {
    match name(value)? {
        name if Target::named(&name) == Target::Cluster(name.clone()) => Ok(name),
        name => Err(format!("\"{name}\" is reserved: choose another name")),
    }
}

fn endpoint_address(value: &DeValue<'_>) -> Result<SocketAddr, String> {
    let address = text(value, "127.0.0.1:8000")?;
    if is_host_name(address) {
        let what = format!("the host name in \"{address}\"");
        return Err(format!("{} and write an address", Feature::Http.missing_for(what)));
    }
    endpoint(address)
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

fn mark(value: &DeValue<'_>) -> Result<Option<NonZeroU32>, String> {
    let mark = number(value, 0..=u64::from(u32::MAX))?;
    Ok(u32::try_from(mark).ok().and_then(NonZeroU32::new))
}
