//! Turns a checked draft into a configuration: fills in defaults, hangs destinations on their
//! listeners. In: a draft without errors. Out: the configuration, or `None` if the draft did have
//! errors. Reports nothing.

use super::{
    address::{CpuList, Source},
    draft::{ClusterDraft, Draft, ListenerDraft},
    schema::{
        Balance, Cluster, Config, Destination, Direction, Fallback, Interception, Listener,
        LogFormat, Passthrough, Pin, ProxyHeaderIn, ProxyHeaderOut, Routing, Shards, Target,
        Unmatched,
    },
};

/// `via` has, for each listener of the draft, the index of the accepting listener it hangs on.
pub(super) fn build(draft: Draft<'_>, via: &[Option<usize>]) -> Option<Config> {
    let mut listeners = Vec::new();
    for (n, accepting) in draft.listeners.iter().enumerate() {
        if via[n].is_none() {
            let hang_here = draft.listeners.iter().zip(via).filter(|(_, via)| **via == Some(n));
            listeners.push(listener(accepting, hang_here.map(|(destination, _)| destination))?);
        }
    }
    Some(Config {
        shards: shards(draft.shards, draft.cpus),
        pin: draft.pin.unwrap_or(Pin::Auto),
        acceptors: draft.acceptors.unwrap_or(1),
        balance: draft.balance.unwrap_or(Balance::LeastConnections),
        admin: draft.admin,
        telemetry: draft.telemetry,
        log: draft.log.unwrap_or_else(|| "info".into()),
        log_format: draft.log_format.unwrap_or(LogFormat::Text),
        limits: draft.limits,
        drain: draft.drain,
        listeners,
        clusters: draft.clusters.into_iter().map(cluster).collect::<Option<_>>()?,
    })
}

fn shards(count: Option<usize>, cpus: Option<CpuList>) -> Shards {
    cpus.map_or(Shards::Count(count.unwrap_or(0)), Shards::Cpus)
}

fn listener<'l, 'd: 'l>(
    draft: &'l ListenerDraft<'d>,
    destinations: impl Iterator<Item = &'l ListenerDraft<'d>>,
) -> Option<Listener> {
    let direction = draft.direction.unwrap_or(Direction::Outbound);
    let routing = match draft.lookup() {
        None => Routing::Fixed { cluster: draft.cluster.clone()? },
        Some(lookup) => {
            let fallback = draft.fallback.unwrap_or(Fallback::Passthrough);
            let unmatched =
                draft.cluster.clone().map_or(Unmatched::Fallback(fallback), Unmatched::Cluster);
            let default = match direction {
                Direction::Inbound => Source::INBOUND,
                Direction::Outbound => Source::default(),
            };
            let passthrough = passthrough(draft, Passthrough { source: default, mark: None });
            let destinations =
                destinations.map(|draft| destination(draft, passthrough)).collect::<Option<_>>()?;
            Routing::OriginalDestination(Interception {
                lookup,
                unmatched,
                passthrough,
                destinations,
            })
        }
    };
    Some(Listener {
        name: draft.name.clone()?,
        bind: draft.bind.clone()?,
        direction,
        routing,
        max_connections: draft.max_connections,
        proxy_protocol: draft.proxy_protocol.unwrap_or(ProxyHeaderIn::Off),
        timeouts: draft.timeouts.clone(),
    })
}

fn destination(draft: &ListenerDraft<'_>, of_listener: Passthrough) -> Option<Destination> {
    let target = draft.cluster.clone()?;
    let passthrough = (target == Target::Passthrough).then(|| passthrough(draft, of_listener));
    Some(Destination {
        name: draft.name.clone()?,
        pattern: draft.pattern?,
        target,
        passthrough,
        max_connections: draft.max_connections,
        timeouts: draft.timeouts.clone(),
    })
}

/// What is written goes before the default, family by family; `"off"` goes before all of it.
fn passthrough(draft: &ListenerDraft<'_>, default: Passthrough) -> Passthrough {
    let source = match draft.source {
        None => default.source,
        Some(Source { v4: None, v6: None }) => Source::default(),
        Some(Source { v4, v6 }) => {
            Source { v4: v4.or(default.source.v4), v6: v6.or(default.source.v6) }
        }
    };
    Passthrough { source, mark: draft.mark.unwrap_or(default.mark) }
}

fn cluster(draft: ClusterDraft<'_>) -> Option<Cluster> {
    let endpoints: Vec<_> = draft.endpoints.into_iter().map(|(address, _)| address).collect();
    if endpoints.is_empty() {
        return None;
    }
    Some(Cluster {
        name: draft.name?,
        endpoints,
        source: draft.source.unwrap_or_default(),
        mark: draft.mark.unwrap_or_default(),
        proxy_protocol: draft.proxy_protocol.unwrap_or(ProxyHeaderOut::Off),
        timeouts: draft.timeouts,
    })
}
