//! Clusters, and who forwards to them.

use std::collections::HashSet;

use super::Checks;
use crate::config::{nearest::did_you_mean, schema::Target};

impl Checks<'_, '_> {
    /// Every cluster that a listener names is there.
    pub(super) fn targets(&mut self) {
        let draft = self.draft;
        let names: HashSet<_> = draft.clusters.iter().filter_map(|c| c.name.as_deref()).collect();
        for listener in &draft.listeners {
            let Some(Target::Cluster(name)) = &listener.cluster else { continue };
            if names.contains(name.as_str()) {
                continue;
            }
            let known = names.iter().copied().chain([Target::PASSTHROUGH, Target::BLACKHOLE]);
            let hint = did_you_mean(name, known);
            let hint = if hint.is_empty() { ": add a [[cluster]] of that name" } else { &hint };
            self.findings.error(
                listener.section.at("cluster"),
                format!("`cluster`: there is no cluster \"{name}\"{hint}"),
            );
        }
    }

    /// Every cluster has somewhere to go and somebody who needs it.
    pub(super) fn clusters(&mut self) {
        let draft = self.draft;
        for cluster in &draft.clusters {
            let section = &cluster.section;
            if !section.has("endpoints") {
                self.findings.error(section.span(), "a cluster needs `endpoints`");
            } else if section.is_empty_array("endpoints") {
                self.findings.error(
                    section.at("endpoints"),
                    "a cluster needs at least one endpoint; to close connections at once, name the \
                     cluster \"blackhole\" in the listener",
                );
            }
            let Some(name) = &cluster.name else { continue };
            let used = draft.listeners.iter().any(|listener| {
                matches!(&listener.cluster, Some(Target::Cluster(named)) if named == name)
            });
            let mut routed = draft.routes.iter().flat_map(|route| &route.action.clusters);
            if !used && !routed.any(|(named, _)| named == name) {
                let message = format!("no listener or route forwards to cluster \"{name}\"");
                self.findings.warning(section.at("name"), message);
            }
        }
    }
}
