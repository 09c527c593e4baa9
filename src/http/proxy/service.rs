//! A client's connection, and the requests that come over it one after the other.
//!
//! A busy connection holds its working memory from request to request, and so allocates nothing for
//! one. A quiet one gives it back: then it is a socket and a few hundred bytes.

use std::{
    cell::{OnceCell, RefCell},
    ops::Deref,
    pin::pin,
    time::Duration,
};

use http::{Method, StatusCode};

use super::{
    Settings,
    downstream::{Downstream, Work},
    failure::Failure,
    race::{First, race},
    record::Record,
    reject,
    routes::RoutesOnShard,
    tunnel::tunnel,
    upstream::Upstream,
};
use crate::{
    connection::Connection,
    http::{
        Persistence, RequestHead, ResponseBody,
        deadline::{Deadline, Expired},
        filter::Filter,
        h1::{self, AnswerForm, RequestError, write_answer},
        wire::{HeadFault, is_unannounced_end},
    },
    net::Sending,
    ring::{Nanoseconds, nanoseconds},
    runtime::{sleep, timeout},
    service::Service,
    shard::Shard,
    telemetry::{CloseReason, Exchanges, ResponseFlag, access_log::AccessLogOnShard},
    upstream::outlier,
};

/// How long a connection without a request keeps its working memory.
const QUIET: Duration = Duration::from_millis(50);
/// The timers of connections that become quiet at about the same time fire together, so that few
/// of them wake a shard that has nothing else to do.
const TOGETHER: Nanoseconds = 10_000_000;
/// How long a connection goes on without a request once it is to end: the proxy drains, or what it was
/// made with was replaced.
const QUIET_IN_DRAIN: Duration = Duration::from_secs(1);

/// An HTTP proxy on one shard.
pub struct ProxyOnShard<F: Filter> {
    pub(super) shard: Shard,
    pub(super) settings: Settings,
    pub(super) routes: RoutesOnShard,
    pub(super) filter: F,
    pub(super) log: Option<AccessLogOnShard>,
    /// Made for the listener when its first connection comes.
    pub(super) exchanges: OnceCell<Exchanges>,
}

/// The same, with where the exchanges of its listener are counted and logged.
pub(super) struct Serving<'p, F: Filter> {
    proxy: &'p ProxyOnShard<F>,
    pub(super) exchanges: &'p Exchanges,
}

impl<F: Filter> Deref for Serving<'_, F> {
    type Target = ProxyOnShard<F>;

    fn deref(&self) -> &ProxyOnShard<F> {
        self.proxy
    }
}

/// What comes after an exchange.
pub(super) enum Then {
    /// The next request. `reusable` says whether the upstream connection can carry another one, too.
    Next { reusable: bool },
    /// The end of the connection, in order.
    Close { reusable: bool },
    /// Its end at once: what the client has got is not whole, or it is gone.
    Reset { blame: Option<outlier::Outcome> },
    /// A relay of bytes.
    Tunnel(Option<Box<Upstream>>),
}

/// What comes after a connection was busy.
enum After {
    Quiet(Box<Downstream>),
    Tunnel(Box<Downstream>, Box<Upstream>),
    Over,
}

/// What came instead of, or as, the next request.
enum Next {
    Request,
    /// Nothing, for a while.
    Quiet,
    /// Nothing any more. What the client was sent it still gets.
    Over,
    /// What is no request, which was answered: whatever follows it is dropped.
    Refused,
    /// A connection that is of no use any more.
    Broken,
}

impl<F: Filter> Service for ProxyOnShard<F> {
    async fn serve(&self, connection: Connection) {
        let exchanges = self.exchanges.get_or_init(|| {
            let cells =
                self.shard.registry().http_listener(connection.listener(), self.shard.index());
            Exchanges::new(cells, self.log.clone())
        });
        let serving = Serving { proxy: self, exchanges };
        let mut downstream = Box::new(Downstream::new(connection, self.settings.head));
        loop {
            // A new connection is likely to have a request.
            match Box::pin(serving.serve_busy(downstream)).await {
                After::Quiet(quiet) => downstream = quiet,
                After::Tunnel(downstream, upstream) => {
                    // Boxed, as most connections never become one.
                    let timeouts = &self.settings.timeouts.tunnel;
                    return Box::pin(tunnel(downstream, upstream, timeouts)).await;
                }
                After::Over => return,
            }
            let idle = self.settings.timeouts.idle.map(|idle| idle.saturating_sub(QUIET));
            if !serving.wait_for_request(&mut downstream, idle).await {
                return downstream.flush(self.settings.timeouts.stream_idle).await;
            }
        }
    }
}

