//! The attempts to have a request answered by a cluster: endpoint, connection, attempt; again if need
//! be and it may be.

use std::{
    borrow::Cow,
    cell::Cell,
    net::SocketAddr,
    time::{Duration, Instant},
};

use http::{Method, StatusCode};

use super::{
    attempt::Attempt,
    downstream::{Downstream, Work},
    exchange::Exchange,
    failure::{Failure, Kind},
    service::Then,
    upstream::{ClusterOnShard, Place, Unreachable, Upstream},
};
use crate::{
    http::{
        BodyLength, RequestHead,
        filter::Filter,
        route::{RetryPolicy, TimeLimit},
    },
    runtime::sleep,
    telemetry::ResponseFlag,
    upstream::{endpoint::Tried, outlier, pool::Idle, retry, settings::Policy, view::RetryClaim},
};

/// The attempts at one request.
struct Tries<'t> {
    cluster: &'t ClusterOnShard,
    original: Option<SocketAddr>,
    policy: Option<Cow<'t, RetryPolicy>>,
    backoff: retry::RetryPolicy,
    try_limit: Option<Duration>,
    idempotent: bool,
    no_authority: bool,
    /// Endpoints that are not asked again while there are others.
    tried: Tried,
    retries: u32,
    /// What the present retry was granted.
    claim: Cell<Option<RetryClaim>>,
    /// Not over a connection that was idle: one turned out to be dead, or the client is to have the
    /// connection.
    fresh: bool,
}

impl Tries<'_> {
    fn may_retry(&self) -> bool {
        self.policy.as_ref().is_some_and(|policy| self.retries < policy.attempts)
    }

    /// Claims room for another retry, in place of the present one.
    fn claim(&self) -> bool {
        self.claim.take();
        let claimed = self.cluster.view.borrow_mut().claim_retry().ok();
        let granted = claimed.is_some();
        self.claim.set(claimed);
        granted
    }

    /// Whether a failure is one that the policy lets be retried.
    fn wants(&self, kind: Kind) -> bool {
        let Some(on) = self.policy.as_ref().map(|policy| policy.on) else { return false };
        match kind {
            Kind::NoConnection => on.connect_failure,
            Kind::Ended => on.reset && self.idempotent,
            Kind::TimedOut => on.timeout && self.idempotent,
            Kind::Status(_) | Kind::Final => false,
        }
    }
}

