//! What depends on the machine, the user, and where the traffic comes from: warnings, as none of it
//! need be the same where the sidecar runs.

use std::net::IpAddr;

use super::Checks;
use crate::config::{
    address::{Bind, Source},
    draft::ListenerDraft,
    log_filter::misspelt_level,
    problem::Span,
    schema::{Balance, ClusterSource, Direction, Lookup, Target},
};

impl Checks<'_, '_> {
    /// The shards fit the CPUs.
    pub(super) fn shards(&mut self) {
        let Self { draft, host, findings, .. } = self;
        let root = &draft.root;
        if root.has("cpus") && draft.shards.is_some_and(|shards| shards > 0) {
            findings.error(
                root.key_at("shards"),
                "`cpus` gives one shard to each of its CPUs: leave out either it or `shards`",
            );
        }
        if draft.balance == Some(Balance::Kernel) && draft.acceptors.is_some_and(|n| n > 1) {
            findings.warning(
                root.key_at("acceptors"),
                "`acceptors` has no effect: with `balance = \"kernel\"` every shard accepts itself",
            );
        }
        if host.cpus.is_empty() {
            return;
        }
        if let Some(shards) = draft.shards.filter(|shards| *shards > host.cpus.len()) {
            findings.warning(
                root.at("shards"),
                format!(
                    "{shards} shards share the {} CPUs that this process may use",
                    host.cpus.len()
                ),
            );
        }
        let listed = draft.cpus.iter().flat_map(|list| list.cpus());
        let absent: Vec<_> =
            listed.filter(|cpu| !host.cpus.contains(cpu)).map(usize::to_string).collect();
        if !absent.is_empty() {
            findings.warning(
                root.at("cpus"),
                format!("this process may not use CPU {} on this machine", absent.join(", ")),
            );
        }
    }

    pub(super) fn log(&mut self) {
        if let Some(wrong) = self.draft.log.as_deref().and_then(misspelt_level) {
            self.findings.error(self.draft.root.at("log"), format!("`log`: {wrong}"));
        }
    }

    /// What the kernel grants to a network administrator only.
    pub(super) fn privileges(&mut self) {
        if self.host.network_admin {
            return;
        }
        let mut places: Vec<(Span, &str)> = Vec::new();
        for listener in &self.draft.listeners {
            if listener.lookup() == Some(Lookup::Tproxy) {
                places.push((listener.section.at("original_dst"), "\"tproxy\""));
            }
            if listener.mark.flatten().is_some() {
                places.push((listener.section.key_at("mark"), "`mark`"));
            }
        }
        for cluster in &self.draft.clusters {
            if cluster.source == Some(ClusterSource::Client) {
                places.push((cluster.section.at("source"), "source \"client\""));
            }
            if cluster.mark.flatten().is_some() {
                places.push((cluster.section.key_at("mark"), "`mark`"));
            }
        }
        for (at, what) in places {
            let message = format!(
                "{what} needs CAP_NET_ADMIN, which this process does not have: run the sidecar with \
                 it, or leave this out"
            );
            self.findings.warning(at, message);
        }
    }

    /// Nothing listens where it should not, and something listens at all.
    pub(super) fn exposure(&mut self) {
        let draft = self.draft;
        if draft.admin.is_some_and(|address| !address.ip().to_canonical().is_loopback()) {
            self.findings.warning(
                draft.root.at("admin"),
                "whoever reaches `admin` can stop the sidecar: bind it to 127.0.0.1, and use \
                 `telemetry` for /ready and /metrics",
            );
        }
        if !draft.root.has("listener") {
            self.findings.warning(0..0, "no [[listener]]: nothing will be accepted");
        }
    }

    /// Inbound listeners get what they are for, and forward to this host alone.
    pub(super) fn inbound(&mut self, via: &[Option<usize>]) {
        let draft = self.draft;
        let is_inbound =
            |listener: &ListenerDraft<'_>| listener.direction == Some(Direction::Inbound);
        for (listener, via) in draft.listeners.iter().zip(via) {
            let accepting = via.map_or(listener, |via| &draft.listeners[via]);
            if !is_inbound(accepting) {
                continue;
            }
            let section = &listener.section;
            if listener.lookup().is_some() && is_loopback(&listener.bind) {
                self.findings.warning(
                    section.at("bind"),
                    "connections from other hosts are redirected to an address of the interface that \
                     they come in by, never to loopback: bind to \"0.0.0.0:PORT\" or \"[::]:PORT\"",
                );
            }
            if listener.source == Some(Source::default()) {
                self.findings.warning(
                    section.at("source"),
                    "without a source address the redirect rules send the sidecar's own connections \
                     back to it for ever: leave `source` out to get 127.0.0.6 and ::6",
                );
            }
            self.inbound_endpoints(listener);
        }
    }

    fn inbound_endpoints(&mut self, listener: &ListenerDraft<'_>) {
        let draft = self.draft;
        if let Some(Target::Cluster(name)) = &listener.cluster {
            self.inbound_cluster(name, &listener.section.at("cluster"));
        }
        let its = draft.routes.iter().filter(|route| route.listener == listener.name);
        for (name, at) in its.flat_map(|route| &route.action.clusters) {
            self.inbound_cluster(name, at);
        }
    }

    fn inbound_cluster(&mut self, name: &str, at: &Span) {
        let draft = self.draft;
        let cluster = draft.clusters.iter().find(|c| c.name.as_deref() == Some(name));
        let addresses = cluster.into_iter().flat_map(|c| &c.endpoints).filter_map(|e| e.socket());
        if let Some(elsewhere) = addresses.map(|a| a.ip()).find(|ip| !self.host.owns(*ip)) {
            let message = format!(
                "an inbound listener forwards to this host alone, and {elsewhere} of cluster \"{name}\" \
                 is not one of its addresses"
            );
            self.findings.warning(at.clone(), message);
        }
    }
}

fn is_loopback(bind: &Option<Bind>) -> bool {
    matches!(bind, Some(Bind::Tcp(address)) if IpAddr::is_loopback(&address.ip().to_canonical()))
}
