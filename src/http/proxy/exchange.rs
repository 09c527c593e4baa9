//! One request, from its head to the cluster that it is for.

use std::{
    cell::RefCell,
    fmt::Write,
    mem,
    net::SocketAddr,
    ops::{Deref, DerefMut},
    rc::Rc,
};

use http::StatusCode;

use super::{
    client_certificate,
    downstream::{Downstream, Work},
    failure::Failure,
    forwarded,
    record::Record,
    routes::{FallbackOnShard, Snapshot},
    service::{Serving, Then},
    upstream::ClusterOnShard,
};
use crate::{
    http::{
        Answer, Headers, RequestHead,
        deadline::Deadline,
        filter::{Filter, Flow},
        route::{Action, HeaderChanges, RequestPath, Route, Scheme, TimeLimit, normalize},
    },
    telemetry::ResponseFlag,
};

/// What an exchange consists of, beside the two connections.
pub(super) struct Exchange<'e, F: Filter> {
    pub(super) proxy: &'e Serving<'e, F>,
    pub(super) record: &'e Record,
    pub(super) deadline: &'e Deadline,
    pub(super) state: &'e RefCell<F::State>,
    pub(super) route: Option<&'e Route>,
}

/// Where a request goes.
struct Way<'r> {
    cluster: Rc<ClusterOnShard>,
    original: Option<SocketAddr>,
    route: Option<&'r Route>,
}

/// What routes, or a filter, say about a request.
enum Found<'r> {
    Route(&'r Route),
    /// A cluster, if it is there.
    Cluster(Option<Rc<ClusterOnShard>>),
    Original(Rc<ClusterOnShard>, SocketAddr),
    Nothing(Failure),
}

impl<F: Filter> Serving<'_, F> {
    /// Has a request, whose head is in `work`, answered.
    pub(super) async fn exchange(
        &self,
        downstream: &mut Downstream,
        work: &mut Work,
        record: &Record,
        deadline: &Deadline,
        state: &RefCell<F::State>,
    ) -> Then {
        // First of all, so that whoever looks at the request finds its id.
        let (client, via) = (downstream.client(), self.settings.via.as_deref());
        let Work { request, scratch, .. } = &mut *work;
        let (policy, certificate) = (self.settings.forwarded, self.settings.client_certificate);
        forwarded::write(request, client, downstream.scheme(), policy, via, scratch);
        client_certificate::write(request, certificate, &downstream.connection, scratch);
        let flow = {
            let mut state = Lent::from(state);
            self.filter.request(&mut work.request, &downstream.connection, &mut state).await
        };
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
        let Way { cluster, original, route } = match way {
            Ok(way) => way,
            Err(answered) => return answered,
        };
        let limit = route.map_or(TimeLimit::Inherit, |route| route.timeout);
        deadline
            .begin(limit.or(self.settings.timeouts.request), self.settings.timeouts.stream_idle);
        if let Some(route) = route {
            apply(&route.request_headers, work.request.headers_mut());
        }
        *record.cluster.borrow_mut() = Some(Rc::clone(&cluster));
        let exchange = Exchange { proxy: self, record, deadline, state, route };
        exchange.forward(downstream, work, &cluster, original).await
    }

    /// Finds where a request goes, and rewrites its target as its route says. The error is what
    /// comes after a request that was answered here.
    fn find_way<'r>(
        &self,
        routes: &'r Rc<Snapshot>,
        named: Option<String>,
        downstream: &mut Downstream,
        work: &mut Work,
        record: &Record,
    ) -> Result<Way<'r>, Then> {
        // CONNECT is about nothing that a path names, as little as OPTIONS * is.
        let path = match work.request.path() {
            "" => "*",
            path => path,
        };
        let path = match normalize(path, self.settings.paths) {
            Ok(path) => path,
            Err(refused) => {
                let (flag, status) =
                    (ResponseFlag::DownstreamProtocolError, StatusCode::BAD_REQUEST);
                self.count_reject(refused.reason());
                let failure = Failure::new(flag, status, refused.reason());
                return Err(self.fail(failure, downstream, work, record));
            }
        };
        let request = &work.request;
        let headers = request.headers();
        let found = match named {
            Some(name) => Found::Cluster(routes.cluster_named(&name)),
            None => {
                let find = |name: &str| headers.get(name);
                let authority = request.authority();
                let route = routes.table().lookup(request.method(), authority, &path, find);
                route.map_or_else(|| fallback(routes, downstream), Found::Route)
            }
        };
        work.scratch.clear();
        let (cluster, original, route) = match found {
            Found::Route(route) => {
                if self.exchanges.is_logged() {
                    work.route.push_str(&route.name);
                }
                let clusters = match &route.action {
                    Action::Forward(clusters) => clusters,
                    action => {
                        let answer = direct(action, downstream.scheme(), request, &path);
                        record.details.set("direct_response");
                        return Err(match answer {
                            Some(mut answer) => {
                                apply(&route.response_headers, answer.headers_mut());
                                self.answer(&answer, downstream, work, record)
                            }
                            None => self.fail(Failure::no_cluster(), downstream, work, record),
                        });
                    }
                };
                let random = if clusters.is_weighted() { fastrand::u64(..) } else { 0 };
                let _ = write!(work.scratch, "{}", route.rewrite.path(&path));
                (routes.cluster(clusters.pick(random).index()).cloned(), None, Some(route))
            }
            Found::Cluster(cluster) => {
                work.scratch.push_str(path.forwarded());
                (cluster, None, None)
            }
            Found::Original(cluster, original) => {
                work.scratch.push_str(path.forwarded());
                (Some(cluster), Some(original), None)
            }
            Found::Nothing(failure) => {
                return Err(self.fail(failure, downstream, work, record));
            }
        };
        let Some(cluster) = cluster else {
            return Err(self.fail(Failure::no_cluster(), downstream, work, record));
        };
        self.retarget(route, work);
        Ok(Way { cluster, original, route })
    }

    /// Directs a request to the path in its scratch, and to the host that its route names.
    fn retarget(&self, route: Option<&Route>, work: &mut Work) {
        let Work { request, scratch, original_path, .. } = work;
        let has_path = request.path().starts_with('/');
        if has_path && scratch != request.path() {
            if let Some(query) = request.query() {
                let _ = write!(scratch, "?{query}");
            }
            if self.exchanges.is_logged() {
                original_path.push_str(request.path_and_query());
            }
            // The table checked what routes put in, the parser the rest.
            let _ = request.set_path_and_query(scratch);
        }
        if let Some(host) = route.and_then(|route| route.rewrite.host.as_ref()) {
            let _ = request.set_authority(host);
        }
    }
}

