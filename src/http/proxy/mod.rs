//! The HTTP proxy as a service: requests of clients, forwarded over pooled connections.
//!
//! ```text
//!  service   a client's connection: head after head, idle and busy times
//!    └ exchange   one request: filters, route, cluster
//!        └ tries   endpoint after endpoint, until there is an answer
//!            └ attempt   one upstream connection: request up, answer down, at the same time
//!                └ upstream   idle connections and new ones, of the whole shard
//! ```
//!
//! Every message is written anew from its parsed form (`h1`); bodies go on in the buffers that they
//! were received into. A connection allocates nothing for a request once it is busy.

mod attempt;
mod client_certificate;
mod downstream;
mod exchange;
mod failure;
mod forwarded;
mod race;
mod record;
mod reject;
mod replay;
mod reply;
mod report;
mod routes;
mod service;
mod tries;
mod tunnel;
mod upstream;

use std::{cell::OnceCell, fmt, sync::Arc, time::Duration};

use self::routes::RoutesOnShard;
pub use self::{
    client_certificate::{CertificateDetails, ForwardedClientCertificate},
    forwarded::Forwarded,
    routes::{Fallback, Routes},
    service::ProxyOnShard,
};
use super::{filter::Filter, h1::HeadLimits, route::PathPolicy};
use crate::{relay, service::ServiceFactory, shard::Shard, telemetry::access_log::AccessLog};

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// A connection without a request. Default 60 s.
    pub idle: Option<Duration>,
    /// The head of a request, from its first byte to its last: 408. Default 10 s.
    pub head: Option<Duration>,
    /// A whole exchange: 504. Default: as long as it likes.
    pub request: Option<Duration>,
    /// The time in an exchange in which nothing moves: 408 if the client's body is waited for, 504 if
    /// the upstream is. Default 5 min.
    pub stream_idle: Option<Duration>,
    /// The age from which a connection's next answer says that it is the last. Default: none.
    pub max_age: Option<Duration>,
    /// Those of the relay that a connection becomes after an upgrade or a CONNECT. Default 1 h each.
    pub tunnel: relay::Timeouts,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            idle: Some(Duration::from_secs(60)),
            head: Some(Duration::from_secs(10)),
            request: None,
            stream_idle: Some(Duration::from_secs(300)),
            max_age: None,
            tunnel: relay::Timeouts::default(),
        }
    }
}

#[derive(Clone, Debug)]
struct Settings {
    timeouts: Timeouts,
    head: HeadLimits,
    upstream_head: HeadLimits,
    max_body: Option<u64>,
    forwarded: Forwarded,
    client_certificate: ForwardedClientCertificate,
    via: Option<Arc<str>>,
    paths: PathPolicy,
}

/// An HTTP proxy. It is a [`ServiceFactory`]: give it to a [`Listener`](crate::Listener).
#[must_use = "give it to a listener"]
pub struct Proxy<M = NoFilter> {
    routes: Routes,
    settings: Settings,
    make_filter: Arc<M>,
    log: Option<AccessLog>,
}

/// The filter of a proxy that has none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFilter;

/// Makes the filter of each shard, on the shard. Closures from [`&Shard`](Shard) do.
pub trait FilterFactory: Send + Sync + 'static {
    /// What it makes.
    type Filter: Filter;

    /// Called once a shard.
    fn make(&self, shard: &Shard) -> Self::Filter;
}

impl FilterFactory for NoFilter {
    type Filter = ();

    fn make(&self, _: &Shard) {}
}

impl<M, F> FilterFactory for M
where
    M: Fn(&Shard) -> F + Send + Sync + 'static,
    F: Filter,
{
    type Filter = F;

    fn make(&self, shard: &Shard) -> F {
        self(shard)
    }
}

/// A proxy that forwards requests as `routes` say.
pub fn proxy(routes: Routes) -> Proxy {
    Proxy {
        routes,
        settings: Settings {
            timeouts: Timeouts::default(),
            head: HeadLimits::default(),
            upstream_head: HeadLimits::default(),
            max_body: None,
            forwarded: Forwarded::default(),
            client_certificate: ForwardedClientCertificate::default(),
            via: None,
            paths: PathPolicy::default(),
        },
        make_filter: Arc::new(NoFilter),
        log: None,
    }
}

impl<M> Proxy<M> {
    /// With a filter, made once a shard; in place of the one before. Several filters are a tuple.
    pub fn filter<N: FilterFactory>(self, make: N) -> Proxy<N> {
        Proxy {
            routes: self.routes,
            settings: self.settings,
            make_filter: Arc::new(make),
            log: self.log,
        }
    }

    /// Other timeouts.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.settings.timeouts = timeouts;
        self
    }

    /// Other limits for the heads of requests. A head that is split takes up to its limit of memory.
    /// Whether CONNECT is a method is for [`connect`](Self::connect) to say.
    pub fn head_limits(mut self, limits: HeadLimits) -> Self {
        self.settings.head = HeadLimits { connect: self.settings.head.connect, ..limits };
        self
    }

    /// Takes CONNECT (RFC 9110 section 9.3.6). Default: no, 501.
    ///
    /// It ends here: the client gets a TCP connection to an endpoint of the cluster that its request
    /// is routed to, and is answered with 200 once that stands; then bytes are relayed. What the client
    /// names is only what routes look at, host and port as any other request's, never where it gets.
    /// It has no path, so of paths only the prefix `/` matches. A tunnel counts among the connections of
    /// its cluster, no longer among its requests. Where it is refused the client's connection is closed,
    /// since the client may have sent more already, which is no request.
    pub fn connect(mut self, takes: bool) -> Self {
        self.settings.head.connect = takes;
        self
    }

    /// The longest body of a request, in bytes: 413. Default: any.
    pub fn max_body(mut self, bytes: Option<u64>) -> Self {
        self.settings.max_body = bytes;
        self
    }

    /// What is believed of what clients say about themselves. Default: [`Forwarded::Append`].
    pub fn forwarded(mut self, policy: Forwarded) -> Self {
        self.settings.forwarded = policy;
        self
    }

    /// What upstreams are told about the certificates of clients, in `X-Forwarded-Client-Cert`. Default:
    /// nothing, and what clients say about it is dropped.
    pub fn forwarded_client_certificate(mut self, policy: ForwardedClientCertificate) -> Self {
        self.settings.client_certificate = policy;
        self
    }

    /// Adds `Via`, with this name for the proxy. Default: none.
    pub fn via(mut self, name: &str) -> Self {
        self.settings.via = Some(name.into());
        self
    }

    /// What becomes of paths with dot segments. Default: they are refused.
    pub fn paths(mut self, policy: PathPolicy) -> Self {
        self.settings.paths = policy;
        self
    }

    /// Writes a line for each request. Default: none.
    pub fn access_log(mut self, log: AccessLog) -> Self {
        self.log = Some(log);
        self
    }
}

impl<M: FilterFactory> ServiceFactory for Proxy<M> {
    type Service = ProxyOnShard<M::Filter>;

    fn make(&self, shard: &Shard) -> ProxyOnShard<M::Filter> {
        ProxyOnShard {
            shard: shard.clone(),
            settings: self.settings.clone(),
            routes: RoutesOnShard::new(self.routes.clone(), shard),
            filter: self.make_filter.make(shard),
            log: self.log.as_ref().map(|log| shard.access_log(log)),
            exchanges: OnceCell::new(),
        }
    }

    fn needs_original_destination(&self) -> bool {
        self.routes.need_original_destination()
    }
}

impl<M> fmt::Debug for Proxy<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("routes", &self.routes)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
