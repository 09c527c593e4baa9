//! One request, from its head to the end of its answer.

use std::{cell::RefCell, fmt::Write, net::SocketAddr, rc::Rc, time::Instant};

use http::StatusCode;

use super::{
    Downstream, Then, Work,
    attempt::{Attempt, Exchange, Failure, Kind, apply, is_idempotent},
    forwarded,
    record::Record,
    routes::{FallbackOnShard, Snapshot},
    service::ProxyOnShard,
    upstream::{ClusterOnShard, Place, Unreachable, Upstream},
};
use crate::{
    http::{
        Answer, Persistence, RequestHead, ResponseBody,
        deadline::Deadline,
        filter::{Filter, Flow},
        h1::{self, write_answer},
        route::{Action, RetryPolicy, Route, Scheme, TimeLimit, normalize},
        wire::Outgoing,
    },
    net::Sending,
    runtime::sleep,
    telemetry::ResponseFlag,
    upstream::{endpoint::Tried, outlier, retry, settings::Policy},
};

/// Where a request goes.
enum Way<'r> {
    To { cluster: Rc<ClusterOnShard>, original: Option<SocketAddr>, route: Option<&'r Route> },
    Answered(Then),
}

impl<F: Filter> ProxyOnShard<F> {
    /// Has a request, whose head is in `work`, answered.
    pub(super) async fn exchange(
        &self,
        downstream: &mut Downstream,
        work: &mut Work,
        record: &Record,
        deadline: &Deadline,
        state: &RefCell<F::State>,
    ) -> Then {
        let mut own = state.take();
        let flow = self.filter.request(&mut work.request, &downstream.connection, &mut own).await;
        state.replace(own);
        let named = match flow {
            Flow::Continue => None,
            Flow::Cluster(name) => Some(name),
            Flow::Answer(answer) => {
                record.details.set("answered_by_filter");
                return self.answer(&answer, downstream, work, record);
            }
        };
        let routes = self.routes.current();
        let way = self.find_way(&routes, named, downstream, work, record);
        let (cluster, original, route) = match way {
            Way::Answered(then) => return then,
            Way::To { cluster, original, route } => (cluster, original, route),
        };
        let limit = route.map_or(TimeLimit::Inherit, |route| route.timeout);
        deadline
            .begin(limit.or(self.settings.timeouts.request), self.settings.timeouts.stream_idle);
        if let Some(route) = route {
            apply(&route.request_headers, work.request.headers_mut());
        }
        let Work { request, scratch, .. } = work;
        forwarded::write(
            request,
            downstream.client(),
            self.settings.forwarded,
            self.settings.via.as_deref(),
            scratch,
        );
        *record.cluster.borrow_mut() = Some(Rc::clone(&cluster));
        let exchange = Exchange { proxy: self, record, deadline, state, route };
        exchange.forward(downstream, work, &cluster, original).await
    }

