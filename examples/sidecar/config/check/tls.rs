//! TLS: which keys go with which mode, what they are for, and what is in the files.

use evenkeel::tls::{self, ClientCredentials, ServerCredentials, error::Problem as Fault};

use super::Checks;
use crate::config::{
    build,
    draft::{ClusterDraft, ListenerDraft, TlsDraft},
    schema::{ClusterMode, Direction, Fallback, ListenerMode, Protocol, Roots, Target},
    section::Section,
};

/// The only protocol that HTTP is spoken in here, by its name for ALPN (RFC 7301).
pub(in super::super) const HTTP: &str = "http/1.1";

impl Checks<'_, '_> {
    pub(super) fn listener_tls(&mut self, via: &[Option<usize>]) {
        let draft = self.draft;
        for (index, listener) in draft.listeners.iter().enumerate() {
            let accepting = via[index].map_or(listener, |via| &draft.listeners[via]);
            self.timeouts_of_tls(listener);
            let Some(tls) = &listener.tls else { continue };
            let section = &tls.section;
            // A wrong mode may have been meant to be any.
            if section.has("mode") && tls.mode.is_none() {
                continue;
            }
            match tls.mode.unwrap_or(ListenerMode::Strict) {
                ListenerMode::Off => self.unused(section, "`mode = \"off\"`", MATERIAL),
                ListenerMode::Passthrough => {
                    self.unused(section, "`mode = \"passthrough\"`, which ends no TLS", MATERIAL);
                    self.passed_through(listener);
                }
                mode => {
                    self.needs(section, &["certificate", "key"]);
                    match mode {
                        ListenerMode::Simple => self.unused(
                            section,
                            "`mode = \"simple\"`, which asks clients for no certificate",
                            &["roots", "peers", "crl"],
                        ),
                        _ => self.needs(section, &["roots"]),
                    }
                    self.terminated(listener, accepting);
                    self.server_files(listener, tls);
                }
            }
        }
    }

    fn timeouts_of_tls(&mut self, listener: &ListenerDraft<'_>) {
        let Some(section) = &listener.timeouts.section else { return };
        let off = listener.tls.as_ref().is_none_or(|tls| tls.mode == Some(ListenerMode::Off));
        if section.has("handshake") && off {
            self.findings.error(
                section.key_at("handshake"),
                "`handshake` needs [listener.tls]: write that, or leave `handshake` out",
            );
        }
    }

    fn passed_through(&mut self, listener: &ListenerDraft<'_>) {
        let section = &listener.section;
        if listener.protocol.is_some_and(|protocol| protocol != Protocol::Tcp) {
            self.findings.error(
                section.at("protocol"),
                "`protocol`: what is inside of TLS that is passed through cannot be seen: write \
                 \"tcp\", or choose another `mode` of [listener.tls]",
            );
        }
        if !self.has_routes(listener) {
            let tls =
                listener.tls.as_ref().map_or_else(|| section.span(), |tls| tls.section.at("mode"));
            self.findings.error(
                tls,
                "\"passthrough\" sorts connections by server name: add a [[route]] with this \
                 `listener`, `hosts` and a `cluster`, or leave [listener.tls] out",
            );
        }
    }

    /// That there is somebody to talk to inside of the TLS.
    fn terminated(&mut self, listener: &ListenerDraft<'_>, accepting: &ListenerDraft<'_>) {
        let Some(tls) = &listener.tls else { return };
        let protocol = listener.protocol.unwrap_or(Protocol::Tcp);
        let target = match (&listener.cluster, listener.lookup(), listener.fallback) {
            (Some(target), ..) => Some(target),
            (None, Some(_), None | Some(Fallback::Passthrough)) => Some(&Target::Passthrough),
            (None, Some(_), Some(Fallback::Blackhole)) => Some(&Target::Blackhole),
            (None, None, _) => None,
        };
        let inbound = accepting.direction == Some(Direction::Inbound);
        let message = match target {
            Some(Target::Blackhole) if !protocol.may_be_http() => {
                "\"blackhole\" closes connections before they could speak TLS: leave [listener.tls] \
                 out, or name a cluster"
            }
            Some(Target::Passthrough) if !inbound => {
                "what clients encrypt for somebody else would go on to them in the clear: name a \
                 cluster, or write `mode = \"passthrough\"`, which leaves TLS alone"
            }
            _ => {
                self.protocols(&tls.section, tls.alpn.as_deref(), protocol == Protocol::Http);
                return;
            }
        };
        self.findings.error(tls.section.span(), message);
    }

