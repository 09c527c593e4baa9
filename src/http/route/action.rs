//! What is done with a request: forwarded to a cluster, redirected, or answered at once.
//!
//! *In:* the configuration's words; a random number. *Out:* a cluster's name, or an answer's parts.
//! *Never:* knows an endpoint.

use std::{error, fmt, sync::Arc};

use ::http::{HeaderValue, StatusCode};

use super::{
    change::{PathChange, UpstreamPath},
    host,
    path::RequestPath,
};

/// What is done with a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Action {
    /// It goes to one of these clusters.
    Forward(Clusters),
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// It is answered at once.
    Respond(Respond),
}

/// One cluster, or several with weights.
#[derive(Clone, Debug)]
pub struct Clusters {
    /// Not empty.
    clusters: Box<[Cluster]>,
    /// For each cluster the sum of the weights up to and including its own; the last is not 0.
    sums: Box<[u64]>,
}

/// A cluster that a route names.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub(super) name: Arc<str>,
    pub(super) index: usize,
}

impl Cluster {
    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Where it stands in [`RouteTable::clusters`](super::RouteTable::clusters), so that whoever
    /// uses a table needs no map from names; 0 in a route that is in no table.
    pub fn index(&self) -> usize {
        self.index
    }
}

impl Clusters {
    /// One cluster.
    pub fn one(name: impl Into<Arc<str>>) -> Clusters {
        let cluster = Cluster { name: name.into(), index: 0 };
        Clusters { clusters: Box::new([cluster]), sums: Box::new([1]) }
    }

    /// Several clusters, each of which gets requests in proportion to its weight; one with a weight
    /// of 0 gets none.
    ///
    /// # Errors
    /// No cluster has a weight.
    pub fn weighted<N: Into<Arc<str>>>(
        clusters: impl IntoIterator<Item = (N, u32)>,
    ) -> Result<Clusters, NoWeight> {
        let mut sum = 0_u64;
        let (clusters, sums): (Vec<_>, Vec<_>) = clusters
            .into_iter()
            .map(|(name, weight)| {
                // More than 2^32 clusters would be needed to overflow it.
                sum = sum.saturating_add(u64::from(weight));
                (Cluster { name: name.into(), index: 0 }, sum)
            })
            .unzip();
        if sum == 0 {
            return Err(NoWeight);
        }
        Ok(Clusters { clusters: clusters.into(), sums: sums.into() })
    }

    /// The cluster for a request, by a random number that is spread evenly over all of `u64`.
    pub fn pick(&self, random: u64) -> &Cluster {
        let [.., last] = &*self.sums else { return &self.clusters[0] };
        // Multiplied and shifted, the number falls below the sum without a division; how much more
        // often some values come than others is at most the sum in 2^64.
        let point = ((u128::from(random) * u128::from(*last)) >> 64) as u64;
        &self.clusters[self.sums.partition_point(|&sum| sum <= point)]
    }

    /// Whether [`pick`](Self::pick) has a choice; if not, any number will do.
    pub fn is_weighted(&self) -> bool {
        self.clusters.len() > 1
    }

    /// All of them, also those that get no requests.
    pub fn iter(&self) -> impl Iterator<Item = &Cluster> {
        self.clusters.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Cluster> {
        self.clusters.iter_mut()
    }
}

/// Clusters of which none has a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoWeight;

impl fmt::Display for NoWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no cluster has a weight above 0: give one at least 1, or answer the requests directly",
        )
    }
}

impl error::Error for NoWeight {}

/// Sends the client to another address. What is `None` stays as it was in the request; the query
/// always does.
#[derive(Clone, Debug, Default)]
pub struct Redirect {
    /// The scheme.
    pub scheme: Option<Scheme>,
    /// Name or address, without a port.
    pub host: Option<String>,
    /// The port. `None` is the one that is usual for `scheme` if that is given, and otherwise the
    /// one that the client used.
    pub port: Option<u16>,
    /// The path.
    pub path: Option<PathChange>,
    /// The status.
    pub status: RedirectStatus,
}

/// How a client reaches a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `http`, usually on port 80.
    Http,
    /// `https`, usually on port 443.
    Https,
}

