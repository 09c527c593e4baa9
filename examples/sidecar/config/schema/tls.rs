//! TLS: what a listener shows and asks for, and a cluster likewise. Files are held by their paths; what
//! is in them is read where it is used. No key is ever here.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::Serialize;

use super::super::{value::choice, written};

choice! {
    /// What `mode` of a listener can be.
    enum ListenerMode {
        /// Clients need a certificate.
        Strict = "strict",
        /// The same; what does not begin with TLS is served as well.
        Permissive = "permissive",
        /// Clients need no certificate.
        Simple = "simple",
        /// Sorted by server name, and not terminated.
        Passthrough = "passthrough",
        /// As without the section.
        Off = "off",
    }
}

choice! {
    /// What `mode` of a cluster can be.
    enum ClusterMode {
        /// We have a certificate as well.
        Mutual = "mutual",
        /// Servers are verified, and we show nothing.
        Simple = "simple",
        /// As without the section.
        Off = "off",
    }
}

/// `[listener.tls]`. Default: none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "mode", rename_all = "lowercase")]
pub(crate) enum ListenerTls {
    Strict(Terminated),
    Permissive(Terminated),
    Simple(Terminated),
    Passthrough,
}

impl ListenerTls {
    /// What it takes to be a server; `None` where the TLS is another's.
    pub(crate) fn terminated(&self) -> Option<&Terminated> {
        match self {
            Self::Strict(terminated) | Self::Permissive(terminated) | Self::Simple(terminated) => {
                Some(terminated)
            }
            Self::Passthrough => None,
        }
    }
}

/// TLS that ends here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Terminated {
    #[serde(flatten)]
    pub(crate) own: Own,
    /// `None`: clients are asked for no certificate.
    #[serde(flatten)]
    pub(crate) clients: Option<Trust>,
    /// Default: `http/1.1` unless the protocol is `tcp`, else none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) alpn: Vec<String>,
    /// When connections end that were made with files which have changed since. Default: off.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "written::in_words_if_any")]
    pub(crate) drain_after: Option<Duration>,
}

/// `[cluster.tls]`. Default: none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ClusterTls {
    /// `mutual` exactly if there is a certificate of our own.
    pub(crate) mode: ClusterMode,
    #[serde(flatten)]
    pub(crate) own: Option<Own>,
    #[serde(flatten)]
    pub(crate) servers: Trust,
    /// There is one unless peers are named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sni: Option<String>,
    /// Default: `http/1.1` if all that is sent there is HTTP, else none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) alpn: Vec<String>,
    /// When relayed connections end that were made with files which have changed since; those of HTTP
    /// carry no other request. Default: off, for either.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "written::in_words_if_any")]
    pub(crate) drain_after: Option<Duration>,
}

/// What we show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Own {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Whom we believe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Trust {
    pub(crate) roots: Roots,
    /// Default: all that chain to the roots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peers: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) crl: Option<PathBuf>,
}

/// A file with roots, or one for each trust domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Roots {
    Any(PathBuf),
    ByTrustDomain(BTreeMap<String, PathBuf>),
}
