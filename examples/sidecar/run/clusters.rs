//! The clusters: one value a name for as long as the configuration has it, so that
//! counts, ejections and pools survive a reload.
//!
//! In: the clusters of a configuration. Out: the same as the library holds them. A cluster that stays is
//! told its new settings only when the configuration is in force. Never opens a connection.

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroUsize,
    sync::Arc,
    time::Instant,
};

use evenkeel::{
    Error,
    upstream::{
        cluster::Cluster,
        health::{HealthCheck, Probe},
        limits::Limits,
        outlier::Outlier,
        retry::{Backoff, RetryBudget, RetryPolicy},
        settings::{ClusterBuilder, ClusterError, ClusterSettings, Policy},
    },
};

use super::{
    credentials::AllCredentials,
    routes::{self, Unrouted},
};
use crate::config::{
    Config,
    schema::{self, ClusterSource, Passthrough, RouteAction, Target},
};

/// The clusters of one configuration.
#[derive(Clone, Default)]
pub(super) struct Clusters {
    by_name: HashMap<String, Arc<Cluster>>,
    /// Where requests go that go on to where their clients were connecting: one for each way to
    /// connect.
    passthrough: Vec<(Passthrough, Arc<Cluster>)>,
}

/// Settings of clusters that stay, until they are in force.
pub(super) struct Changes(Vec<(Arc<Cluster>, ClusterSettings)>);

impl Clusters {
    /// The clusters of `config`, with those of this value that it still has.
    ///
    /// # Errors
    /// A cluster that the library does not take.
    pub(super) fn next(
        &self,
        config: &Config,
        credentials: &AllCredentials,
    ) -> Result<(Clusters, Changes), Error> {
        let (mut next, mut changes) = (Clusters::default(), Changes(Vec::new()));
        for cluster in &config.clusters {
            let settings = settings(cluster, credentials)?;
            let known = match self.by_name.get(&cluster.name) {
                Some(known) => {
                    changes.0.push((Arc::clone(known), settings));
                    Arc::clone(known)
                }
                None => made(settings),
            };
            next.by_name.insert(cluster.name.clone(), known);
        }
        Ok((next, changes))
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.by_name.get(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.by_name.values()
    }

    /// The cluster of requests that go on to where their clients were connecting: the one of `before`
    /// if it has it, since such a cluster has no settings but what it is known by.
    ///
    /// # Errors
    /// Settings that the library does not take.
    pub(super) fn passthrough(
        &mut self,
        how: Passthrough,
        before: &Clusters,
    ) -> Result<Arc<Cluster>, Error> {
        let mut known = self.passthrough.iter().chain(&before.passthrough);
        if let Some((_, cluster)) = known.find(|(known, _)| *known == how) {
            let cluster = Arc::clone(cluster);
            self.passthrough.push((how, Arc::clone(&cluster)));
            return Ok(cluster);
        }
        let mut builder = ClusterSettings::original_destination(Target::PASSTHROUGH);
        for address in how.source.addresses() {
            builder = builder.source(address);
        }
        if let Some(mark) = how.mark {
            builder = builder.mark(mark.get());
        }
        let cluster = made(builder.build().map_err(invalid)?);
        self.passthrough.push((how, Arc::clone(&cluster)));
        Ok(cluster)
    }
}

impl Changes {
    pub(super) fn apply(self) {
        for (cluster, settings) in self.0 {
            cluster.apply(settings, Instant::now());
        }
    }
}

fn made(settings: ClusterSettings) -> Arc<Cluster> {
    Cluster::new(settings, Instant::now(), fastrand::u64(..))
}

/// Whether a route or a listener that speaks HTTP names it. The others are relayed to.
pub(super) fn is_for_http(cluster: &schema::Cluster, config: &Config) -> bool {
    let routed = config.routes.iter().any(|route| match &route.action {
        RouteAction::Cluster(name) => *name == cluster.name,
        RouteAction::Clusters(clusters) => clusters.iter().any(|it| it.name == cluster.name),
        RouteAction::Redirect(_) | RouteAction::Respond(_) => false,
    });
    routed
        || routes::http_listeners(config)
            .any(|(_, unrouted)| unrouted == Unrouted::Cluster(&cluster.name))
}

fn settings(
    cluster: &schema::Cluster,
    credentials: &AllCredentials,
) -> Result<ClusterSettings, Error> {
    let mut builder = ClusterSettings::builder(&cluster.name)
        .policy(policy(&cluster.policy))
        .limits(limits(&cluster.limits))
        .outlier(cluster.outlier.as_ref().map(outlier))
        .health(cluster.health.as_ref().map(health))
        .connect_timeout(Some(cluster.timeouts.connect))
        .pool_idle(cluster.timeouts.pool_idle);
    // A second time it could not say more.
    let mut seen = HashSet::new();
    for endpoint in cluster.endpoints.iter().filter(|it| seen.insert(&it.address)) {
        builder = builder.weighted_endpoint(&endpoint.address.to_string(), endpoint.weight);
    }
    if let Some(retry) = &cluster.retry {
        builder = retries(builder, retry);
    }
    match cluster.source {
        ClusterSource::Client => builder = builder.transparent_source(),
        ClusterSource::Address(source) => {
            for address in source.addresses() {
                builder = builder.source(address);
            }
        }
    }
    if let Some(mark) = cluster.mark {
        builder = builder.mark(mark.get());
    }
    if let Some(credentials) = credentials.cluster(&cluster.name) {
        builder = builder.tls(credentials.clone());
    }
    builder.build().map_err(invalid)
}

fn invalid(error: ClusterError) -> Error {
    Error::Invalid(error.to_string())
}

fn policy(policy: &schema::Policy) -> Policy {
    match policy {
        schema::Policy::LeastRequest => Policy::LeastRequest,
        schema::Policy::RoundRobin => Policy::RoundRobin,
        schema::Policy::Random => Policy::Random,
        schema::Policy::Hash(header) => Policy::Hash { header: header.as_str().into() },
    }
}

fn limits(limits: &schema::ClusterLimits) -> Limits {
    let limit = |limit: Option<NonZeroUsize>| limit.map(in_32_bits);
    Limits {
        connections: limit(limits.connections),
        pending: limit(limits.pending),
        requests: limit(limits.requests),
        retries: limit(limits.retries),
    }
}

fn outlier(outlier: &schema::Outlier) -> Outlier {
    Outlier {
        consecutive_failures: outlier.consecutive_failures,
        base: outlier.ejection,
        longest: outlier.max_ejection,
        most_percent: outlier.max_percent,
    }
}

fn retries(builder: ClusterBuilder, retry: &schema::ClusterRetry) -> ClusterBuilder {
    let backoff = Backoff { base: retry.backoff, longest: retry.max_backoff };
    let budget = retry
        .budget_percent
        .map(|percent| RetryBudget { percent: in_32_bits(percent), ..RetryBudget::default() });
    builder.retry(Some(RetryPolicy { attempts: retry.attempts, backoff })).retry_budget(budget)
}

fn health(health: &schema::Health) -> HealthCheck {
    HealthCheck {
        probe: match &health.path {
            None => Probe::Connect,
            Some(path) => Probe::Get {
                path: path.as_str().into(),
                host: health.host.as_deref().map(Into::into),
            },
        },
        interval: health.interval,
        timeout: health.timeout,
        healthy: health.healthy,
        unhealthy: health.unhealthy,
    }
}

fn in_32_bits(number: NonZeroUsize) -> u32 {
    u32::try_from(number.get()).unwrap_or(u32::MAX)
}
