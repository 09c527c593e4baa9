//! The services of listeners: what becomes of their connections. In: what a listener of either kind
//! says, and what was prepared for it. Out: its service.

use std::{collections::HashSet, sync::Arc};

use evenkeel::{
    Connection, Detect, Listener, Relay, Service, ServiceFactory,
    http::{self, Forwarded, h1::HeadLimits, route::PathPolicy},
    relay::{ProxyHeader, Timeouts},
    shard::Shard,
    telemetry::RejectReason,
    tls::{self, ByProtocol, ByServerName},
};

use super::kept::Prepared;
use crate::config::schema::{
    self, Cluster, ConnectionOptions, ListenerTimeouts, ListenerTls, Passthrough, Protocol,
    ProxyHeaderOut, Route, RouteAction, Target,
};

/// The protocol of HTTP/1.1, by its name for ALPN (RFC 7301).
const HTTP: &str = "http/1.1";

/// What a listener of either kind says about its connections.
#[derive(Clone, Copy)]
pub(super) struct Spoken<'c> {
    /// The listener's name.
    pub(super) name: &'c str,
    pub(super) connections: &'c ConnectionOptions,
    /// Where bytes go; HTTP has its routes.
    pub(super) target: Option<&'c Target>,
    pub(super) passthrough: Option<&'c Passthrough>,
    /// The routes of the configuration.
    pub(super) routes: &'c [Route],
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
    let relay = spoken.target.and_then(|target| relay(target, spoken, clusters, prepared));
    let put = Put { listener, place, spoken, prepared };
    if spoken.connections.tls == Some(ListenerTls::Passthrough) {
        let by_name = by_server_name(spoken, clusters, prepared);
        return match relay {
            Some(relay) => put.plain(by_name.or(relay)),
            None => put.plain(by_name.or(Blackhole)),
        };
    }
    match (spoken.connections.protocol, proxy(spoken, prepared), relay) {
        (Protocol::Http, Some(http), _) => put.service(http),
        (Protocol::Auto, Some(http), Some(relay)) => put.either(http, relay),
        (Protocol::Auto, Some(http), None) => put.either(http, Blackhole),
        (_, _, Some(relay)) => put.service(relay),
        (_, _, None) => put.plain(Blackhole),
    }
}

/// Where a service goes, and what goes in front of it.
struct Put<'p> {
    listener: Listener,
    place: &'p Place<'p>,
    spoken: Spoken<'p>,
    prepared: &'p Prepared,
}

impl Put<'_> {
    /// A service, behind TLS if there is any.
    fn service(self, service: impl ServiceFactory) -> Listener {
        let connections = self.spoken.connections;
        let credentials = self.prepared.credentials.listener(self.spoken.name);
        let Some(credentials) = credentials else { return self.plain(service) };
        let terminate = tls::terminate(credentials.clone(), service)
            .handshake_timeout(connections.timeouts.handshake);
        match (&connections.tls, connections.timeouts.detect) {
            (Some(ListenerTls::Permissive(_)), Some(detect)) => {
                self.plain(terminate.permissive(detect))
            }
            _ => self.plain(terminate),
        }
    }

    /// HTTP where ALPN or the first bytes say so, and `other` elsewhere.
    fn either(self, http: http::Proxy, other: impl ServiceFactory) -> Listener {
        let (spoken, prepared) = (self.spoken, self.prepared);
        let detect = within(Detect::http(http).or(other), &spoken.connections.timeouts);
        match (prepared.credentials.listener(spoken.name), proxy(spoken, prepared)) {
            (Some(_), Some(http)) => {
                self.service(ByProtocol::new(HTTP.as_bytes(), http).or(detect))
            }
            _ => self.plain(detect),
        }
    }

    fn plain(self, service: impl ServiceFactory) -> Listener {
        match self.place {
            Place::Serve => self.listener.serve(service),
            Place::Fallback => self.listener.fallback(service),
            Place::Destination { name, pattern, limit } => {
                self.listener.named_destination(*name, pattern, *limit, service)
            }
        }
    }
}

/// A relay for each server name that routes have.
fn by_server_name(
    spoken: Spoken<'_>,
    clusters: &[Cluster],
    prepared: &Prepared,
) -> ByServerName<Relay, ()> {
    let mut seen = HashSet::new();
    let mut relays = Vec::new();
    for route in spoken.routes.iter().filter(|route| route.listener == spoken.name) {
        let RouteAction::Cluster(name) = &route.action else { continue };
        let target = Target::Cluster(name.clone());
        let Some(relay) = relay(&target, spoken, clusters, prepared) else { continue };
        // Of two routes with the same name, the first is taken.
        let new = route.hosts.iter().filter(|host| seen.insert(host.to_ascii_lowercase()));
        relays.extend(new.map(|host| (host.as_str(), relay.clone())));
    }
    let by_name = ByServerName::new(relays);
    match spoken.connections.timeouts.handshake {
        Some(handshake) => by_name.within(handshake),
        None => by_name,
    }
}

fn within<H, T>(detect: Detect<H, T>, timeouts: &ListenerTimeouts) -> Detect<H, T> {
    match timeouts.detect {
        Some(detect_within) => detect.within(detect_within),
        None => detect,
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
fn relay(
    target: &Target,
    spoken: Spoken<'_>,
    clusters: &[Cluster],
    prepared: &Prepared,
) -> Option<Relay> {
    let relay = match target {
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