    pub(super) fn cluster_tls(&mut self) {
        let draft = self.draft;
        for cluster in &draft.clusters {
            let Some(tls) = &cluster.tls else { continue };
            let section = &tls.section;
            if section.has("mode") && tls.mode.is_none() {
                continue;
            }
            match tls.mode.unwrap_or(ClusterMode::Mutual) {
                ClusterMode::Off => {
                    self.unused(section, "`mode = \"off\"`", MATERIAL);
                    self.unused(section, "`mode = \"off\"`", &["sni"]);
                    continue;
                }
                ClusterMode::Mutual => self.needs(section, &["certificate", "key", "roots"]),
                ClusterMode::Simple => {
                    self.needs(section, &["roots"]);
                    self.unused(
                        section,
                        "`mode = \"simple\"`, which shows no certificate",
                        &["certificate", "key"],
                    );
                }
            }
            if !section.has("sni") && !section.has("peers") {
                self.findings.error(
                    section.span(),
                    "servers are verified by their name, and there is none: write it as `sni`, or \
                     the SPIFFE ids that are allowed as `peers`",
                );
            }
            let http = cluster.name.as_deref().is_some_and(|name| draft.users(name).http);
            self.protocols(section, tls.alpn.as_deref(), http);
            self.client_files(cluster, tls);
        }
    }

    fn needs(&mut self, section: &Section<'_>, keys: &[&str]) {
        for key in keys.iter().filter(|key| !section.has(key)) {
            let message = match *key {
                "roots" => {
                    "TLS needs `roots` to verify peers by: write the file of their authority, or \
                     choose another `mode`"
                        .to_owned()
                }
                key => format!("TLS needs a `{key}`: write its file, or choose another `mode`"),
            };
            self.findings.error(section.span(), message);
        }
    }

    fn unused(&mut self, section: &Section<'_>, with: &str, keys: &[&str]) {
        for key in keys.iter().filter(|key| section.has(key)) {
            let message = format!("`{key}` has no use with {with}: leave it out, or change `mode`");
            self.findings.error(section.key_at(key), message);
        }
    }

    /// HTTP is spoken in one protocol.
    fn protocols(&mut self, section: &Section<'_>, alpn: Option<&[String]>, http: bool) {
        for protocol in alpn.unwrap_or_default().iter().filter(|it| http && *it != HTTP) {
            let at = section.element("alpn", protocol).unwrap_or_else(|| section.at("alpn"));
            let message =
                format!("`alpn`: HTTP is spoken as \"{HTTP}\" here, and \"{protocol}\" is not");
            self.findings.error(at, message);
        }
    }

    fn server_files(&mut self, listener: &ListenerDraft<'_>, tls: &TlsDraft<'_, ListenerMode>) {
        let built = build::listener_tls(tls, listener.protocol.unwrap_or(Protocol::Tcp));
        let Some(terminated) = built.as_ref().and_then(|built| built.terminated()) else { return };
        if let Ok(settings) = terminated.settings()
            && self.host.certificates
            && let Err(error) = ServerCredentials::load("check", settings)
        {
            self.fault(tls, &error);
        }
    }

    fn client_files(&mut self, cluster: &ClusterDraft<'_>, tls: &TlsDraft<'_, ClusterMode>) {
        let users = cluster.name.as_deref().map(|name| self.draft.users(name)).unwrap_or_default();
        let Some(built) = build::cluster_tls(tls, users) else { return };
        if let Ok(settings) = built.settings()
            && self.host.certificates
            && let Err(error) = ClientCredentials::load("check", settings)
        {
            self.fault(tls, &error);
        }
    }

    /// Says what is wrong with a file, at the key that names it.
    fn fault<M>(&mut self, tls: &TlsDraft<'_, M>, error: &tls::Error) {
        let is = |path: &std::path::Path| path.to_string_lossy() == error.about();
        let roots = match &tls.roots {
            Some(Roots::Any(path)) => is(path),
            Some(Roots::ByTrustDomain(paths)) => paths.values().any(|path| is(path)),
            None => false,
        };
        let named = [
            ("certificate", tls.certificate.as_deref().is_some_and(is)),
            ("key", tls.key.as_deref().is_some_and(is)),
            ("roots", roots),
            ("crl", tls.crl.as_deref().is_some_and(is)),
        ];
        // One file may hold several of them.
        let meant = match error.problem() {
            Fault::NoKey { .. } | Fault::SeveralKeys | Fault::UnusableKey(_) => "key",
            Fault::NoRevocationList | Fault::UnusableRevocationList { .. } => "crl",
            Fault::UnusableRoot { .. } => "roots",
            _ => "certificate",
        };
        let first = named.iter().find(|(_, is)| *is).map(|(key, _)| *key);
        let key =
            named.iter().find(|(key, is)| *is && *key == meant).map(|(key, _)| *key).or(first);
        let at = key.map_or_else(|| tls.section.span(), |key| tls.section.at(key));
        let key = key.unwrap_or("tls");
        self.findings.error(at, format!("`{key}`: {error}"));
    }
}

/// What TLS needs, whatever the mode.
const MATERIAL: &[&str] = &["certificate", "key", "roots", "peers", "crl", "alpn", "drain_after"];
