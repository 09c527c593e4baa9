//! Which sockets the file asks for, whether they can be had together, and whether any of them feeds
//! itself.

use std::net::{IpAddr, SocketAddr};

use super::Checks;
use crate::config::{address::Bind, problem::Span};

/// A socket that the sidecar will listen on.
struct Socket {
    bind: Bind,
    at: Span,
}

impl Checks<'_, '_> {
    /// No two sockets want the same place. (With SO_REUSEPORT the kernel would allow some of this, and
    /// deal the connections out between the two.)
    pub(super) fn sockets(&mut self) {
        let sockets = self.all_sockets();
        for (n, socket) in sockets.iter().enumerate() {
            let Some(first) = sockets[..n].iter().find(|first| overlap(&first.bind, &socket.bind))
            else {
                continue;
            };
            let line = self.line(&first.at);
            let message = if first.bind == socket.bind {
                format!("\"{}\" is taken on line {line}: choose another", socket.bind)
            } else {
                format!(
                    "\"{}\" overlaps with \"{}\" on line {line}: the wildcard takes both{}",
                    socket.bind,
                    first.bind,
                    if both_families(&first.bind, &socket.bind) {
                        " ([::] is for IPv4 as well)"
                    } else {
                        ""
                    }
                )
            };
            self.findings.error(socket.at.clone(), message);
        }
    }

    fn all_sockets(&self) -> Vec<Socket> {
        let draft = self.draft;
        let admin = draft.admin.map(|address| (address, "admin"));
        let telemetry = draft.telemetry.map(|address| (address, "telemetry"));
        let servers = admin
            .into_iter()
            .chain(telemetry)
            .map(|(address, key)| Socket { bind: Bind::Tcp(address), at: draft.root.at(key) });
        let listeners = draft.listeners.iter().filter_map(|listener| {
            let bind = listener.bind.clone()?;
            Some(Socket { bind, at: listener.section.at("bind") })
        });
        let mut sockets: Vec<_> = servers.chain(listeners).collect();
        sockets.sort_by_key(|socket| socket.at.start);
        sockets
    }

    /// No endpoint is a listener of this file: connections would go round until something runs out.
    pub(super) fn loops(&mut self) {
        let draft = self.draft;
        for written in draft.clusters.iter().flat_map(|cluster| &cluster.endpoints) {
            // Where a name leads is known only later; the library looks there, too.
            let Some(endpoint) = written.socket() else { continue };
            let fed = draft.listeners.iter().find(|listener| match listener.bind {
                Some(Bind::Tcp(bound)) => self.reaches(endpoint, bound),
                _ => false,
            });
            if let Some(listener) = fed {
                let message = format!(
                    "a loop: \"{endpoint}\" is the listener \"{}\" of this file, on line {}",
                    listener.name.as_deref().unwrap_or_default(),
                    self.line(&listener.section.at("bind"))
                );
                self.findings.error(written.at.clone(), message);
            }
        }
    }

    /// Whether a connection to `endpoint` arrives at a socket bound to `bound`. A wildcard stands for
    /// all addresses of this host; the same port on another host is none of ours.
    fn reaches(&self, endpoint: SocketAddr, bound: SocketAddr) -> bool {
        if bound.port() != endpoint.port() {
            return false;
        }
        match bound.ip().to_canonical() {
            IpAddr::V4(ip) if ip.is_unspecified() => {
                endpoint.is_ipv4() && self.host.owns(endpoint.ip())
            }
            IpAddr::V6(ip) if ip.is_unspecified() => self.host.owns(endpoint.ip()),
            ip => ip == endpoint.ip(),
        }
    }
}

/// Whether one place is, or is part of, the other.
fn overlap(a: &Bind, b: &Bind) -> bool {
    let (Bind::Tcp(a), Bind::Tcp(b)) = (a, b) else { return a == b };
    if a.port() != b.port() || a.port() == 0 {
        return false;
    }
    let covers = |wide: IpAddr, narrow: IpAddr| match wide {
        IpAddr::V4(ip) => ip.is_unspecified() && narrow.is_ipv4(),
        IpAddr::V6(ip) => ip.is_unspecified(),
    };
    let (a, b) = (a.ip().to_canonical(), b.ip().to_canonical());
    a == b || covers(a, b) || covers(b, a)
}

fn both_families(a: &Bind, b: &Bind) -> bool {
    a.is_v4() != b.is_v4()
}
