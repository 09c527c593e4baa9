//! A client's connection, and the requests that come over it one after the other.
//!
//! A busy connection holds its working memory from request to request, and so allocates nothing for
//! one. A quiet one gives it back: then it is a socket and a few hundred bytes.

use std::{
    cell::{OnceCell, RefCell},
    future::poll_fn,
    net::SocketAddr,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::StatusCode;

use super::{
    Settings,
    attempt::{Failure, Replay},
    race::{First, race},
    record::Record,
    reject,
    routes::RoutesOnShard,
    upstream::Upstream,
};
use crate::{
    connection::Connection,
    http::{
        Persistence, RequestHead, ResponseBody, ResponseHead,
        deadline::{Deadline, Expired},
        filter::Filter,
        h1::{self, HeadLimits, RequestError, write_answer},
        wire::{HeadFault, Incoming, Outgoing},
    },
    relay::{self, Meter, Timeouts},
    ring::Nanoseconds,
    runtime::{sleep, timeout},
    service::Service,
    shard::Shard,
    telemetry::{
        CloseReason, ClusterCells, Exchanges, ListenerCells, Outcome, ResponseFlag,
        access_log::{AccessLogOnShard, Entry, Request},
    },
    upstream::outlier,
};

/// How long a connection without a request keeps its working memory.
const QUIET: Duration = Duration::from_secs(1);
/// How long a connection goes on without a request once the proxy drains.
const QUIET_IN_DRAIN: Duration = Duration::from_secs(1);
/// How long the last answer of a connection may take to leave.
const LAST_ANSWER: Duration = Duration::from_secs(30);
/// How long, and for how many bytes, what a client still sends is dropped after the last answer,
/// so that a reset does not take the answer from it.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

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

/// A client's connection.
pub(super) struct Downstream {
    pub(super) connection: Connection,
    pub(super) incoming: Incoming,
    pub(super) outgoing: Outgoing,
    pub(super) opened: Nanoseconds,
    client: Option<SocketAddr>,
}

/// What a busy connection works with.
#[derive(Default)]
pub(super) struct Work {
    pub(super) request: RequestHead,
    pub(super) response: ResponseHead,
    pub(super) replay: Replay,
    pub(super) scratch: String,
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

impl Downstream {
    fn new(connection: Connection, limits: HeadLimits) -> Downstream {
        let opened = connection.now();
        let client = connection.client_address().ok().flatten();
        connection.watch_for_resets(false);
        Downstream {
            connection,
            incoming: Incoming::new(limits),
            outgoing: Outgoing::new(),
            opened,
            client,
        }
    }

    pub(super) fn client(&self) -> Option<SocketAddr> {
        self.client
    }

    /// Drops what is left of a request's body, and says whether that was all of it. It does not
    /// wait for bytes.
    pub(super) fn rest_is_here(&mut self) -> bool {
        let Downstream { connection, incoming, .. } = self;
        let (mut from, _) = connection.split();
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            match incoming.poll_body(&mut from, &mut cx) {
                Poll::Ready(Ok(Some(_))) => {}
                Poll::Ready(Ok(None)) => return true,
                Poll::Ready(Err(_)) | Poll::Pending => return false,
            }
        }
    }

    /// Ends the connection so that the client gets what it was sent.
    async fn close(mut self) {
        let whole = self.rest_is_here();
        // What a client has not taken by then, it does not want.
        if !matches!(timeout(LAST_ANSWER, self.connection.flush()).await, Ok(Ok(()))) {
            return;
        }
        let mut cx = Context::from_waker(Waker::noop());
        if whole && self.connection.poll_receive(&mut cx).is_pending() {
            // Nothing lies unread that would make the close a reset.
            return;
        }
        self.connection.finish();
        let mut dropped = 0;
        let linger = async {
            while let Ok(Some(chunk)) = self.connection.receive().await {
                dropped += chunk.len();
                if dropped > LINGER_BYTES {
                    break;
                }
            }
        };
        let _ = timeout(LINGER, linger).await;
    }
}

impl<F: Filter> Service for ProxyOnShard<F> {
    async fn serve(&self, connection: Connection) {
        self.exchanges.get_or_init(|| {
            let cells =
                self.shard.registry().http_listener(connection.listener(), self.shard.index());
            Exchanges::new(cells, self.log.clone())
        });
        let mut downstream = Box::new(Downstream::new(connection, self.settings.head));
        while let Some(quiet) = Box::pin(self.serve_busy(downstream)).await {
            downstream = quiet;
            if !self.wait_for_request(&mut downstream).await {
                return;
            }
        }
    }
}

impl<F: Filter> ProxyOnShard<F> {
    pub(super) fn exchanges(&self) -> &Exchanges {
        self.exchanges.get_or_init(|| {
            let cells = self.shard.registry().http_listener("", self.shard.index());
            Exchanges::new(cells, None)
        })
    }

    pub(super) fn count_reject(&self, reason: &str) {
        self.exchanges().cells().rejected.increment(reject::label(reason));
    }

    /// Whether a connection carries another request after this one.
    pub(super) fn keeps(&self, request: &RequestHead, age: Duration) -> bool {
        request.keep_alive()
            && !self.shard.is_draining()
            && self.settings.timeouts.max_age.is_none_or(|most| age < most)
    }

    /// Waits for the first bytes of a request on a connection that holds nothing. `false` if it is
    /// over instead.
    async fn wait_for_request(&self, downstream: &mut Downstream) -> bool {
        let ended = {
            let connection = &mut downstream.connection;
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
                self.shard.draining().await;
                sleep(QUIET_IN_DRAIN).await;
            };
            let (mut arrived, mut drained) = (pin!(arrived), pin!(drained));
            let waiting = race(&mut arrived, &mut drained);
            match self.settings.timeouts.idle {
                Some(idle) => timeout(idle, waiting).await.ok(),
                None => Some(waiting.await),
            }
        };
        let reason = match ended {
            Some(First::One(arrived)) => return arrived,
            Some(First::Other(())) => CloseReason::Drain,
            None => CloseReason::IdleTimeout,
        };
        downstream.connection.set_close_reason(reason);
        false
    }

    /// Serves requests until there is none for a while. Gives the connection back then; `None` if it
    /// is over.
    async fn serve_busy(&self, mut downstream: Box<Downstream>) -> Option<Box<Downstream>> {
        let mut work = Work::default();
        let deadline = Deadline::new();
        loop {
            match self.next_request(&mut downstream, &mut work, &deadline).await {
                Next::Request => {}
                Next::Quiet => return Some(downstream),
                Next::Over => return None,
                Next::Close => {
                    downstream.close().await;
                    return None;
                }
            }
            match self.serve_request(&mut downstream, &mut work, &deadline).await {
                Then::Next { .. } => {}
                Then::Close { .. } => {
                    downstream.close().await;
                    return None;
                }
                Then::Reset { .. } => {
                    downstream.connection.reset_on_drop();
                    return None;
                }
                Then::Tunnel(upstream) => {
                    if let Some(upstream) = upstream {
                        self.tunnel(downstream, upstream).await;
                    }
                    return None;
                }
            }
        }
    }

    /// Reads the head of the next request.
    async fn next_request(
        &self,
        downstream: &mut Downstream,
        work: &mut Work,
        deadline: &Deadline,
    ) -> Next {
        let quiet = if self.shard.is_draining() { QUIET_IN_DRAIN } else { QUIET };
        deadline.begin(Some(quiet), None);
        let read = {
            let Downstream { connection, incoming, .. } = downstream;
            let (mut from, _) = connection.split();
            let first = poll_fn(|cx| from.poll_receive(cx));
            match deadline.guard(first).await {
                Err(_) if self.shard.is_draining() => {
                    connection.set_close_reason(CloseReason::Drain);
                    return Next::Close;
                }
                Err(_) => return Next::Quiet,
                Ok(Ok(Some(chunk))) => from.unreceive(chunk),
                Ok(Ok(None)) => return Next::Over,
                Ok(Err(_)) => {
                    connection.set_close_reason(CloseReason::DownstreamReset);
                    return Next::Over;
                }
            }
            deadline.begin(self.settings.timeouts.head, None);
            let head = incoming.head(&mut from, |bytes, limits| work.request.parse(bytes, limits));
            deadline.guard(head).await
        };
        let (status, reason) = match read {
            Ok(Ok(true)) => {
                downstream.incoming.begin_body(work.request.body());
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
            Err(_) => (StatusCode::REQUEST_TIMEOUT, "head_timeout"),
        };
        self.refuse(downstream, deadline, status, reason);
        Next::Close
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
        let exchange = self.exchanges().begin();
        let answer = h1::Answer {
            status,
            reason,
            request_id: "",
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
        let record = Record::new(deadline.now());
        let state = RefCell::new(F::State::default());
        let exchange = self.exchanges().begin();
        let weight = downstream.connection.add_weight(1);
        deadline.begin(self.settings.timeouts.request, self.settings.timeouts.stream_idle);
        let guarded = {
            let exchange = self.exchange(downstream, work, &record, deadline, &state);
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
        self.end(exchange, &record, Some(work), downstream, deadline);
        self.filter_end(&record, &state, deadline);
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
        // The exchange was dropped in the middle: neither connection is of further use.
        match self.fail(failure, downstream, work, record) {
            Then::Reset { blame } => Then::Reset { blame },
            _ => Then::Close { reusable: false },
        }
    }

    fn filter_end(&self, record: &Record, state: &RefCell<F::State>, deadline: &Deadline) {
        let cluster = record.cluster.borrow();
        let route = record.route.borrow();
        let outcome =
            outcome_of(record, cluster.as_deref().map(|c| &*c.name), route.as_deref(), deadline);
        self.filter.end(&outcome, &mut state.borrow_mut());
    }

    fn end(
        &self,
        exchange: crate::telemetry::Exchange<'_>,
        record: &Record,
        work: Option<&Work>,
        downstream: &Downstream,
        deadline: &Deadline,
    ) {
        let cluster = record.cluster.borrow();
        let route = record.route.borrow();
        let failure = record.transport_failure.borrow();
        let mut outcome =
            outcome_of(record, cluster.as_deref().map(|c| &*c.name), route.as_deref(), deadline);
        outcome.transport_failure = failure.as_deref();
        let mut entry = Entry::new(&outcome);
        if !self.exchanges().is_logged() {
            return exchange.end(&entry);
        }
        let connection = &downstream.connection;
        entry.downstream_remote = downstream.client();
        entry.downstream_local = connection.server_address().ok().flatten();
        let original_path = record.original_path.borrow();
        if let Some(work) = work {
            let request = &work.request;
            entry.request = Some(Request {
                method: request.method().as_str(),
                path: request.path_and_query().as_bytes(),
                original_path: original_path.as_deref().map(str::as_bytes),
                authority: request.authority().as_bytes(),
                protocol: if request.version() == http::Version::HTTP_10 {
                    "HTTP/1.0"
                } else {
                    "HTTP/1.1"
                },
                fields: request.headers(),
            });
            entry.response = Some(work.response.headers());
        }
        exchange.end(&entry);
    }

    /// Relays bytes after both sides have changed the protocol.
    async fn tunnel(&self, mut downstream: Box<Downstream>, mut upstream: Box<Upstream>) {
        struct Counts {
            listener: std::sync::Arc<ListenerCells>,
            cluster: std::sync::Arc<ClusterCells>,
        }
        impl Meter for Counts {
            fn received(&self, bytes: usize) {
                self.listener.received_bytes.add(bytes as u64);
                self.cluster.sent_bytes.add(bytes as u64);
            }
            fn sent(&self, bytes: usize) {
                self.listener.sent_bytes.add(bytes as u64);
                self.cluster.received_bytes.add(bytes as u64);
            }
        }
        let counts = Counts {
            listener: downstream.connection.counts(),
            cluster: std::sync::Arc::clone(&upstream.connected.cells),
        };
        downstream.connection.watch_for_resets(true);
        upstream.connected.stream.watch_for_resets(true);
        let timeouts = Timeouts::default();
        let ended = relay::pipe(
            &mut downstream.connection,
            &mut upstream.connected.stream,
            &timeouts,
            &counts,
        )
        .await;
        downstream.connection.set_close_reason(ended.why.into());
    }
}

/// What came instead of, or as, the next request.
enum Next {
    Request,
    /// Nothing, for a while.
    Quiet,
    /// The end of the connection.
    Over,
    /// A last answer, or none, and the connection is to be closed in order.
    Close,
}

fn outcome_of<'r>(
    record: &Record,
    cluster: Option<&'r str>,
    route: Option<&'r str>,
    deadline: &Deadline,
) -> Outcome<'r> {
    let mut outcome = Outcome::new(record.started);
    outcome.duration = Duration::from_nanos(deadline.now().saturating_sub(record.began));
    outcome.upstream_time = record.upstream_time.get();
    outcome.received = record.received.get();
    outcome.sent = record.sent.get();
    outcome.status = record.status.get();
    outcome.flag = record.flag.get();
    outcome.details = Some(record.details.get());
    outcome.termination = record.termination.get();
    outcome.upstream = record.upstream.get();
    outcome.upstream_local = record.upstream_local.get();
    outcome.cluster = cluster;
    outcome.route = route;
    outcome
}
