//! What the sidecar keeps from one configuration to the next: credentials, clusters, routes and access
//! logs, and who looks after them.
//!
//! In: configurations. Out: what services are made of. A configuration is *prepared* first, which
//! touches nothing that is in use, and taken *in force* once the proxy runs it.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

use evenkeel::{
    Error, Proxy,
    runtime::spawn,
    tls::credentials::Watch,
    upstream::{
        cluster::Cluster,
        resolve::{Resolver, ResolverSettings},
        watch_health,
    },
};

use super::{
    access_logs::AccessLogs,
    clusters::{self, Clusters},
    credentials::AllCredentials,
    routes::{self, RoutesOfListeners},
};
use crate::config::Config;

/// How long a start or a reload waits for the names of new clusters to be resolved, so that its first
/// requests find endpoints.
const NAMES_WITHIN: Duration = Duration::from_secs(1);

pub(super) struct Kept {
    credentials: AllCredentials,
    /// From when on there are credentials.
    watch: Option<Watch>,
    clusters: Clusters,
    routes: RoutesOfListeners,
    logs: AccessLogs,
    resolver: Resolver,
    /// Of the clusters that have health checks: these end with it.
    checked: HashMap<String, Arc<()>>,
}

/// A configuration that is not in force yet.
pub(super) struct Prepared {
    pub(super) credentials: AllCredentials,
    pub(super) clusters: Clusters,
    pub(super) routes: RoutesOfListeners,
    pub(super) logs: AccessLogs,
    new_settings: clusters::Changes,
    new_routes: routes::Changes,
}

impl Kept {
    pub(super) fn new() -> Kept {
        Kept {
            credentials: AllCredentials::default(),
            watch: None,
            clusters: Clusters::default(),
            routes: RoutesOfListeners::default(),
            logs: AccessLogs::default(),
            resolver: Resolver::new(ResolverSettings::default()),
            checked: HashMap::new(),
        }
    }

    /// Prepares a configuration. The names of its new clusters are resolved from now on.
    ///
    /// # Errors
    /// Something that the library does not take, or a file or thread that the system refuses.
    pub(super) fn prepare(&self, config: &Config) -> Result<Prepared, Error> {
        let credentials = self.credentials.next(config)?;
        let (mut clusters, new_settings) = self.clusters.next(config, &credentials)?;
        let (routes, new_routes) = self.routes.next(config, &mut clusters, &self.clusters)?;
        let logs = self.logs.next(config)?;
        let is_new = |cluster: &&Arc<Cluster>| self.clusters.get(cluster.name()).is_none();
        let new: Vec<_> = clusters.iter().filter(is_new).collect();
        for cluster in &new {
            self.watch_names(cluster)?;
        }
        let deadline = Instant::now() + NAMES_WITHIN;
        while new.iter().any(|cluster| !cluster.unresolved().is_empty())
            && Instant::now() < deadline
        {
            thread::sleep(Duration::from_millis(10));
        }
        Ok(Prepared { credentials, clusters, routes, logs, new_settings, new_routes })
    }

    /// Keeps what was prepared, which `proxy` runs from now on.
    pub(super) fn take(&mut self, prepared: Prepared, proxy: &Proxy) {
        let Prepared { credentials, clusters, routes, logs, new_settings, new_routes } = prepared;
        self.watch_files(&credentials, proxy);
        self.credentials = credentials;
        new_settings.apply();
        new_routes.apply();
        for gone in self.clusters.iter().filter(|it| clusters.get(it.name()).is_none()) {
            // Connections may know it for longer; dashboards need not, and its names need not be kept up.
            self.resolver.forget(gone);
            proxy.registry().set_cluster_state(gone.name(), Weak::<Cluster>::new());
        }
        (self.clusters, self.routes, self.logs) = (clusters, routes, logs);
        for cluster in self.clusters.iter() {
            let state = Arc::downgrade(cluster);
            proxy.registry().set_cluster_state(cluster.name(), state);
            if let Err(error) = self.watch_names(cluster) {
                tracing::error!("the names of {error}");
            }
        }
        self.check_health(proxy);
    }

    fn watch_files(&mut self, credentials: &AllCredentials, proxy: &Proxy) {
        if self.watch.is_none() && !credentials.is_empty() {
            match Watch::start(Watch::PERIOD) {
                Ok(watch) => {
                    proxy.registry().add_source(watch.metrics());
                    self.watch = Some(watch);
                }
                Err(error) => tracing::error!(
                    "no thread to watch certificates: {error}; they are looked at when the \
                     configuration is reloaded"
                ),
            }
        }
        if let Some(watch) = &self.watch {
            credentials.follow(&self.credentials, watch);
        }
    }

    pub(super) fn credentials(&self) -> &AllCredentials {
        &self.credentials
    }

    pub(super) fn clusters(&self) -> &Clusters {
        &self.clusters
    }

    pub(super) fn logs(&self) -> &AccessLogs {
        &self.logs
    }

    fn watch_names(&self, cluster: &Arc<Cluster>) -> Result<(), Error> {
        self.resolver.watch(cluster).map_err(|error| {
            Error::Invalid(format!("cluster {:?} cannot be resolved: {error}", cluster.name()))
        })
    }

    /// Has the health of those clusters checked that say so, each on one shard.
    fn check_health(&mut self, proxy: &Proxy) {
        let wants = |cluster: &&Arc<Cluster>| cluster.snapshot().settings().health().is_some();
        let wanted: Vec<_> = self.clusters.iter().filter(wants).collect();
        let mut checked = HashMap::new();
        for (index, cluster) in wanted.into_iter().enumerate() {
            let known = self.checked.remove(&**cluster.name());
            let alive = known.unwrap_or_else(|| {
                let alive = Arc::new(());
                let (watched, lives) = (Arc::clone(cluster), Arc::downgrade(&alive));
                let watch = move || spawn(watch_health(watched, lives)).detach();
                if !proxy.run_on_shard(index % proxy.shards().len().max(1), watch) {
                    tracing::error!(cluster = %cluster.name(), "its health is not checked: no shard");
                }
                alive
            });
            checked.insert(cluster.name().to_string(), alive);
        }
        self.checked = checked;
    }
}
