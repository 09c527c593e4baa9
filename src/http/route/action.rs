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
            // A server as a whole is asked for by its name alone.
            None => UpstreamPath { head: "", tail: path.forwarded().trim_start_matches('*') },
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::route::{PathPolicy, normalize};

    /// How many of the requests each cluster gets, the random numbers being spread evenly.
    fn shares(weights: &[u32], requests: u64) -> Vec<u64> {
        let names = ["0", "1", "2", "3"];
        let named = names.into_iter().zip(weights.iter().copied());
        let clusters = Clusters::weighted(named).unwrap();
        let mut shares = vec![0; weights.len()];
        for at in 0..requests {
            let random = (u64::MAX / requests) * at + u64::MAX / requests / 2;
            shares[clusters.pick(random).name().parse::<usize>().unwrap()] += 1;
        }
        shares
    }

    #[test]
    fn clusters_get_requests_by_weight() {
        assert_eq!(shares(&[9, 1], 1000), [900, 100]);
        assert_eq!(shares(&[1, 1, 2], 1000), [250, 250, 500]);
        assert_eq!(shares(&[0, 3, 0, 1], 1000), [0, 750, 0, 250]);
        assert_eq!(shares(&[1, 0], 1000), [1000, 0]);
        assert_eq!(shares(&[u32::MAX; 4], 1000), [250; 4]);
    }

    #[test]
    fn every_random_number_picks_a_cluster_with_a_weight() {
        let clusters = Clusters::weighted([("a", 0), ("b", u32::MAX), ("c", 1), ("d", 0)]).unwrap();
        assert_eq!(&**clusters.pick(0).name(), "b");
        assert_eq!(&**clusters.pick(u64::MAX).name(), "c");
        assert_eq!(&**Clusters::one("a").pick(u64::MAX).name(), "a");
        assert!(clusters.is_weighted() && !Clusters::one("a").is_weighted());
    }

    #[test]
    fn clusters_without_any_weight_are_refused() {
        assert_eq!(Clusters::weighted([("a", 0), ("b", 0)]).unwrap_err(), NoWeight);
        assert_eq!(Clusters::weighted::<&str>([]).unwrap_err(), NoWeight);
    }

    fn location(redirect: &Redirect, scheme: Scheme, authority: &str, target: &str) -> String {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let path = normalize(path, PathPolicy::Refuse).unwrap();
        redirect.location(scheme, authority, &path, query).to_string()
    }

    #[test]
    fn a_redirect_keeps_what_it_does_not_replace() {
        let https = Redirect { scheme: Some(Scheme::Https), ..Redirect::default() };
        let host = Redirect { host: Some("b.example".into()), ..Redirect::default() };
        let port = Redirect { port: Some(8443), ..https.clone() };
        let usual = Redirect { port: Some(443), ..https.clone() };
        let path = Redirect { path: Some(PathChange::full("/x")), ..Redirect::default() };
        for (redirect, scheme, authority, target, expected) in [
            (&https, Scheme::Http, "a.example", "/p%2Fq?r=s", "https://a.example/p%2Fq?r=s"),
            (&https, Scheme::Http, "a.example:8080", "/", "https://a.example/"),
            (&host, Scheme::Http, "a.example:8080", "/p", "http://b.example:8080/p"),
            (&host, Scheme::Http, "a.example:80", "/p", "http://b.example/p"),
            (&host, Scheme::Https, "a.example:443", "/p", "https://b.example/p"),
            (&host, Scheme::Https, "a.example:80", "/p", "https://b.example:80/p"),
            (&port, Scheme::Http, "[::1]:1", "/?", "https://[::1]:8443/?"),
            (&usual, Scheme::Http, "a.example:1", "/", "https://a.example/"),
            (&path, Scheme::Http, "a.example", "/p/q?r", "http://a.example/x?r"),
            (&path, Scheme::Http, "", "/p/q?r", "/x?r"),
        ] {
            assert_eq!(location(redirect, scheme, authority, target), expected);
        }
    }

    #[test]
    fn a_redirect_leads_to_no_host_that_the_path_names() {
        let mut to_root = PathChange::prefix("/");
        assert!(to_root.bind(Some("/foo".len())));
        let redirect = Redirect { path: Some(to_root), ..Redirect::default() };
        for authority in ["a.example", ""] {
            let there = location(&redirect, Scheme::Http, authority, "/foo//evil.example");
            assert!(there.ends_with("/evil.example") && !there.ends_with("//evil.example"));
        }
        let nothing = Redirect::default();
        assert_eq!(location(&nothing, Scheme::Http, "", "//evil.example"), "/evil.example");
        assert_eq!(location(&nothing, Scheme::Http, "", "/\\evil.example"), "/evil.example");
    }

    #[test]
    fn redirects_have_one_of_five_statuses() {
        for status in 0..1000 {
            match RedirectStatus::try_from(status) {
                Ok(redirect) => assert_eq!(StatusCode::from(redirect).as_u16(), status),
                Err(UnknownRedirectStatus) => assert!(![301, 302, 303, 307, 308].contains(&status)),
            }
        }
        assert_eq!(StatusCode::from(RedirectStatus::default()), 302);
    }
}
