//! The routes of each listener that speaks HTTP: one value a listener for as long as the configuration
//! has it, which the listener's connections look at for every request.
//!
//! In: the routes of a configuration, and its clusters. Out: the same as the library looks them up. What
//! a live connection sees changes only when the configuration is in force.

use std::{collections::HashMap, sync::Arc};

use evenkeel::{
    Error,
    http::{Fallback, Routes, route::RouteTable},
    upstream::cluster::Cluster,
};

use super::clusters::Clusters;
use crate::config::{
    Config,
    schema::{self, Passthrough, Routing, Target, Unmatched},
};

/// The routes of one configuration, by the names of the listeners.
#[derive(Clone, Default)]
pub(super) struct RoutesOfListeners(HashMap<String, Routes>);

/// What listeners that stay route by once it is in force.
pub(super) struct Changes(Vec<(Routes, Content)>);

/// What is replaced at once.
struct Content {
    table: RouteTable,
    clusters: Vec<Arc<Cluster>>,
    fallback: Fallback,
}

/// Where requests go that no route takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unrouted<'c> {
    Nowhere,
    Blackhole,
    Cluster(&'c str),
    Passthrough(Passthrough),
}

impl RoutesOfListeners {
    /// The routes of `config` to `clusters`, with the values of this one for listeners that it still
    /// has.
    ///
    /// # Errors
    /// A route or cluster that the library does not take.
    pub(super) fn next(
        &self,
        config: &Config,
        clusters: &mut Clusters,
        clusters_before: &Clusters,
    ) -> Result<(RoutesOfListeners, Changes), Error> {
        let (mut next, mut changes) = (RoutesOfListeners::default(), Changes(Vec::new()));
        for (name, unrouted) in http_listeners(config) {
            let content = content(config, name, unrouted, clusters, clusters_before)?;
            let routes = match self.0.get(name) {
                Some(known) => {
                    changes.0.push((known.clone(), content));
                    known.clone()
                }
                None => Routes::new(content.table, content.clusters, content.fallback),
            };
            next.0.insert(name.to_owned(), routes);
        }
        Ok((next, changes))
    }

    pub(super) fn get(&self, listener: &str) -> Option<&Routes> {
        self.0.get(listener)
    }
}

impl Changes {
    pub(super) fn apply(self) {
        for (routes, Content { table, clusters, fallback }) in self.0 {
            routes.replace(table, clusters, fallback);
        }
    }
}

fn content(
    config: &Config,
    listener: &str,
    unrouted: Unrouted<'_>,
    clusters: &mut Clusters,
    clusters_before: &Clusters,
) -> Result<Content, Error> {
    let invalid = |what: String| Error::Invalid(format!("listener {listener:?}: {what}"));
    let its = config.routes.iter().filter(|route| route.listener == listener);
    let specs = its.map(|route| {
        route.spec().map_err(|_| invalid(format!("route {:?} cannot be used", route.name)))
    });
    let table = RouteTable::build(specs.collect::<Result<_, _>>()?)
        .map_err(|error| invalid(error.to_string()))?;
    let named = table.clusters().iter().filter_map(|name| clusters.get(name).cloned()).collect();
    let fallback = match unrouted {
        Unrouted::Nowhere => Fallback::NotFound,
        Unrouted::Blackhole => Fallback::Blackhole,
        Unrouted::Passthrough(how) => {
            Fallback::OriginalDestination(clusters.passthrough(how, clusters_before)?)
        }
        Unrouted::Cluster(name) => match clusters.get(name) {
            Some(cluster) => Fallback::Cluster(Arc::clone(cluster)),
            None => return Err(invalid(format!("there is no cluster {name:?}"))),
        },
    };
    Ok(Content { table, clusters: named, fallback })
}

/// The listeners of either kind that speak HTTP, by name.
pub(super) fn http_listeners(config: &Config) -> impl Iterator<Item = (&str, Unrouted<'_>)> {
    config.listeners.iter().flat_map(|listener| {
        let accepting = listener.connections.protocol.may_be_http();
        let accepting = accepting.then(|| (listener.name.as_str(), of_listener(&listener.routing)));
        let destinations = match &listener.routing {
            Routing::Fixed { .. } => &[][..],
            Routing::OriginalDestination(interception) => &interception.destinations,
        };
        let destinations = destinations.iter().filter(|it| it.connections.protocol.may_be_http());
        accepting.into_iter().chain(destinations.map(|it| (it.name.as_str(), of_destination(it))))
    })
}

fn of_listener(routing: &Routing) -> Unrouted<'_> {
    match routing {
        Routing::Fixed { cluster } => unrouted(cluster.as_ref(), None),
        Routing::OriginalDestination(interception) => {
            let target = match &interception.unmatched {
                Unmatched::Cluster(target) => target,
                Unmatched::Fallback(schema::Fallback::Passthrough) => &Target::Passthrough,
                Unmatched::Fallback(schema::Fallback::Blackhole) => &Target::Blackhole,
            };
            unrouted(Some(target), Some(interception.passthrough))
        }
    }
}

fn of_destination(destination: &schema::Destination) -> Unrouted<'_> {
    unrouted(destination.target.as_ref(), destination.passthrough)
}

fn unrouted(target: Option<&Target>, passthrough: Option<Passthrough>) -> Unrouted<'_> {
    match (target, passthrough) {
        (None, _) => Unrouted::Nowhere,
        (Some(Target::Cluster(name)), _) => Unrouted::Cluster(name),
        (Some(Target::Passthrough), Some(how)) => Unrouted::Passthrough(how),
        // Passthrough has its settings wherever it is possible.
        (Some(Target::Blackhole | Target::Passthrough), _) => Unrouted::Blackhole,
    }
}
