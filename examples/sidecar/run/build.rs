//! From a configuration to what the library runs. In: a checked [`Config`]. Out: listeners with their
//! services, for a start as for a reload, and the builder of a proxy. Opens nothing and asks the system
//! nothing: the same configuration always comes to the same.

use std::num::NonZeroUsize;

use evenkeel::{
    Builder, Connection, Error, Limits, Listener, Proxy, Relay, Reload, Service, ServiceFactory,
    accept::Balance,
    relay::{ProxyHeader, Timeouts},
    shard::Shard,
    telemetry::RejectReason,
};

use super::open_files;
use crate::config::{
    Config,
    schema::{
        self, Cluster, ClusterSource, Direction, Fallback, Interception, ListenerTimeouts, Lookup,
        Passthrough, ProxyHeaderIn, ProxyHeaderOut, Routing, Shards, Target, Unmatched,
    },
};

/// A proxy of this configuration, all but its caps on connections.
///
/// # Errors
/// An address that the library does not take.
pub(super) fn proxy(config: &Config) -> Result<Builder, Error> {
    let builder = match &config.shards {
        Shards::Count(count) => Proxy::builder().shards(*count),
        Shards::Cpus(cpus) => Proxy::builder().cpus(cpus.to_string()),
    };
    let mut builder = builder
        .pin(match config.pin {
            schema::Pin::Auto => evenkeel::Pin::Auto,
            schema::Pin::Always => evenkeel::Pin::Always,
            schema::Pin::Never => evenkeel::Pin::Never,
        })
        .acceptors(config.acceptors)
        .balance(balance(config));
    if let Some(address) = config.admin {
        builder = builder.admin(address.to_string());
    }
    if let Some(address) = config.telemetry {
        builder = builder.telemetry(address.to_string());
    }
    Ok(listeners(config)?.into_iter().fold(builder, Builder::listener))
}

/// What leads a running proxy from one configuration to another, all but its caps on connections.
///
/// # Errors
/// An address that the library does not take.
pub(super) fn reload(old: &Config, new: &Config) -> Result<Reload, Error> {
    let reload = Reload::new()
        .listeners(listeners(new)?)
        .telemetry(new.telemetry.iter().map(ToString::to_string));
    // A policy that is made anew has forgotten whose turn it was.
    Ok(if old.balance == new.balance { reload } else { reload.balance(balance(new)) })
}

fn balance(config: &Config) -> Balance {
    match config.balance {
        schema::Balance::LeastConnections => Balance::LeastConnections,
        schema::Balance::LeastBusy => Balance::LeastBusy,
        schema::Balance::RoundRobin => Balance::RoundRobin,
        schema::Balance::Kernel => Balance::Kernel,
    }
}

fn listeners(config: &Config) -> Result<Vec<Listener>, Error> {
    config.listeners.iter().map(|listener| accepting(listener, &config.clusters)).collect()
}

/// The caps on connections, as far as this many open files suffice; `None` is unlimited.
pub(super) fn limits(config: &Config, open_files: Option<u64>) -> Limits {
    let connections = open_files::connection_cap(config.limits.connections, open_files);
    Limits::new(connections, cap(config.limits.connections_per_shard))
}

/// A cap as the library takes it: 0 is none.
fn cap(connections: Option<NonZeroUsize>) -> u32 {
    connections.map_or(0, |cap| u32::try_from(cap.get()).unwrap_or(u32::MAX))
}

fn accepting(from: &schema::Listener, clusters: &[Cluster]) -> Result<Listener, Error> {
    let mut listener = Listener::bind(&from.bind.to_string())?
        .named(&from.name)
        .max_connections(cap(from.max_connections));
    if from.direction == Direction::Inbound {
        listener = listener.inbound();
    }
    if from.proxy_protocol == ProxyHeaderIn::Required {
        listener = listener.proxy_protocol();
    }
    Ok(match &from.routing {
        Routing::Fixed { cluster } => match service(cluster, clusters, None, &from.timeouts) {
            Forward::Relay(relay) => listener.serve(relay),
            Forward::Refuse => listener.serve(Blackhole),
        },
        Routing::OriginalDestination(interception) => {
            intercepting(listener, interception, clusters, &from.timeouts)
        }
    })
}

