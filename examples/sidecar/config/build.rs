//! Turns a checked draft into a configuration: fills in defaults, hangs destinations on their
//! listeners. In: a draft without errors. Out: the configuration, or `None` if the draft did have
//! errors. Reports nothing.

use super::{
    address::{CpuList, Source},
    check::HTTP,
    draft::{ClusterDraft, Draft, EndpointDraft, ListenerDraft, RouteDraft, TlsDraft, Users},
    schema::{
        AccessLog, AccessLogFormat, Balance, Cluster, ClusterMode, ClusterTls, Config,
        ConnectionOptions, Destination, Direction, Driver, Endpoint, Fallback, HttpOptions,
        HttpTimeouts, Interception, Listener, ListenerMode, ListenerTimeouts, ListenerTls,
        LogFormat, LogSink, Own, Passthrough, Pin, Policy, Protocol, ProxyHeaderIn, ProxyHeaderOut,
        Route, Routing, Shards, Target, Terminated, Trust, Unmatched,
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
    let users = |cluster: &ClusterDraft<'_>| {
        cluster.name.as_deref().map(|name| draft.users(name)).unwrap_or_default()
    };
    let users: Vec<_> = draft.clusters.iter().map(users).collect();
    let clusters = draft.clusters.into_iter().zip(users);
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
        clusters: clusters.map(|(draft, users)| cluster(draft, users)).collect::<Option<_>>()?,
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
        proxy_protocol: draft.proxy_protocol.unwrap_or(ProxyHeaderIn::Off),
        connections: connections(draft)?,
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
        connections: connections(draft)?,
    })
}

fn connections(draft: &ListenerDraft<'_>) -> Option<ConnectionOptions> {
    let tls = match &draft.tls {
        Some(tls) if tls.mode != Some(ListenerMode::Off) => {
            Some(listener_tls(tls, protocol(draft))?)
        }
        _ => None,
    };
    Some(ConnectionOptions {
        protocol: protocol(draft),
        max_connections: draft.max_connections,
        access_log: access_log(draft),
        timeouts: timeouts(draft, tls.as_ref()),
        http: http(draft),
        tls,
    })
}

/// `None` where it is off, or something is missing.
pub(super) fn listener_tls(
    draft: &TlsDraft<'_, ListenerMode>,
    protocol: Protocol,
) -> Option<ListenerTls> {
    let terminated = || {
        Some(Terminated {
            own: own(draft)?,
            clients: trust(draft),
            alpn: alpn(draft, protocol.may_be_http()),
            drain_after: draft.drain_after.flatten(),
        })
    };
    Some(match draft.mode.unwrap_or(ListenerMode::Strict) {
        ListenerMode::Off => return None,
        ListenerMode::Passthrough => ListenerTls::Passthrough,
        ListenerMode::Simple => ListenerTls::Simple(terminated()?),
        mode => {
            let terminated = terminated()?;
            terminated.clients.as_ref()?;
            match mode {
                ListenerMode::Permissive => ListenerTls::Permissive(terminated),
                _ => ListenerTls::Strict(terminated),
            }
        }
    })
}

/// `None` where it is off, or something is missing.
pub(super) fn cluster_tls(draft: &TlsDraft<'_, ClusterMode>, users: Users) -> Option<ClusterTls> {
    let mode = draft.mode.unwrap_or(ClusterMode::Mutual);
    let own = match mode {
        ClusterMode::Off => return None,
        ClusterMode::Simple => None,
        ClusterMode::Mutual => Some(own(draft)?),
    };
    let servers = trust(draft)?;
    if draft.sni.is_none() && servers.peers.is_none() {
        return None;
    }
    let alpn = alpn(draft, users.http && !users.relay);
    let (sni, drain_after) = (draft.sni.clone(), draft.drain_after.flatten());
    Some(ClusterTls { mode, own, servers, sni, alpn, drain_after })
}

fn own<M>(draft: &TlsDraft<'_, M>) -> Option<Own> {
    Some(Own { certificate: draft.certificate.clone()?, key: draft.key.clone()? })
}

fn trust<M>(draft: &TlsDraft<'_, M>) -> Option<Trust> {
    let roots = draft.roots.clone()?;
    Some(Trust { roots, peers: draft.peers.clone(), crl: draft.crl.clone() })
}

fn alpn<M>(draft: &TlsDraft<'_, M>, http: bool) -> Vec<String> {
    let default = || if http { vec![HTTP.to_owned()] } else { Vec::new() };
    draft.alpn.clone().unwrap_or_else(default)
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
        sample: draft.access_log_sample.unwrap_or(1.0),
        only: draft.access_log_only.clone(),
    }
}

fn http(draft: &ListenerDraft<'_>) -> Option<HttpOptions> {
    let written = draft.http.as_ref().map(|(_, options)| options.clone());
    protocol(draft).may_be_http().then(|| written.unwrap_or_default())
}

fn timeouts(listener: &ListenerDraft<'_>, tls: Option<&ListenerTls>) -> ListenerTimeouts {
    let (draft, protocol) = (&listener.timeouts, protocol(listener));
    let http = HttpTimeouts::default();
    let http = HttpTimeouts {
        head: draft.head.unwrap_or(http.head),
        request: draft.request.unwrap_or(http.request),
        stream_idle: draft.stream_idle.unwrap_or(http.stream_idle),
        max_age: draft.max_age.unwrap_or(http.max_age),
    };
    let idle = draft.idle.or(match protocol {
        Protocol::Tcp => Some(Some(ListenerTimeouts::IDLE)),
        Protocol::Http | Protocol::Auto => None,
    });
    let detects = protocol == Protocol::Auto || matches!(tls, Some(ListenerTls::Permissive(_)));
    let detect = draft.detect.unwrap_or(ListenerTimeouts::DETECT);
    let handshake = draft.handshake.unwrap_or(ListenerTimeouts::HANDSHAKE);
    ListenerTimeouts {
        idle,
        half_close: draft.half_close.unwrap_or(Some(ListenerTimeouts::HALF_CLOSE)),
        http: protocol.may_be_http().then_some(http),
        detect: detects.then_some(detect),
        handshake: tls.map(|_| handshake),
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

fn cluster(draft: ClusterDraft<'_>, users: Users) -> Option<Cluster> {
    let tls = match &draft.tls {
        Some(tls) if tls.mode != Some(ClusterMode::Off) => Some(cluster_tls(tls, users)?),
        _ => None,
    };
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
        tls,
    })
}