    /// Finds the route of a request and what it says, and rewrites the target as it says.
    fn find_way<'r>(
        &self,
        routes: &'r Rc<Snapshot>,
        named: Option<String>,
        downstream: &mut Downstream,
        work: &mut Work,
        record: &Record,
    ) -> Way<'r> {
        let Work { request, scratch, .. } = work;
        let path = match normalize(request.path(), self.settings.paths) {
            Ok(path) => path,
            Err(refused) => {
                let failure = Failure::new(
                    ResponseFlag::DownstreamProtocolError,
                    StatusCode::BAD_REQUEST,
                    refused.reason(),
                );
                self.count_reject(failure.details);
                return Way::Answered(self.fail(failure, downstream, work, record));
            }
        };
        if let Some(name) = named {
            let Some(cluster) = routes.cluster_named(&name) else {
                return Way::Answered(self.fail(no_cluster(), downstream, work, record));
            };
            return Way::To { cluster, original: None, route: None };
        }
        let headers = request.headers();
        let find = |name: &str| headers.get(name);
        let route = routes.table().lookup(request.method(), request.authority(), &path, find);
        let Some(route) = route else {
            let failure = match routes.fallback() {
                FallbackOnShard::Cluster(cluster) => {
                    let cluster = Rc::clone(cluster);
                    return Way::To { cluster, original: None, route: None };
                }
                FallbackOnShard::OriginalDestination(cluster) => {
                    let cluster = Rc::clone(cluster);
                    match downstream.connection.original_destination() {
                        Some(original) => {
                            return Way::To { cluster, original: Some(original), route: None };
                        }
                        None => Failure::new(
                            ResponseFlag::NoHealthyUpstream,
                            StatusCode::SERVICE_UNAVAILABLE,
                            "no_original_destination",
                        ),
                    }
                }
                FallbackOnShard::Blackhole => {
                    Failure::new(ResponseFlag::NoRoute, StatusCode::BAD_GATEWAY, "blackhole")
                }
                FallbackOnShard::NotFound => {
                    Failure::new(ResponseFlag::NoRoute, StatusCode::NOT_FOUND, "route_not_found")
                }
            };
            return Way::Answered(self.fail(failure, downstream, work, record));
        };
        if self.exchanges().is_logged() {
            *record.route.borrow_mut() = Some(route.name.clone());
        }
        let clusters = match &route.action {
            Action::Forward(clusters) => clusters,
            Action::Redirect(redirect) => {
                let location =
                    redirect.location(Scheme::Http, request.authority(), &path, request.query());
                let answer = Answer::status(StatusCode::from(redirect.status).as_u16());
                let answer = answer.header("Location", location.to_string());
                record.details.set("direct_response");
                return Way::Answered(match answer {
                    Ok(answer) => self.answer(&answer, downstream, work, record),
                    // Everything in it came through a parser.
                    Err(_) => self.fail(no_cluster(), downstream, work, record),
                });
            }
            Action::Respond(respond) => {
                let media_type = respond.content_type.as_ref();
                let media_type = media_type.and_then(|name| name.to_str().ok());
                let answer = Answer::status(respond.status.as_u16())
                    .body(media_type.unwrap_or_default(), &*respond.body);
                record.details.set("direct_response");
                return Way::Answered(self.answer(&answer, downstream, work, record));
            }
        };
        let random = if clusters.is_weighted() { fastrand::u64(..) } else { 0 };
        let Some(cluster) = routes.cluster(clusters.pick(random).index()) else {
            return Way::Answered(self.fail(no_cluster(), downstream, work, record));
        };
        scratch.clear();
        let _ = write!(scratch, "{}", route.rewrite.path(&path));
        if scratch != request.path() && !request.is_asterisk() {
            if let Some(query) = request.query() {
                let _ = write!(scratch, "?{query}");
            }
            if self.exchanges().is_logged() {
                *record.original_path.borrow_mut() = Some(request.path_and_query().to_owned());
            }
            // The table checked what routes put in, the parser the rest.
            let _ = request.set_path_and_query(scratch);
        }
        if let Some(host) = &route.rewrite.host {
            let _ = request.set_authority(host);
        }
        Way::To { cluster: Rc::clone(cluster), original: None, route: Some(route) }
    }

    /// Answers in place of an upstream.
    pub(super) fn answer(
        &self,
        answer: &Answer,
        downstream: &mut Downstream,
        work: &Work,
        record: &Record,
    ) -> Then {
        let body_is_read = downstream.rest_is_here();
        let Downstream { connection, outgoing, .. } = downstream;
        let (_, mut to) = connection.split();
        self.answer_with(answer, &work.request, record, (outgoing, &mut to), body_is_read)
    }

    /// The same, with the connection's directions at hand.
    pub(super) fn answer_with(
        &self,
        answer: &Answer,
        request: &RequestHead,
        record: &Record,
        (outgoing, to): (&mut Outgoing, &mut Sending<'_>),
        body_is_read: bool,
    ) -> Then {
        let keeps = body_is_read && self.keeps(request, std::time::Duration::ZERO);
        let persistence = Persistence::towards(request.version(), keeps);
        let to_head = request.method() == http::Method::HEAD;
        outgoing.begin(to, ResponseBody::None, |out| answer.write(persistence, to_head, out));
        record.status.set(answer.code().as_u16());
        record.sent.set(if to_head { 0 } else { answer.length() });
        sent(outgoing.flush(to), keeps)
    }

    /// Answers with what went wrong, if nothing of an answer was sent yet.
    pub(super) fn fail(
        &self,
        failure: Failure,
        downstream: &mut Downstream,
        work: &Work,
        record: &Record,
    ) -> Then {
        record.fail(failure.flag, failure.details);
        *record.transport_failure.borrow_mut() = failure.text;
        if record.is_answered() {
            return Then::Reset { blame: None };
        }
        let body_is_read = downstream.rest_is_here();
        let request = &work.request;
        let keeps = body_is_read
            && failure.flag != ResponseFlag::DownstreamProtocolError
            && self.keeps(request, std::time::Duration::ZERO);
        let answer = h1::Answer {
            status: failure.status,
            reason: failure.details,
            request_id: request.headers().get_str("x-request-id").unwrap_or_default(),
            persistence: Persistence::towards(request.version(), keeps),
            to_head: request.method() == http::Method::HEAD,
        };
        let Downstream { connection, outgoing, .. } = downstream;
        let (_, mut to) = connection.split();
        outgoing.begin(&to, ResponseBody::None, |out| write_answer(&answer, out));
        record.status.set(failure.status.as_u16());
        sent(outgoing.flush(&mut to), keeps)
    }
}