impl Scheme {
    /// As in a URI.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    fn usual_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

impl Redirect {
    /// The value of the `Location` field: an absolute URI, or a path alone if neither request nor
    /// redirect names a host.
    ///
    /// The arguments are the request's; they are written as they are, so they have to come from a
    /// well-formed one.
    pub fn location<'a>(
        &'a self,
        scheme: Scheme,
        authority: &'a str,
        path: &'a RequestPath<'_>,
        query: Option<&'a str>,
    ) -> Location<'a> {
        let (host, port) = host::split(authority);
        let port = match (self.port, self.scheme) {
            (Some(port), _) => Some(port),
            (None, Some(_)) => None,
            (None, None) => port.and_then(|digits| digits.parse().ok()),
        };
        let scheme = self.scheme.unwrap_or(scheme);
        let path = match &self.path {
            Some(change) => change.apply(path),
            None => UpstreamPath { head: "", tail: path.forwarded() },
        };
        Location {
            scheme,
            host: self.host.as_deref().unwrap_or(host),
            port: port.filter(|&port| port != scheme.usual_port()),
            path,
            query,
        }
    }
}

/// The value of a `Location` field, to be written.
#[derive(Clone, Copy, Debug)]
pub struct Location<'a> {
    scheme: Scheme,
    host: &'a str,
    port: Option<u16>,
    path: UpstreamPath<'a>,
    query: Option<&'a str>,
}

impl fmt::Display for Location<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.is_empty() {
            // Two slashes at the beginning would make what follows the name of a host.
            let UpstreamPath { head, tail } = self.path;
            let slashes = ['/', '\\'];
            let head = head.trim_start_matches(slashes);
            let tail = if head.is_empty() { tail.trim_start_matches(slashes) } else { tail };
            write!(f, "/{head}{tail}")?;
        } else {
            write!(f, "{}://{}", self.scheme.as_str(), self.host)?;
            if let Some(port) = self.port {
                write!(f, ":{port}")?;
            }
            self.path.fmt(f)?;
        }
        match self.query {
            Some(query) => write!(f, "?{query}"),
            None => Ok(()),
        }
    }
}

/// The statuses that send a client elsewhere (RFC 9110 section 15.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedirectStatus {
    /// 301
    MovedPermanently,
    /// 302, the default.
    #[default]
    Found,
    /// 303
    SeeOther,
    /// 307
    TemporaryRedirect,
    /// 308
    PermanentRedirect,
}

impl From<RedirectStatus> for StatusCode {
    fn from(status: RedirectStatus) -> StatusCode {
        match status {
            RedirectStatus::MovedPermanently => StatusCode::MOVED_PERMANENTLY,
            RedirectStatus::Found => StatusCode::FOUND,
            RedirectStatus::SeeOther => StatusCode::SEE_OTHER,
            RedirectStatus::TemporaryRedirect => StatusCode::TEMPORARY_REDIRECT,
            RedirectStatus::PermanentRedirect => StatusCode::PERMANENT_REDIRECT,
        }
    }
}

impl TryFrom<u16> for RedirectStatus {
    type Error = UnknownRedirectStatus;

    fn try_from(status: u16) -> Result<RedirectStatus, UnknownRedirectStatus> {
        match status {
            301 => Ok(RedirectStatus::MovedPermanently),
            302 => Ok(RedirectStatus::Found),
            303 => Ok(RedirectStatus::SeeOther),
            307 => Ok(RedirectStatus::TemporaryRedirect),
            308 => Ok(RedirectStatus::PermanentRedirect),
            _ => Err(UnknownRedirectStatus),
        }
    }
}

/// A status that sends nobody elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownRedirectStatus;

impl fmt::Display for UnknownRedirectStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a redirect's status is 301, 302, 303, 307 or 308")
    }
}

impl error::Error for UnknownRedirectStatus {}

/// An answer of the route's own.
#[derive(Clone, Debug)]
pub struct Respond {
    /// From 200 to 599.
    pub status: StatusCode,
    /// The `Content-Type` field; `None` for none.
    pub content_type: Option<HeaderValue>,
    /// Empty for a status that has none.
    pub body: Vec<u8>,
}