fn intercepting(
    listener: Listener,
    interception: &Interception,
    clusters: &[Cluster],
    timeouts: &ListenerTimeouts,
) -> Listener {
    let mut listener = match interception.lookup {
        Lookup::Redirect => listener.redirected(),
        Lookup::Tproxy => listener.transparent(),
    };
    for destination in &interception.destinations {
        let pattern = destination.pattern.to_string();
        let limit = cap(destination.max_connections);
        let passthrough = destination.passthrough.as_ref();
        let forward = service(&destination.target, clusters, passthrough, &destination.timeouts);
        listener = match forward {
            Forward::Relay(relay) => {
                listener.named_destination(&destination.name, &pattern, limit, relay)
            }
            Forward::Refuse => {
                listener.named_destination(&destination.name, &pattern, limit, Blackhole)
            }
        };
    }
    if let Some(target) = interception.direct() {
        return match service(target, clusters, None, timeouts) {
            Forward::Relay(relay) => listener.serve(relay),
            Forward::Refuse => listener.serve(Blackhole),
        };
    }
    match interception.unmatched {
        // What no service takes is refused.
        Unmatched::Fallback(Fallback::Blackhole) => listener,
        _ => listener.fallback(passthrough(Some(&interception.passthrough), timeouts)),
    }
}

/// What becomes of the connections to a target.
enum Forward {
    Relay(Relay),
    Refuse,
}

fn service(
    target: &Target,
    clusters: &[Cluster],
    options: Option<&Passthrough>,
    timeouts: &ListenerTimeouts,
) -> Forward {
    match target {
        Target::Passthrough => Forward::Relay(passthrough(options, timeouts)),
        Target::Blackhole => Forward::Refuse,
        // A cluster that is named exists: the configuration was checked.
        Target::Cluster(name) => clusters
            .iter()
            .find(|cluster| cluster.name == *name)
            .map_or(Forward::Refuse, |cluster| Forward::Relay(to_cluster(cluster, timeouts))),
    }
}

fn passthrough(options: Option<&Passthrough>, timeouts: &ListenerTimeouts) -> Relay {
    let mut relay = Relay::to_original_destination().timeouts(relay_timeouts(timeouts));
    let Some(options) = options else { return relay };
    for address in options.source.addresses() {
        relay = relay.source(&address.to_string());
    }
    match options.mark {
        Some(mark) => relay.mark(mark.get()),
        None => relay,
    }
}

fn to_cluster(cluster: &Cluster, timeouts: &ListenerTimeouts) -> Relay {
    let mut relay = Relay::to(cluster.endpoints.iter().map(ToString::to_string))
        .cluster(&cluster.name)
        .connect_timeout(Some(cluster.timeouts.connect))
        .timeouts(relay_timeouts(timeouts))
        .proxy_header(match cluster.proxy_protocol {
            ProxyHeaderOut::Off => ProxyHeader::Off,
            ProxyHeaderOut::V1 => ProxyHeader::V1,
            ProxyHeaderOut::V2 => ProxyHeader::V2,
        });
    match cluster.source {
        ClusterSource::Client => relay = relay.transparent_source(),
        ClusterSource::Address(source) => {
            for address in source.addresses() {
                relay = relay.source(&address.to_string());
            }
        }
    }
    match cluster.mark {
        Some(mark) => relay.mark(mark.get()),
        None => relay,
    }
}

fn relay_timeouts(from: &ListenerTimeouts) -> Timeouts {
    let mut timeouts = Timeouts::default();
    timeouts.idle = from.idle;
    timeouts.half_close = from.half_close;
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