/// Where a request goes that no route matches.
fn fallback<'r>(routes: &Snapshot, downstream: &Downstream) -> Found<'r> {
    let refused = match routes.fallback() {
        FallbackOnShard::Cluster(cluster) => return Found::Cluster(Some(Rc::clone(cluster))),
        FallbackOnShard::OriginalDestination(cluster) => {
            if let Some(original) = downstream.connection.original_destination() {
                return Found::Original(Rc::clone(cluster), original);
            }
            Failure::new(
                ResponseFlag::NoHealthyUpstream,
                StatusCode::SERVICE_UNAVAILABLE,
                "no_original_destination",
            )
        }
        FallbackOnShard::Blackhole => {
            Failure::new(ResponseFlag::NoRoute, StatusCode::BAD_GATEWAY, "blackhole")
        }
        FallbackOnShard::NotFound => {
            Failure::new(ResponseFlag::NoRoute, StatusCode::NOT_FOUND, "route_not_found")
        }
    };
    Found::Nothing(refused)
}

/// The answer that a route gives itself.
fn direct(
    action: &Action,
    scheme: Scheme,
    request: &RequestHead,
    path: &RequestPath<'_>,
) -> Option<Answer> {
    match action {
        Action::Forward(_) => None,
        Action::Redirect(redirect) => {
            let location = redirect.location(scheme, request.authority(), path, request.query());
            let answer = Answer::status(StatusCode::from(redirect.status).as_u16());
            // Everything in it came through a parser.
            answer.header("Location", location.to_string()).ok()
        }
        Action::Respond(respond) => {
            let media_type = respond.content_type.as_ref();
            let media_type = media_type.and_then(|name| name.to_str().ok());
            let answer = Answer::status(respond.status.as_u16());
            Some(answer.body(media_type.unwrap_or_default(), &*respond.body))
        }
    }
}

/// Changes fields as a route says.
pub(super) fn apply(changes: &HeaderChanges, headers: &mut Headers) {
    for name in &changes.remove {
        headers.remove(name);
    }
    // The table refuses routes that set what a route may not.
    for (name, value) in &changes.set {
        let _ = headers.insert(name, value);
    }
    for (name, value) in &changes.add {
        let _ = headers.append(name, value);
    }
}

/// The state of a request's filter while the filter works with it. It goes back also where the
/// filter's future is dropped, so that the filter finds it at the end.
pub(super) struct Lent<'s, S: Default> {
    of: &'s RefCell<S>,
    state: S,
}

impl<'s, S: Default> Lent<'s, S> {
    pub(super) fn from(of: &'s RefCell<S>) -> Lent<'s, S> {
        Lent { of, state: of.take() }
    }
}

impl<S: Default> Deref for Lent<'_, S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.state
    }
}

impl<S: Default> DerefMut for Lent<'_, S> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.state
    }
}

impl<S: Default> Drop for Lent<'_, S> {
    fn drop(&mut self) {
        self.of.replace(mem::take(&mut self.state));
    }
}