fn sent(sent: std::io::Result<()>, keeps: bool) -> Then {
    match (sent, keeps) {
        (Err(_), _) => Then::Reset { blame: None },
        (Ok(()), true) => Then::Next { reusable: false },
        (Ok(()), false) => Then::Close { reusable: false },
    }
}

fn no_cluster() -> Failure {
    Failure::new(ResponseFlag::NoCluster, StatusCode::SERVICE_UNAVAILABLE, "cluster_not_found")
}

fn overflow() -> Failure {
    Failure::new(
        ResponseFlag::UpstreamOverflow,
        StatusCode::SERVICE_UNAVAILABLE,
        "upstream_overflow",
    )
}

impl<F: Filter> Exchange<'_, F> {
    /// Sends the request to the cluster, again if need be and it may be, until there is an answer.
    async fn forward(
        &self,
        downstream: &mut Downstream,
        work: &mut Work,
        cluster: &ClusterOnShard,
        original: Option<SocketAddr>,
    ) -> Then {
        let (proxy, record) = (self.proxy, self.record);
        let Ok(_request) = cluster.view.borrow_mut().begin_request() else {
            return proxy.fail(overflow(), downstream, work, record);
        };
        let (policy, backoff) = self.retry_policy(cluster);
        let try_limit = self.route.map_or(TimeLimit::Inherit, |route| route.try_timeout).or(None);
        let idempotent = is_idempotent(work.request.method());
        work.replay.begin(idempotent && !work.request.body().is_empty());
        let no_authority = work.request.authority().is_empty();

        let mut tried = Tried::none();
        let mut retries = 0;
        let mut fresh = false;
        let mut claim = None;
        loop {
            let Some(place) = self.place(cluster, original, &work.request, &mut tried) else {
                let failure = Failure::new(
                    ResponseFlag::NoHealthyUpstream,
                    StatusCode::SERVICE_UNAVAILABLE,
                    "no_healthy_upstream",
                );
                return proxy.fail(failure, downstream, work, record);
            };
            record.upstream.set(Some(place.address()));
            let in_flight = match &place {
                Place::Endpoint(target) => Some(target.begin_request()),
                Place::Original(_) => None,
            };
            if no_authority {
                let authority = match &place {
                    Place::Endpoint(target) => target.authority().to_string(),
                    Place::Original(address) => address.to_string(),
                };
                let _ = work.request.set_authority(&authority);
            }
            let connected = self.connect(downstream, cluster, &place, fresh).await;
            let (failure, stale) = match connected {
                Err(failure) => (failure, false),
                Ok(mut upstream) => {
                    if retries > 0 {
                        cluster.http.retries.increment();
                    }
                    let may_retry = |status| {
                        policy.as_ref().is_some_and(|policy| {
                            policy.retries(status) && retries < policy.attempts && idempotent
                        })
                    };
                    let attempt =
                        self.attempt(downstream, work, &mut upstream, try_limit, may_retry).await;
                    match attempt {
                        Attempt::Done(then) => {
                            self.report(cluster, &place, &then, record);
                            return self.finish(then, cluster, upstream);
                        }
                        Attempt::Failed(failure) => {
                            let stale = upstream.reused && failure.kind == Kind::Ended;
                            (failure, stale)
                        }
                    }
                }
            };
            drop((claim.take(), in_flight));
            if let (Place::Endpoint(target), Some(blame)) = (&place, failure.blame)
                && !stale
            {
                cluster.view.borrow_mut().report(target, blame, Instant::now());
            }
            let code = match failure.kind {
                Kind::Status(status) => crate::telemetry::CodeClass::of(status.as_u16()),
                _ => crate::telemetry::CodeClass::None,
            };
            cluster.http.requests.increment(code);

            let replayable = work.replay.is_complete() && !record.is_answered();
            if stale && !fresh && idempotent && replayable {
                // Closed while it was idle: that says nothing about the endpoint.
                fresh = true;
                continue;
            }
            let wanted = policy.as_ref().is_some_and(|policy| {
                retries < policy.attempts
                    && match failure.kind {
                        Kind::NoConnection => policy.on.connect_failure,
                        Kind::Ended => policy.on.reset && idempotent,
                        Kind::TimedOut => policy.on.timeout && idempotent,
                        Kind::Status(_) => true,
                        Kind::Final => false,
                    }
            });
            if !wanted || !replayable {
                return self.give_up(failure, retries, downstream, work);
            }
            let claimed = cluster.view.borrow_mut().claim_retry();
            match claimed {
                Ok(claimed) => claim = Some(claimed),
                Err(_) => return self.give_up(failure, retries, downstream, work),
            }
            if let Place::Endpoint(target) = &place {
                tried.add(target.id());
            }
            retries += 1;
            let pause = cluster.view.borrow_mut().pause(&backoff, retries);
            sleep(pause).await;
        }
    }

    fn give_up(
        &self,
        mut failure: Failure,
        retries: u32,
        downstream: &mut Downstream,
        work: &Work,
    ) -> Then {
        if failure.flag == ResponseFlag::None {
            // The last of several answers that were to be retried is gone; this one stands for it.
            failure.flag = ResponseFlag::UpstreamRetryLimitExceeded;
        }
        if retries > 0 && failure.kind == Kind::NoConnection {
            failure.flag = ResponseFlag::UpstreamConnectionFailure;
        }
        if failure.flag == ResponseFlag::DownstreamProtocolError {
            self.proxy.count_reject(failure.details);
        }
        self.proxy.fail(failure, downstream, work, self.record)
    }

    /// When the request is tried again, and how.
    fn retry_policy(&self, cluster: &ClusterOnShard) -> (Option<RetryPolicy>, retry::RetryPolicy) {
        let mut view = cluster.view.borrow_mut();
        let of_cluster = view.settings().retry();
        let policy = match self.route.and_then(|route| route.retry.as_ref()) {
            Some(policy) => Some(policy.clone()),
            None => of_cluster.map(|of_cluster| RetryPolicy {
                attempts: of_cluster.attempts,
                ..RetryPolicy::default()
            }),
        };
        (policy, of_cluster.cloned().unwrap_or_default())
    }

    fn place(
        &self,
        cluster: &ClusterOnShard,
        original: Option<SocketAddr>,
        request: &RequestHead,
        tried: &mut Tried,
    ) -> Option<Place> {
        if let Some(original) = original {
            return Some(Place::Original(original));
        }
        let mut view = cluster.view.borrow_mut();
        let now = Instant::now();
        let key = match view.settings().policy() {
            Policy::Hash { header } => request.headers().get(header),
            _ => None,
        };
        let picked = view.pick(key, tried, now).or_else(|| {
            if tried.is_empty() {
                return None;
            }
            tried.forget();
            view.pick(key, tried, now)
        });
        picked.map(Place::Endpoint)
    }

    async fn connect(
        &self,
        downstream: &mut Downstream,
        cluster: &ClusterOnShard,
        place: &Place,
        fresh: bool,
    ) -> Result<Upstream, Failure> {
        if !fresh && let Some(upstream) = cluster.idle(place) {
            self.note_local(&upstream);
            return Ok(upstream);
        }
        let client = downstream.client();
        let limits = self.proxy.settings.upstream_head;
        let connected = cluster.connect(place, client, limits, &self.proxy.shard).await;
        match connected {
            Ok(upstream) => {
                self.note_local(&upstream);
                Ok(upstream)
            }
            Err(Unreachable::Overflow) => Err(overflow()),
            Err(Unreachable::Loop) => {
                Err(Failure::new(ResponseFlag::NoRoute, StatusCode::LOOP_DETECTED, "loop_detected"))
            }
            Err(Unreachable::Failed(error)) => Err(Failure {
                blame: Some(outlier::Outcome::ConnectFailed),
                kind: Kind::NoConnection,
                text: Some(error.to_string()),
                ..Failure::new(
                    ResponseFlag::UpstreamConnectionFailure,
                    StatusCode::SERVICE_UNAVAILABLE,
                    "upstream_connection_failure",
                )
            }),
        }
    }

    fn note_local(&self, upstream: &Upstream) {
        if self.proxy.exchanges().is_logged() {
            let local = upstream.connected.stream.local_address().ok().flatten();
            self.record.upstream_local.set(local);
        }
    }

    fn report(&self, cluster: &ClusterOnShard, place: &Place, then: &Then, record: &Record) {
        let status = record.status.get();
        cluster.http.requests.increment(crate::telemetry::CodeClass::of(status));
        let blame = match then {
            Then::Reset { blame } => *blame,
            _ => Some(outlier::Outcome::Answered(status)),
        };
        if let (Place::Endpoint(target), Some(blame)) = (place, blame) {
            cluster.view.borrow_mut().report(target, blame, Instant::now());
        }
    }

    /// What becomes of the upstream connection after the answer.
    fn finish(&self, then: Then, cluster: &ClusterOnShard, upstream: Upstream) -> Then {
        match then {
            Then::Next { reusable: true } | Then::Close { reusable: true } => {
                cluster.keep(upstream)
            }
            Then::Tunnel(_) => return Then::Tunnel(Some(Box::new(upstream))),
            _ => {}
        }
        then
    }
}
