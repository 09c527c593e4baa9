//! What listeners and clusters speak TLS with: one value for as long as their settings stay the same, so
//! that sessions survive a reload.
//!
//! In: configurations. Out: credentials, which have read the files that they name. Kept credentials
//! are not read again here: the watch does that.

use std::collections::HashMap;

use evenkeel::{
    Error,
    admin::routes::CertificatesRow,
    tls::{
        self, ClientCredentials, ServerCredentials,
        credentials::{Credentials, Settings, Watch},
    },
};

use crate::config::{
    Config,
    schema::{ClusterTls, ConnectionOptions, ListenerTls, Routing, Terminated},
};

/// The credentials of one configuration, by the names of listeners and of clusters. A listener and a
/// cluster may have the same name, so they are called `listener/NAME` and `cluster/NAME` where both
/// may stand.
#[derive(Clone, Default)]
pub(super) struct AllCredentials {
    listeners: HashMap<String, ServerCredentials>,
    clusters: HashMap<String, ClientCredentials>,
}

impl AllCredentials {
    /// The credentials of `config`, with those of this value that it says the same about.
    ///
    /// # Errors
    /// A file that is not there any more, or not as it was when the configuration was checked.
    pub(super) fn next(&self, config: &Config) -> Result<AllCredentials, Error> {
        let mut next = AllCredentials::default();
        for (name, terminated) in terminating(config) {
            let settings = terminated.settings().map_err(|_| unusable("listener", name))?;
            let known = self.listeners.get(name);
            next.listeners.insert(name.to_owned(), load("listener", name, settings, known)?);
        }
        for (name, tls) in originating(config) {
            let settings = tls.settings().map_err(|_| unusable("cluster", name))?;
            let known = self.clusters.get(name);
            next.clusters.insert(name.to_owned(), load("cluster", name, settings, known)?);
        }
        Ok(next)
    }

    pub(super) fn listener(&self, name: &str) -> Option<&ServerCredentials> {
        self.listeners.get(name)
    }

    pub(super) fn cluster(&self, name: &str) -> Option<&ClientCredentials> {
        self.clusters.get(name)
    }

    /// For the admin server, in the order of `config`.
    pub(super) fn rows(&self, config: &Config) -> Vec<CertificatesRow> {
        let listeners = terminating(config).filter_map(|(name, _)| self.listener(name));
        let clusters = originating(config).filter_map(|(name, _)| self.cluster(name));
        listeners.map(CertificatesRow::from).chain(clusters.map(CertificatesRow::from)).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.listeners.is_empty() && self.clusters.is_empty()
    }

    /// Has those looked after that `before` has not, and retires those whose place they take.
    pub(super) fn follow(&self, before: &AllCredentials, watch: &Watch) {
        follow(&self.listeners, &before.listeners, watch);
        follow(&self.clusters, &before.clusters, watch);
    }

    /// Looks for changes at once.
    ///
    /// # Errors
    /// What is wrong with new files, one line for each set. Those sets stay as they were.
    pub(super) fn look(&self) -> Result<(), String> {
        let of_listeners = self.listeners.values().map(|it| (it.name(), it.reload()));
        let of_clusters = self.clusters.values().map(|it| (it.name(), it.reload()));
        let mut refused: Vec<String> = of_listeners
            .chain(of_clusters)
            .filter_map(|(name, result)| Some(format!("{name}: {}\n", result.err()?)))
            .collect();
        refused.sort_unstable();
        if refused.is_empty() { Ok(()) } else { Err(refused.concat()) }
    }
}

fn follow<S: Settings>(
    all: &HashMap<String, Credentials<S>>,
    before: &HashMap<String, Credentials<S>>,
    watch: &Watch,
) {
    for (name, new) in all {
        let old = before.get(name);
        if old == Some(new) {
            continue;
        }
        watch.add(new);
        if let Some(old) = old {
            old.retire();
        }
    }
}

/// The listeners of either kind at which TLS ends, by name.
fn terminating(config: &Config) -> impl Iterator<Item = (&str, &Terminated)> {
    let accepting =
        config.listeners.iter().map(|listener| (&*listener.name, &listener.connections));
    let destinations = config.listeners.iter().flat_map(|listener| match &listener.routing {
        Routing::Fixed { .. } => &[][..],
        Routing::OriginalDestination(interception) => &interception.destinations,
    });
    let destinations = destinations.map(|it| (&*it.name, &it.connections));
    accepting.chain(destinations).filter_map(terminated)
}

fn terminated<'c>(
    (name, connections): (&'c str, &'c ConnectionOptions),
) -> Option<(&'c str, &'c Terminated)> {
    Some((name, connections.tls.as_ref().and_then(ListenerTls::terminated)?))
}

/// The clusters to which TLS is spoken, by name.
fn originating(config: &Config) -> impl Iterator<Item = (&str, &ClusterTls)> {
    config.clusters.iter().filter_map(|cluster| Some((&*cluster.name, cluster.tls.as_ref()?)))
}

fn load<S: Settings + PartialEq>(
    kind: &str,
    name: &str,
    settings: S,
    known: Option<&Credentials<S>>,
) -> Result<Credentials<S>, Error> {
    if let Some(known) = known.filter(|known| *known.settings() == settings) {
        return Ok(known.clone());
    }
    Credentials::load(format!("{kind}/{name}"), settings)
        .map_err(|error: tls::Error| Error::Invalid(format!("{kind} {name:?}: {error}")))
}

fn unusable(kind: &str, name: &str) -> Error {
    Error::Invalid(format!("{kind} {name:?}: its TLS settings cannot be used"))
}