impl<F: Filter> Exchange<'_, F> {
    /// Sends the request to the cluster until there is an answer.
    pub(super) async fn forward(
        &self,
        downstream: &mut Downstream,
        work: &mut Work,
        cluster: &ClusterOnShard,
        original: Option<SocketAddr>,
    ) -> Then {
        let most = self.proxy.settings.max_body;
        if let (BodyLength::Exactly(length), Some(most)) = (work.request.body(), most)
            && length > most
        {
            return self.give_up(Failure::body_too_large(), downstream, work);
        }
        let Ok(_request) = cluster.view.borrow_mut().begin_request() else {
            return self.give_up(Failure::overflow(), downstream, work);
        };
        let (policy, backoff) = self.retry_policy(cluster);
        let idempotent = is_idempotent(work.request.method());
        let is_connect = work.request.method() == Method::CONNECT;
        work.replay.begin(idempotent && !work.request.body().is_empty());
        let mut tries = Tries {
            cluster,
            original,
            policy,
            backoff,
            try_limit: self.route.map_or(TimeLimit::Inherit, |route| route.try_timeout).or(None),
            idempotent,
            no_authority: work.request.authority().is_empty(),
            tried: Tried::none(),
            retries: 0,
            claim: Cell::new(None),
            fresh: is_connect,
        };
        loop {
            let failure = match self.try_once(&mut tries, downstream, work).await {
                Ok(then) => return then,
                Err(failure) => failure,
            };
            if let Kind::Status(_) = failure.kind {
                // Granted when the answer came: it would have been forwarded otherwise.
            } else {
                let replayable = work.replay.is_complete() && !self.record.is_answered();
                if !(replayable && tries.wants(failure.kind)) {
                    return self.give_up(failure, downstream, work);
                }
                if !tries.may_retry() || !tries.claim() {
                    return self.give_up(failure, downstream, work);
                }
            }
            if let Some(Place::Endpoint(target)) = &*self.record.place.borrow() {
                tries.tried.add(target.id());
            }
            tries.retries += 1;
            let pause = cluster.view.borrow_mut().pause(&tries.backoff, tries.retries);
            sleep(pause).await;
        }
    }

    /// Sends the request to one endpoint; once more over a new connection where an idle one turns
    /// out to have been closed, which says nothing about the endpoint.
    async fn try_once(
        &self,
        tries: &mut Tries<'_>,
        downstream: &mut Downstream,
        work: &mut Work,
    ) -> Result<Then, Failure> {
        let (cluster, record) = (tries.cluster, self.record);
        let place = self.place(tries, &work.request).ok_or_else(Failure::no_endpoint)?;
        record.place.replace(Some(place.clone()));
        let _in_flight = match &place {
            Place::Endpoint(target) => Some(target.begin_request()),
            Place::Original(_) => None,
        };
        if tries.no_authority {
            let authority = match &place {
                Place::Endpoint(target) => target.authority().to_string(),
                Place::Original(address) => address.to_string(),
            };
            let _ = work.request.set_authority(&authority);
        }
        loop {
            let (failure, reused) = match self.connect(tries, downstream, &place).await {
                Err(failure) => (failure, false),
                Ok(mut upstream) => {
                    if tries.retries > 0 {
                        cluster.http.retries.increment();
                    }
                    record.upstream_status.set(0);
                    let retries = |status| self.retries(tries, status);
                    let limit = tries.try_limit;
                    let attempt = match *work.request.method() {
                        Method::CONNECT => self.open_tunnel(downstream, work).await,
                        _ => self.attempt(downstream, work, &mut upstream, limit, retries).await,
                    };
                    match attempt {
                        Attempt::Done(then) => {
                            self.report(cluster, &place, &then);
                            return Ok(finish(then, cluster, upstream));
                        }
                        Attempt::Failed(failure) => (failure, upstream.reused),
                    }
                }
            };
            cluster.count(record.upstream_status.get());
            if reused && failure.kind == Kind::Ended {
                let replayable = work.replay.is_complete() && !record.is_answered();
                if !tries.fresh && tries.idempotent && replayable {
                    tries.fresh = true;
                    continue;
                }
            } else {
                cluster.report(&place, failure.blame);
            }
            return Err(failure);
        }
    }

    /// Whether an answer with this status is to be thrown away, because there is another attempt.
    fn retries(&self, tries: &Tries<'_>, status: StatusCode) -> bool {
        let listed = tries.policy.as_ref().is_some_and(|policy| policy.retries(status));
        if !listed || !tries.idempotent {
            return false;
        }
        let granted = tries.may_retry() && tries.claim();
        if !granted {
            self.record.flag.set(ResponseFlag::UpstreamRetryLimitExceeded);
        }
        granted
    }

    fn give_up(&self, failure: Failure, downstream: &mut Downstream, work: &Work) -> Then {
        if failure.flag == ResponseFlag::DownstreamProtocolError {
            self.proxy.count_reject(failure.details);
        }
        self.proxy.fail(failure, downstream, work, self.record)
    }

    /// When the request is tried again, and how.
    fn retry_policy(
        &self,
        cluster: &ClusterOnShard,
    ) -> (Option<Cow<'_, RetryPolicy>>, retry::RetryPolicy) {
        let mut view = cluster.view.borrow_mut();
        let of_cluster = view.settings().retry();
        let policy = match self.route.and_then(|route| route.retry.as_ref()) {
            Some(policy) => Some(Cow::Borrowed(policy)),
            None => of_cluster.map(|of_cluster| {
                let attempts = of_cluster.attempts;
                Cow::Owned(RetryPolicy { attempts, ..RetryPolicy::default() })
            }),
        };
        (policy, of_cluster.cloned().unwrap_or_default())
    }

    fn place(&self, tries: &mut Tries<'_>, request: &RequestHead) -> Option<Place> {
        if let Some(original) = tries.original {
            return Some(Place::Original(original));
        }
        let mut view = tries.cluster.view.borrow_mut();
        let now = Instant::now();
        let key = match view.settings().policy() {
            Policy::Hash { header } => request.headers().get(header),
            _ => None,
        };
        let picked = view.pick(key, &tries.tried, now).or_else(|| {
            if tries.tried.is_empty() {
                return None;
            }
            tries.tried.forget();
            view.pick(key, &tries.tried, now)
        });
        picked.map(Place::Endpoint)
    }

    async fn connect(
        &self,
        tries: &Tries<'_>,
        downstream: &Downstream,
        place: &Place,
    ) -> Result<Upstream, Failure> {
        if !tries.fresh
            && let Some(upstream) = tries.cluster.idle(place)
        {
            self.note_connection(&upstream);
            return Ok(upstream);
        }
        let client = downstream.client();
        let limits = self.proxy.settings.upstream_head;
        match tries.cluster.connect(place, client, limits).await {
            Ok(upstream) => {
                self.note_connection(&upstream);
                Ok(upstream)
            }
            Err(Unreachable::Overflow) => Err(Failure::overflow()),
            Err(Unreachable::Loop) => {
                Err(Failure::new(ResponseFlag::NoRoute, StatusCode::LOOP_DETECTED, "loop_detected"))
            }
            Err(Unreachable::Failed(error)) => {
                self.record.upstream_local.set(None);
                self.record.upstream_tls.replace(None);
                Err(Failure::no_connection(error.to_string()))
            }
        }
    }

    fn note_connection(&self, upstream: &Upstream) {
        if self.proxy.exchanges.is_logged() {
            self.record.upstream_local.set(upstream.local_address());
            self.record.upstream_tls.replace(upstream.connected.stream.tls_session());
        }
    }

    fn report(&self, cluster: &ClusterOnShard, place: &Place, then: &Then) {
        let status = self.record.upstream_status.get();
        cluster.count(status);
        let blame = match then {
            Then::Reset { blame } => *blame,
            _ => Some(outlier::Outcome::Answered(status)),
        };
        cluster.report(place, blame);
    }
}

/// What becomes of the upstream connection after the answer.
fn finish(then: Then, cluster: &ClusterOnShard, upstream: Upstream) -> Then {
    match then {
        Then::Next { reusable: true } | Then::Close { reusable: true } => cluster.keep(upstream),
        Then::Next { .. } | Then::Close { .. } => upstream.close(),
        Then::Tunnel(_) => return Then::Tunnel(Some(Box::new(upstream))),
        Then::Reset { .. } => {}
    }
    then
}

/// Whether RFC 9110 section 9.2.2 calls a method idempotent.
fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE]
        .contains(method)
}