impl<F: Filter> Serving<'_, F> {
    pub(super) fn count_reject(&self, reason: &str) {
        self.exchanges.cells().rejected.increment(reject::label(reason));
    }

    /// Whether a connection carries another request after this one.
    pub(super) fn keeps(&self, request: &RequestHead, age: Duration, to: &Sending<'_>) -> bool {
        request.keep_alive()
            // What follows a CONNECT that was not granted may have been meant for the tunnel.
            && *request.method() != Method::CONNECT
            && !self.shard.is_draining()
            && !to.is_outlived()
            && self.settings.timeouts.max_age.is_none_or(|most| age < most)
    }

    /// Waits for the first bytes of a request on a connection that holds nothing. `false` if it is
    /// over instead.
    async fn wait_for_request(&self, downstream: &mut Downstream, idle: Option<Duration>) -> bool {
        let ended = {
            let connection = &mut downstream.connection;
            let outlived = connection.outlived();
            let arrived = async {
                match connection.receive().await {
                    Ok(Some(chunk)) => {
                        connection.unreceive(chunk);
                        true
                    }
                    Ok(None) | Err(_) => false,
                }
            };
            let drained = async {
                let draining = self.shard.draining();
                match outlived {
                    None => draining.await,
                    Some(outlived) => {
                        race(&mut pin!(draining), &mut pin!(outlived)).await;
                    }
                }
                sleep(QUIET_IN_DRAIN).await;
            };
            let (mut arrived, mut drained) = (pin!(arrived), pin!(drained));
            timeout(idle, race(&mut arrived, &mut drained)).await.ok()
        };
        let reason = match ended {
            Some(First::One(arrived)) => return arrived,
            Some(First::Other(())) => CloseReason::Drain,
            None => CloseReason::IdleTimeout,
        };
        downstream.connection.set_close_reason(reason);
        false
    }

    /// Serves requests until there is none for a while.
    async fn serve_busy(&self, mut downstream: Box<Downstream>) -> After {
        let mut work = Work::default();
        let deadline = Deadline::new();
        let unsent_limit = self.settings.timeouts.stream_idle;
        loop {
            match self.next_request(&mut downstream, &mut work, &deadline).await {
                Next::Request => {}
                Next::Quiet => return After::Quiet(downstream),
                Next::Over => {
                    downstream.flush(unsent_limit).await;
                    return After::Over;
                }
                Next::Refused => {
                    downstream.close(unsent_limit).await;
                    return After::Over;
                }
                Next::Broken => {
                    downstream.connection.reset_on_drop();
                    return After::Over;
                }
            }
            let then = self.serve_request(&mut downstream, &mut work, &deadline).await;
            downstream.count();
            // The next message is a small one until it turns out otherwise.
            downstream.connection.set_bulk(false);
            match then {
                Then::Next { .. } => {}
                Then::Close { .. } => {
                    downstream.close(unsent_limit).await;
                    return After::Over;
                }
                Then::Reset { .. } => {
                    downstream.connection.reset_on_drop();
                    return After::Over;
                }
                Then::Tunnel(Some(upstream)) => return After::Tunnel(downstream, upstream),
                Then::Tunnel(None) => return After::Over,
            }
        }
    }

    /// Waits until the next request has begun; `None` if it has.
    async fn wait_while_busy(
        &self,
        downstream: &mut Downstream,
        deadline: &Deadline,
    ) -> Option<Next> {
        let connection = &mut downstream.connection;
        let (mut from, mut to) = connection.split();
        // Answers that need no upstream must not pile up for a client that takes none.
        deadline.begin(self.settings.timeouts.stream_idle, None);
        let ready = deadline.guard(pin!(to.ready())).await;
        match ready {
            Ok(Ok(())) => {}
            Ok(Err(_)) => {
                connection.set_close_reason(CloseReason::DownstreamReset);
                return Some(Next::Broken);
            }
            Err(_) => {
                connection.set_close_reason(CloseReason::IdleTimeout);
                return Some(Next::Broken);
            }
        }
        let quiet = if self.shard.is_draining() {
            QUIET_IN_DRAIN
        } else {
            let now = deadline.now();
            let end = (now + nanoseconds(QUIET)).next_multiple_of(TOGETHER);
            Duration::from_nanos(end - now)
        };
        let idle = self.settings.timeouts.idle.filter(|idle| *idle <= quiet);
        deadline.begin(idle.or(Some(quiet)), None);
        let received = deadline.guard(pin!(from.receive())).await;
        match received {
            Ok(Ok(Some(chunk))) => {
                from.unreceive(chunk);
                None
            }
            Ok(Ok(None)) => Some(Next::Over),
            Ok(Err(error)) if is_unannounced_end(&error) => Some(Next::Over),
            Ok(Err(_)) => {
                connection.set_close_reason(CloseReason::DownstreamReset);
                Some(Next::Broken)
            }
            Err(_) if self.shard.is_draining() => {
                connection.set_close_reason(CloseReason::Drain);
                Some(Next::Over)
            }
            Err(_) if idle.is_some() => {
                connection.set_close_reason(CloseReason::IdleTimeout);
                Some(Next::Over)
            }
            Err(_) => Some(Next::Quiet),
        }
    }

    /// Reads the head of the next request.
    async fn next_request(
        &self,
        downstream: &mut Downstream,
        work: &mut Work,
        deadline: &Deadline,
    ) -> Next {
        if let Some(next) = self.wait_while_busy(downstream, deadline).await {
            return next;
        }
        let read = {
            let Downstream { connection, incoming, .. } = downstream;
            let (mut from, _) = connection.split();
            deadline.begin(self.settings.timeouts.head, None);
            let head = incoming.head(&mut from, |bytes, limits| work.request.parse(bytes, limits));
            deadline.guard(pin!(head)).await
        };
        let (status, reason) = match read {
            Ok(Ok(true)) => {
                downstream.incoming.begin_body(work.request.body(), work.request.hop_by_hop());
                return Next::Request;
            }
            Ok(Ok(false)) => return Next::Over,
            Ok(Err(HeadFault::Truncated | HeadFault::Stream(_))) => {
                downstream.connection.set_close_reason(CloseReason::DownstreamReset);
                return Next::Over;
            }
            Ok(Err(HeadFault::Refused(error))) => {
                let error: RequestError = error;
                (error.status(), error.reason())
            }
            Err(_) if !downstream.incoming.head_has_begun() => {
                downstream.connection.set_close_reason(CloseReason::IdleTimeout);
                return Next::Over;
            }
            Err(_) => (StatusCode::REQUEST_TIMEOUT, "head_timeout"),
        };
        self.refuse(downstream, deadline, status, reason);
        Next::Refused
    }

    /// Answers what is no request.
    fn refuse(
        &self,
        downstream: &mut Downstream,
        deadline: &Deadline,
        status: StatusCode,
        reason: &'static str,
    ) {
        self.count_reject(reason);
        let exchange = self.exchanges.begin();
        let answer = h1::Answer {
            status,
            reason,
            request_id: "",
            form: AnswerForm::Text,
            persistence: Persistence::Close,
            to_head: false,
        };
        let record = Record::new(deadline.now());
        record.fail(ResponseFlag::DownstreamProtocolError, reason);
        let Downstream { connection, outgoing, .. } = downstream;
        let (_, mut to) = connection.split();
        outgoing.begin(&to, ResponseBody::None, |out| write_answer(&answer, out));
        if outgoing.flush(&mut to).is_ok() {
            record.status.set(status.as_u16());
        }
        connection.set_close_reason(CloseReason::Protocol);
        self.end(exchange, &record, None, downstream, deadline);
    }

    /// Has one request answered, and counts and logs what became of it.
    async fn serve_request(
        &self,
        downstream: &mut Downstream,
        work: &mut Work,
        deadline: &Deadline,
    ) -> Then {
        work.begin();
        let record = Record::new(deadline.now());
        let state = RefCell::new(F::State::default());
        let exchange = self.exchanges.begin();
        let weight = downstream.connection.add_weight(1);
        deadline.begin(self.settings.timeouts.request, self.settings.timeouts.stream_idle);
        let guarded = {
            let exchange = pin!(self.exchange(downstream, work, &record, deadline, &state));
            deadline.guard(exchange).await
        };
        let then = match guarded {
            Ok(then) => then,
            Err(expired) => self.expired(expired, downstream, work, &record),
        };
        drop(weight);
        if let Then::Reset { .. } = then {
            downstream.connection.set_close_reason(match record.flag.get() {
                ResponseFlag::DownstreamConnectionTermination => CloseReason::DownstreamReset,
                ResponseFlag::StreamIdleTimeout => CloseReason::IdleTimeout,
                _ => CloseReason::UpstreamReset,
            });
        }
        self.end(exchange, &record, Some((work, &state)), downstream, deadline);
        then
    }

    fn expired(
        &self,
        expired: Expired,
        downstream: &mut Downstream,
        work: &Work,
        record: &Record,
    ) -> Then {
        let body_is_read = downstream.incoming.body_is_done();
        let failure = match expired {
            Expired::End => Failure::timed_out("response_timeout"),
            Expired::Idle if body_is_read => Failure {
                flag: ResponseFlag::StreamIdleTimeout,
                ..Failure::timed_out("stream_idle_timeout")
            },
            Expired::Idle => Failure::new(
                ResponseFlag::StreamIdleTimeout,
                StatusCode::REQUEST_TIMEOUT,
                "body_timeout",
            ),
        };
        if let Some(cluster) = &*record.cluster.borrow() {
            cluster.count(record.upstream_status.get());
            if let Some(place) = &*record.place.borrow() {
                cluster.report(place, failure.blame);
            }
        }
        // The exchange was dropped in the middle, and with it the upstream connection. The client's
        // is still where its message has been read to.
        self.fail(failure, downstream, work, record)
    }
}
