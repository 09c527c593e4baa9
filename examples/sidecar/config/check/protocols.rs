//! What is for one protocol only: keys of listeners and of clusters.

use std::collections::HashSet;

use super::Checks;
use crate::config::{
    draft::ClusterDraft,
    schema::{ClusterLimits, ListenerMode, Policy, Protocol, ProxyHeaderOut},
};

impl Checks<'_, '_> {
    /// No listener has keys that its protocol has no use for.
    pub(super) fn protocol_keys(&mut self) {
        for listener in &self.draft.listeners {
            // A wrong protocol may have been meant to be any.
            if listener.section.has("protocol") && listener.protocol.is_none() {
                continue;
            }
            let protocol = listener.protocol.unwrap_or(Protocol::Tcp);
            if !protocol.may_be_http()
                && let Some((section, _)) = &listener.http
            {
                self.findings.error(
                    section.span(),
                    "[listener.http] needs `protocol = \"http\"` or `\"auto\"`: set it, or leave \
                     this out",
                );
            }
            if protocol == Protocol::Auto
                && let Some((section, options)) = &listener.http
                && options.connect
            {
                self.findings.error(
                    section.key_at("connect"),
                    "`connect` needs `protocol = \"http\"`: `\"auto\"` does not take CONNECT for HTTP",
                );
            }
            for key in ["access_log_format", "access_log_sample", "access_log_only"] {
                if listener.section.has(key) && !listener.section.has("access_log") {
                    let message = format!("`{key}` has no effect: there is no `access_log`");
                    self.findings.warning(listener.section.key_at(key), message);
                }
            }
            let Some(section) = &listener.timeouts.section else { continue };
            let permissive =
                listener.tls.as_ref().is_some_and(|tls| tls.mode == Some(ListenerMode::Permissive));
            for (key, known, needs) in [
                ("head", protocol.may_be_http(), "\"http\"` or `\"auto\""),
                ("request", protocol.may_be_http(), "\"http\"` or `\"auto\""),
                ("stream_idle", protocol.may_be_http(), "\"http\"` or `\"auto\""),
                ("max_age", protocol.may_be_http(), "\"http\"` or `\"auto\""),
                (
                    "detect",
                    protocol == Protocol::Auto || permissive,
                    "\"auto\"` or, in [listener.tls], `mode = \"permissive\"",
                ),
            ] {
                if section.has(key) && !known {
                    let message =
                        format!("`{key}` needs `protocol = {needs}`: set it, or leave `{key}` out");
                    self.findings.error(section.key_at(key), message);
                }
            }
        }
    }

    /// Every cluster is what all of those need that forward to it.
    pub(super) fn cluster_kinds(&mut self) {
        let draft = self.draft;
        for cluster in &draft.clusters {
            let Some(name) = &cluster.name else { continue };
            let users = draft.users(name);
            if users.http {
                self.for_http(cluster);
            }
            if users.relay && !users.http {
                self.for_relay(cluster);
                self.unused_by_relay(cluster);
            }
        }
    }

    fn for_http(&mut self, cluster: &ClusterDraft<'_>) {
        if cluster.proxy_protocol.is_some_and(|header| header != ProxyHeaderOut::Off) {
            self.findings.error(
                cluster.section.key_at("proxy_protocol"),
                "`proxy_protocol` names one client for a connection, and HTTP sends the requests of \
                 many over one: leave it out, or relay with `protocol = \"tcp\"`",
            );
        }
        let mut seen = HashSet::new();
        for endpoint in &cluster.endpoints {
            if !seen.insert(&endpoint.address) {
                let message = format!(
                    "endpoint \"{}\" is listed twice: give it a `weight` instead",
                    endpoint.address
                );
                self.findings.error(endpoint.at.clone(), message);
            }
        }
    }

    fn for_relay(&mut self, cluster: &ClusterDraft<'_>) {
        let mut seen = HashSet::new();
        for endpoint in cluster.endpoints.iter().filter(|it| !seen.insert(&it.address)) {
            let message = format!("endpoint \"{}\" is listed twice: remove one", endpoint.address);
            self.findings.warning(endpoint.at.clone(), message);
        }
    }

    fn unused_by_relay(&mut self, cluster: &ClusterDraft<'_>) {
        let section = &cluster.section;
        let no_effect = |key: &str| {
            format!(
                "`{key}` has no effect: it is for HTTP, and this cluster is relayed to, its endpoints \
                 in turn"
            )
        };
        // What is written as it would be anyway says nothing.
        for (key, differs) in [
            ("policy", cluster.policy.as_ref().is_some_and(|it| *it != Policy::LeastRequest)),
            ("limits", cluster.limits != ClusterLimits::default()),
            ("outlier", cluster.outlier.is_some()),
            ("retry", cluster.retry.is_some()),
        ] {
            if differs {
                self.findings.warning(section.key_at(key), no_effect(key));
            }
        }
        for endpoint in cluster.endpoints.iter().filter(|endpoint| endpoint.weight != 1) {
            self.findings.warning(endpoint.at.clone(), no_effect("weight"));
        }
    }
}
