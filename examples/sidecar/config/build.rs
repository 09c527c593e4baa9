//! Turns a checked draft into a configuration: fills in defaults, hangs destinations on their
//! listeners. In: a draft without errors. Out: the configuration, or `None` if the draft did have
//! errors. Reports nothing.

use super::{
    address::{CpuList, Source},
    draft::{ClusterDraft, Draft, EndpointDraft, ListenerDraft, RouteDraft, TimeoutsDraft},
    schema::{
        AccessLog, AccessLogFormat, Balance, Cluster, Config, Destination, Direction, Driver,
        Endpoint, Fallback, HttpOptions, HttpTimeouts, Interception, Listener, ListenerTimeouts,
        LogFormat, LogSink, Passthrough, Pin, Policy, Protocol, ProxyHeaderIn, ProxyHeaderOut,
        RelayTimeouts, Route, Routing, Shards, Target, Unmatched,
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
        driver: draft.driver.unwrap_or(Driver::Auto),
        balance: draft.balance.unwrap_or(Balance::LeastConnections),
        admin: draft.admin,
        telemetry: draft.telemetry,
        log: draft.log.unwrap_or_else(|| "info".into()),
        log_format: draft.log_format.unwrap_or(LogFormat::Text),
        limits: draft.limits,
        drain: draft.drain,
        listeners,
        routes: draft
            .routes
            .iter()
            .enumerate()
            .map(|(index, draft)| route(draft, index))
            .collect::<Option<_>>()?,
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
        None => Routing::Fixed { cluster: target(draft)? },
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
        protocol: protocol(draft),
        max_connections: draft.max_connections,
        proxy_protocol: draft.proxy_protocol.unwrap_or(ProxyHeaderIn::Off),
        access_log: access_log(draft),
        timeouts: timeouts(&draft.timeouts, protocol(draft)),
        http: http(draft),
    })
}

fn destination(draft: &ListenerDraft<'_>, of_listener: Passthrough) -> Option<Destination> {
    let target = target(draft)?;
    let passes = target == Some(Target::Passthrough);
    let passthrough = passes.then(|| passthrough(draft, of_listener));
    Some(Destination {
        name: draft.name.clone()?,
        pattern: draft.pattern?,
        target,
        passthrough,
        protocol: protocol(draft),
        max_connections: draft.max_connections,
        access_log: access_log(draft),
        timeouts: timeouts(&draft.timeouts, protocol(draft)),
        http: http(draft),
    })
}

fn protocol(draft: &ListenerDraft<'_>) -> Protocol {
    draft.protocol.unwrap_or(Protocol::Tcp)
}

/// Where all of it goes, or with HTTP what no route takes.
fn target(draft: &ListenerDraft<'_>) -> Option<Option<Target>> {
    match protocol(draft) {
        Protocol::Http => Some(draft.cluster.clone()),
        Protocol::Tcp | Protocol::Auto => draft.cluster.clone().map(Some),
    }
}

fn access_log(draft: &ListenerDraft<'_>) -> AccessLog {
    AccessLog {
        sink: draft.access_log.clone().unwrap_or(LogSink::Off),
        format: draft.access_log_format.unwrap_or(AccessLogFormat::Istio),
    }
}

fn http(draft: &ListenerDraft<'_>) -> Option<HttpOptions> {
    let written = draft.http.as_ref().map(|(_, options)| options.clone());
    protocol(draft).may_be_http().then(|| written.unwrap_or_default())
}

fn timeouts(draft: &TimeoutsDraft<'_>, protocol: Protocol) -> ListenerTimeouts {
    let relay = RelayTimeouts::default();
    let relay = RelayTimeouts { half_close: draft.half_close.unwrap_or(relay.half_close) };
    let http = HttpTimeouts::default();
    let http = HttpTimeouts {
        head: draft.head.unwrap_or(http.head),
        request: draft.request.unwrap_or(http.request),
        stream_idle: draft.stream_idle.unwrap_or(http.stream_idle),
        max_age: draft.max_age.unwrap_or(http.max_age),
    };
    let idle = draft.idle.or(match protocol {
        Protocol::Tcp => Some(Some(RelayTimeouts::IDLE)),
        Protocol::Http => Some(Some(HttpTimeouts::IDLE)),
        Protocol::Auto => None,
    });
    let detect = draft.detect.unwrap_or(ListenerTimeouts::DETECT);
    ListenerTimeouts {
        idle,
        relay: protocol.may_be_tcp().then_some(relay),
        http: protocol.may_be_http().then_some(http),
        detect: (protocol == Protocol::Auto).then_some(detect),
    }
}

/// The route that stands at `index` in the file, from 0.
pub(super) fn route(draft: &RouteDraft<'_>, index: usize) -> Option<Route> {
    Some(Route {
        name: draft.name.clone().unwrap_or_else(|| format!("route-{}", index + 1)),
        listener: draft.listener.clone()?,
        hosts: draft.hosts.clone(),
        path: draft.path.clone().unwrap_or_default(),
        method: draft.method.clone(),
        headers: draft.headers.clone(),
        action: draft.action.action.clone()?,
        timeout: draft.timeout,
        try_timeout: draft.try_timeout,
        rewrite: draft.rewrite.clone(),
        request_headers: draft.request_headers.clone(),
        response_headers: draft.response_headers.clone(),
        retry: draft.retry.clone(),
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
    let endpoint = |draft: EndpointDraft| Endpoint { address: draft.address, weight: draft.weight };
    let endpoints: Vec<_> = draft.endpoints.into_iter().map(endpoint).collect();
    if endpoints.is_empty() {
        return None;
    }
    Some(Cluster {
        name: draft.name?,
        endpoints,
        policy: draft.policy.unwrap_or(Policy::LeastRequest),
        source: draft.source.unwrap_or_default(),
        mark: draft.mark.unwrap_or_default(),
        proxy_protocol: draft.proxy_protocol.unwrap_or(ProxyHeaderOut::Off),
        timeouts: draft.timeouts,
        limits: draft.limits,
        outlier: draft.outlier,
        retry: draft.retry,
        health: draft.health,
    })
}
