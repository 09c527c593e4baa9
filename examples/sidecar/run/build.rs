//! From a configuration to what the library runs. In: a checked [`Config`], and what was prepared for it
//! (`kept`). Out: listeners with their
//! services, for a start as for a reload, and the builder of a proxy. Opens nothing and asks the system
//! nothing: the same configuration always comes to the same.

use std::num::NonZeroUsize;

use evenkeel::{Builder, Error, Limits, Listener, Proxy, Reload, accept::Balance};

use super::{
    kept::Prepared,
    open_files,
    services::{self, Place, Spoken},
};
use crate::config::{
    Config,
    schema::{
        self, Cluster, Direction, Fallback, Interception, Lookup, ProxyHeaderIn, Routing, Shards,
        Target, Unmatched,
    },
};

/// A proxy of this configuration, all but its caps on connections.
///
/// # Errors
/// An address that the library does not take.
pub(super) fn proxy(config: &Config, prepared: &Prepared) -> Result<Builder, Error> {
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
    Ok(listeners(config, prepared)?.into_iter().fold(builder, Builder::listener))
}

/// What leads a running proxy from one configuration to another, all but its caps on connections.
///
/// # Errors
/// An address that the library does not take.
pub(super) fn reload(old: &Config, new: &Config, prepared: &Prepared) -> Result<Reload, Error> {
    let reload = Reload::new()
        .listeners(listeners(new, prepared)?)
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

fn listeners(config: &Config, prepared: &Prepared) -> Result<Vec<Listener>, Error> {
    let listeners = config.listeners.iter();
    listeners.map(|listener| accepting(listener, config, prepared)).collect()
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

fn accepting(
    from: &schema::Listener,
    config: &Config,
    prepared: &Prepared,
) -> Result<Listener, Error> {
    let mut listener = Listener::bind(&from.bind.to_string())?
        .named(&from.name)
        .max_connections(cap(from.connections.max_connections));
    if from.direction == Direction::Inbound {
        listener = listener.inbound();
    }
    if from.proxy_protocol == ProxyHeaderIn::Required {
        listener = listener.proxy_protocol();
    }
    let spoken = Spoken {
        name: &from.name,
        connections: &from.connections,
        target: None,
        passthrough: None,
        routes: &config.routes,
    };
    let clusters = &config.clusters;
    Ok(match &from.routing {
        Routing::Fixed { cluster } => {
            let spoken = Spoken { target: cluster.as_ref(), ..spoken };
            services::add(listener, &Place::Serve, spoken, clusters, prepared)
        }
        Routing::OriginalDestination(interception) => {
            intercepting(listener, interception, spoken, clusters, prepared)
        }
    })
}

fn intercepting(
    listener: Listener,
    interception: &Interception,
    spoken: Spoken<'_>,
    clusters: &[Cluster],
    prepared: &Prepared,
) -> Listener {
    let mut listener = match interception.lookup {
        Lookup::Redirect => listener.redirected(),
        Lookup::Tproxy => listener.transparent(),
    };
    for destination in &interception.destinations {
        let place = Place::Destination {
            name: &destination.name,
            pattern: destination.pattern.to_string(),
            limit: cap(destination.connections.max_connections),
        };
        let spoken = Spoken {
            name: &destination.name,
            connections: &destination.connections,
            target: destination.target.as_ref(),
            passthrough: destination.passthrough.as_ref(),
            ..spoken
        };
        listener = services::add(listener, &place, spoken, clusters, prepared);
    }
    if let Some(target) = interception.direct() {
        let spoken = Spoken { target: Some(target), ..spoken };
        return services::add(listener, &Place::Serve, spoken, clusters, prepared);
    }
    match interception.unmatched {
        // What no service takes is refused. HTTP is answered, and may have routes.
        Unmatched::Fallback(Fallback::Blackhole) if !spoken.connections.protocol.may_be_http() => {
            listener
        }
        Unmatched::Fallback(Fallback::Blackhole) => {
            let spoken = Spoken { target: Some(&Target::Blackhole), ..spoken };
            services::add(listener, &Place::Fallback, spoken, clusters, prepared)
        }
        _ => {
            let spoken = Spoken {
                target: Some(&Target::Passthrough),
                passthrough: Some(&interception.passthrough),
                ..spoken
            };
            services::add(listener, &Place::Fallback, spoken, clusters, prepared)
        }
    }
}
