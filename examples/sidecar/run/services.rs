//! The services of listeners: what becomes of their connections. In: what a listener of either kind
//! says, and what was prepared for it. Out: its service.

use std::sync::Arc;

use evenkeel::{
    Connection, Detect, Listener, Relay, Service, ServiceFactory,
    http::{self, Forwarded, h1::HeadLimits, route::PathPolicy},
    relay::{ProxyHeader, Timeouts},
    shard::Shard,
    telemetry::RejectReason,
};

use super::kept::Prepared;
use crate::config::schema::{
    self, Cluster, ConnectionOptions, ListenerTimeouts, Passthrough, Protocol, ProxyHeaderOut,
    Target,
};

/// What a listener of either kind says about its connections.
#[derive(Clone, Copy)]
pub(super) struct Spoken<'c> {
    /// The listener's name.
    pub(super) name: &'c str,
    pub(super) connections: &'c ConnectionOptions,
    /// Where bytes go; HTTP has its routes.
    pub(super) target: Option<&'c Target>,
    pub(super) passthrough: Option<&'c Passthrough>,
}

/// Where a service goes in a listener.
pub(super) enum Place<'c> {
    Serve,
    Fallback,
    Destination { name: &'c str, pattern: String, limit: u32 },
}

/// Gives `listener` the service of what `spoken` says.
pub(super) fn add(
    listener: Listener,
    place: &Place<'_>,
    spoken: Spoken<'_>,
    clusters: &[Cluster],
    prepared: &Prepared,
) -> Listener {
    let relay = relay(spoken, clusters, prepared);
    let http = proxy(spoken, prepared);
    match (spoken.connections.protocol, http, relay) {
        (Protocol::Http, Some(http), _) => put(listener, place, http),
        (Protocol::Auto, Some(http), Some(relay)) => {
            let detect = Detect::http(http).or(relay);
            put(listener, place, within(detect, &spoken.connections.timeouts))
        }
        (Protocol::Auto, Some(http), None) => {
            let detect = Detect::http(http).or(Blackhole);
            put(listener, place, within(detect, &spoken.connections.timeouts))
        }
        (_, _, Some(relay)) => put(listener, place, relay),
        (_, _, None) => put(listener, place, Blackhole),
    }
}

fn within<H, T>(detect: Detect<H, T>, timeouts: &ListenerTimeouts) -> Detect<H, T> {
    match timeouts.detect {
        Some(detect_within) => detect.within(detect_within),
        None => detect,
    }
}

fn put(listener: Listener, place: &Place<'_>, service: impl ServiceFactory) -> Listener {
    match place {
        Place::Serve => listener.serve(service),
        Place::Fallback => listener.fallback(service),
        Place::Destination { name, pattern, limit } => {
            listener.named_destination(*name, pattern, *limit, service)
        }
    }
}

/// `None` where it speaks no HTTP.
fn proxy(spoken: Spoken<'_>, prepared: &Prepared) -> Option<http::Proxy> {
    let routes = prepared.routes.get(spoken.name)?;
    let options = spoken.connections.http.clone().unwrap_or_default();
    let max_head = usize::try_from(options.max_head).unwrap_or(usize::MAX);
    let mut proxy = http::proxy(routes.clone())
        .timeouts(http_timeouts(&spoken.connections.timeouts))
        .head_limits(HeadLimits {
            bytes: max_head,
            fields: options.max_fields,
            ..HeadLimits::default()
        })
        .max_body(options.max_body)
        .connect(options.connect)
        .forwarded(match options.forwarded {
            schema::http::Forwarded::Append => Forwarded::Append,
            schema::http::Forwarded::Replace => Forwarded::Replace,
            schema::http::Forwarded::Trust => Forwarded::Trust,
        })
        .paths(match options.paths {
            schema::http::PathPolicy::Refuse => PathPolicy::Refuse,
            schema::http::PathPolicy::Resolve => PathPolicy::Resolve,
        });
    if let Some(via) = &options.via {
        proxy = proxy.via(via);
    }
    Some(match prepared.logs.get(&spoken.connections.access_log) {
        Some(log) => proxy.access_log(log),
        None => proxy,
    })
}

/// `None` where its connections go nowhere.
fn relay(spoken: Spoken<'_>, clusters: &[Cluster], prepared: &Prepared) -> Option<Relay> {
    let relay = match spoken.target? {
        Target::Passthrough => passthrough(spoken.passthrough),
        Target::Blackhole => return None,
        // A cluster that is named exists: the configuration was checked.
        Target::Cluster(name) => {
            let header = clusters.iter().find(|it| it.name == *name)?.proxy_protocol;
            let cluster = Arc::clone(prepared.clusters.get(name)?);
            Relay::to_cluster(cluster).proxy_header(match header {
                ProxyHeaderOut::Off => ProxyHeader::Off,
                ProxyHeaderOut::V1 => ProxyHeader::V1,
                ProxyHeaderOut::V2 => ProxyHeader::V2,
            })
        }
    };
    let relay = relay.timeouts(relay_timeouts(&spoken.connections.timeouts));
    Some(match prepared.logs.get(&spoken.connections.access_log) {
        Some(log) => relay.access_log(log),
        None => relay,
    })
}

fn passthrough(options: Option<&Passthrough>) -> Relay {
    let mut relay = Relay::to_original_destination();
    let Some(options) = options else { return relay };
    for address in options.source.addresses() {
        relay = relay.source(&address.to_string());
    }
    match options.mark {
        Some(mark) => relay.mark(mark.get()),
        None => relay,
    }
}

fn relay_timeouts(from: &ListenerTimeouts) -> Timeouts {
    let mut timeouts = Timeouts::default();
    timeouts.idle = from.idle.unwrap_or(Some(ListenerTimeouts::IDLE));
    timeouts.half_close = from.half_close;
    timeouts
}

fn http_timeouts(from: &ListenerTimeouts) -> http::Timeouts {
    let of_http = from.http.clone().unwrap_or_default();
    let mut timeouts = http::Timeouts::default();
    timeouts.idle = from.idle.unwrap_or(timeouts.idle);
    timeouts.head = of_http.head;
    timeouts.request = of_http.request;
    timeouts.stream_idle = of_http.stream_idle;
    timeouts.max_age = of_http.max_age;
    timeouts.tunnel = relay_timeouts(from);
    timeouts
}

/// Closes every connection at once, and counts it.
struct Blackhole;

impl ServiceFactory for Blackhole {
    type Service = Blackhole;

    fn make(&self, _: &Shard) -> Blackhole {
        Blackhole
    }
}

impl Service for Blackhole {
    async fn serve(&self, connection: Connection) {
        connection.reject(RejectReason::Blackhole);
    }
}
