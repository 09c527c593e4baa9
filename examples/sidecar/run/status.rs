//! `GET /clusters`: every cluster as it is at the moment. In: the configuration and the clusters that
//! HTTP forwards to. Out: JSON. A cluster that is relayed to has no state but its endpoints.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use evenkeel::{
    admin::Response,
    upstream::{
        cluster::{Cluster, EndpointStatus},
        limits::Limit,
    },
};
use serde::Serialize;

use super::clusters::{Clusters, is_for_http};
use crate::config::{Config, schema};

#[derive(Serialize)]
struct Answer<'c> {
    clusters: Vec<OfCluster<'c>>,
}

#[derive(Serialize)]
struct OfCluster<'c> {
    name: &'c str,
    /// `http` or `tcp`.
    protocol: &'static str,
    endpoints: Vec<OfEndpoint>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    limits: Vec<OfLimit>,
}

#[derive(Serialize)]
struct OfEndpoint {
    /// As it was configured, name and port.
    name: String,
    /// Where it is; absent for a name without an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<SocketAddr>,
    weight: u32,
    #[serde(flatten)]
    state: Option<State>,
}

#[derive(Serialize)]
struct State {
    /// Requests, as far as the policy of the cluster counts them.
    in_flight: u32,
    healthy: bool,
    ejected: bool,
    /// Until it comes back.
    #[serde(skip_serializing_if = "Option::is_none")]
    ejected_for_seconds: Option<f64>,
}

#[derive(Serialize)]
struct OfLimit {
    limit: &'static str,
    most: u32,
    in_use: u32,
    open: bool,
}

pub(super) fn clusters(config: &Config, clusters: &Clusters) -> Response {
    let now = Instant::now();
    let all = config.clusters.iter().filter_map(|cluster| {
        let protocol = if is_for_http(cluster, config) { "http" } else { "tcp" };
        Some(of_cluster(cluster, protocol, clusters.get(&cluster.name)?, now))
    });
    let answer = Answer { clusters: all.collect() };
    match serde_json::to_string_pretty(&answer) {
        Ok(json) => Response::json(200, json + "\n"),
        Err(error) => Response::text(500, format!("cannot show the clusters: {error}\n")),
    }
}

fn of_cluster<'c>(
    cluster: &'c schema::Cluster,
    protocol: &'static str,
    known: &Arc<Cluster>,
    now: Instant,
) -> OfCluster<'c> {
    let mut endpoints: Vec<_> = known.status(now).into_iter().map(of_endpoint).collect();
    for host in known.unresolved() {
        let is_it = |endpoint: &&schema::Endpoint| {
            endpoint.address.to_string().rsplit_once(':').is_some_and(|(name, _)| *name == *host)
        };
        endpoints.extend(cluster.endpoints.iter().filter(is_it).map(unknown));
    }
    let snapshot = known.snapshot();
    let limits = Limit::ALL.into_iter().filter_map(|limit| {
        let most = snapshot.settings().limits().of(limit)?;
        let (in_use, open) = (known.in_use(limit), known.is_open(limit));
        Some(OfLimit { limit: limit.name(), most, in_use, open })
    });
    OfCluster { name: &cluster.name, protocol, endpoints, limits: limits.collect() }
}

fn of_endpoint(status: EndpointStatus) -> OfEndpoint {
    OfEndpoint {
        name: status.authority.to_string(),
        address: Some(status.address),
        weight: status.weight,
        state: Some(State {
            in_flight: status.in_flight,
            healthy: status.healthy,
            ejected: status.ejected_for.is_some(),
            ejected_for_seconds: status.ejected_for.map(|left| left.as_secs_f64()),
        }),
    }
}

fn unknown(endpoint: &schema::Endpoint) -> OfEndpoint {
    let name = endpoint.address.to_string();
    let address = name.parse().ok();
    OfEndpoint { name, address, weight: endpoint.weight, state: None }
}
