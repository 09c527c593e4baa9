//! Routes: where a request goes, and what is changed on the way.
//!
//! *In:* [`RouteSpec`]s, once; then the method, authority, path and header fields of each request.
//! *Out:* the [`Route`] to take, borrowed from the table. *Owns:* the table, immutable once it is
//! built, which all shards share. *Never:* reads a socket or a clock, draws a random number, locks,
//! or allocates in a lookup.
//!
//! # Which route is taken
//! The rules are those of the Kubernetes Gateway API (`HTTPRoute`). Of all routes that match a
//! request, the one that comes first by these, each deciding only where those before it tie:
//!
//! 1. **Host**: an exact name, then the longest `*.suffix`, then any. Of the same name, one with a
//!    port comes before one without.
//! 2. **Path**: an exact one, then the longest prefix.
//! 3. **Method**: a route that names one comes before a route that does not.
//! 4. **Header fields**: the more of them a route asks for, the earlier it comes.
//! 5. **Order** of the list that the table was built from.
//!
//! A route that fails on any point does not match at all, and the search goes on behind it: a
//! request for a name that some route spells out is still served by a route for `*`, if none of the
//! former takes the request's path.
//!
//! **Host names** are compared without regard to case, port and a dot at the end. `*.a.example`
//! matches `b.a.example` and `c.b.a.example`, not `a.example`. A pattern with a port, such as
//! `a.example:8080`, matches only an authority that spells this very port. Names of more than 255
//! bytes, which RFC 1035 section 2.3.4 does not allow, are matched by `*` only.
//!
//! **Paths** are compared case by case, without the query, in the form in which a backend may be
//! expected to read them: see [`normalize`], which every path passes before it can be looked up. A
//! prefix covers whole segments: `/v1` matches `/v1`, `/v1/` and `/v1/x`, not `/v1x`, and `/v1/` is
//! the same prefix. `/` matches everything, `OPTIONS *` included, which nothing else does.
//!
//! **Header fields** match if the value is the same, byte by byte.
//!
//! # What a lookup costs
//! One hash of the name, one for each shorter suffix that a pattern could have, one of the path,
//! and one for each shorter run of segments that is no longer than the longest prefix. So the
//! configuration bounds what a client can make a lookup cost, however long its path. Only routes
//! that share host and path and differ in method and header fields are tried one after the other.
//!
//! ```
//! use evenkeel::http::route::{
//!     Action, Clusters, Match, PathPolicy, PathRule, Route, RouteSpec, RouteTable, normalize,
//! };
//! use http::Method;
//!
//! let table = RouteTable::build(vec![RouteSpec {
//!     matches: Match {
//!         hosts: vec!["*.a.example".into()],
//!         path: PathRule::Prefix("/v1".into()),
//!         ..Match::default()
//!     },
//!     route: Route::new("reviews", Action::Forward(Clusters::one("reviews"))),
//! }])?;
//!
//! let path = normalize("/v1/books", PathPolicy::Refuse)?;
//! let no_fields = |_: &str| None;
//! let route = table.lookup(&Method::GET, "b.a.example:8080", &path, no_fields);
//! assert_eq!(route.map(|route| route.name.as_str()), Some("reviews"));
//! assert!(table.lookup(&Method::GET, "b.example", &path, no_fields).is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod action;
mod change;
mod error;
mod host;
mod path;
mod retry;
mod table;
mod validate;

pub use self::{
    action::{
        Action, Cluster, Clusters, Location, NoWeight, Redirect, RedirectStatus, Respond, Scheme,
        UnknownRedirectStatus,
    },
    change::{HeaderChanges, PathChange, Rewrite, UpstreamPath},
    error::{RouteError, RouteProblem},
    path::{PathPolicy, PathRefused, RequestPath, normalize},
    retry::{RetryOn, RetryPolicy, TimeLimit},
    table::RouteTable,
};

use ::http::{HeaderName, HeaderValue, Method};

/// A route, and what it matches.
#[derive(Clone, Debug)]
pub struct RouteSpec {
    /// Which requests it is for.
    pub matches: Match,
    /// What is done with them.
    pub route: Route,
}

/// Which requests a route is for: those that fulfil all of it. The default matches every request.
#[derive(Clone, Debug, Default)]
pub struct Match {
    /// `name`, `*.suffix` or `*`, each with or without `:port`; one of them has to match. Empty is
    /// the same as `*`.
    pub hosts: Vec<String>,
    /// The path, without the query.
    pub path: PathRule,
    /// The method; `None` for any.
    pub method: Option<Method>,
    /// Header fields with their exact values; all of them have to be there.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// Which paths a route is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRule {
    /// This path only. A slash at its end counts.
    Exact(String),
    /// This path and everything below it, by whole segments. A slash at its end does not count.
    Prefix(String),
}

/// `/` and everything below it.
impl Default for PathRule {
    fn default() -> PathRule {
        PathRule::Prefix("/".to_owned())
    }
}

/// What is done with a request.
///
/// Plain data, to be filled in by whoever reads a configuration; [`RouteTable::build`] checks it.
#[derive(Clone, Debug)]
pub struct Route {
    /// What the access log calls it; need not be unique.
    pub name: String,
    /// Where the request goes, or the answer to it.
    pub action: Action,
    /// Host and path for the upstream.
    pub rewrite: Rewrite,
    /// Changes to the header fields that the upstream gets.
    pub request_headers: HeaderChanges,
    /// Changes to the header fields that the client gets, also with a redirect or an answer of the
    /// route's own; not with what the proxy answers where it fails.
    pub response_headers: HeaderChanges,
    /// How long the whole exchange may take, all tries together.
    pub timeout: TimeLimit,
    /// How long one try may take.
    pub try_timeout: TimeLimit,
    /// When to try again; `None` leaves it to the cluster.
    pub retry: Option<RetryPolicy>,
}

impl Route {
    /// A route that changes nothing and leaves times and retries to listener and cluster.
    pub fn new(name: impl Into<String>, action: Action) -> Route {
        Route {
            name: name.into(),
            action,
            rewrite: Rewrite::default(),
            request_headers: HeaderChanges::default(),
            response_headers: HeaderChanges::default(),
            timeout: TimeLimit::default(),
            try_timeout: TimeLimit::default(),
            retry: None,
        }
    }
}
