//! One attempt to have a request answered by one upstream connection.
//!
//! Both directions go on at once: the request's body upstream, and the answer downstream, which may
//! begin before the body has ended. What of an answer has been sent to the client cannot be taken
//! back; up to that point an attempt can fail, and leaves it to its caller whether there is another.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    pin::pin,
    time::Duration,
};

use http::{Method, StatusCode, Version};

use super::{
    Downstream, Then, Work,
    race::{First, race},
    record::Record,
    service::ProxyOnShard,
    upstream::Upstream,
};
use crate::{
    http::{
        Persistence, RequestHead, ResponseBody, ResponseHead,
        deadline::Deadline,
        filter::{Filter, Flow},
        h1::ResponseError,
        route::Route,
        wire::{BodyFault, Broken, HeadFault, Incoming, Outgoing, forward},
    },
    net::{Receiving, Sending},
    telemetry::ResponseFlag,
    upstream::outlier,
};

/// Interim answers that an upstream may send before the final one.
const INTERIM_MAX: u32 = 16;

/// What an exchange consists of, for one attempt.
pub(super) struct Exchange<'e, F: Filter> {
    pub(super) proxy: &'e ProxyOnShard<F>,
    pub(super) record: &'e Record,
    pub(super) deadline: &'e Deadline,
    pub(super) state: &'e RefCell<F::State>,
    pub(super) route: Option<&'e Route>,
}

/// How an attempt ended.
pub(super) enum Attempt {
    /// The client has its answer, or cannot get one any more.
    Done(Then),
    /// The upstream gave none, and the client has nothing of it.
    Failed(Failure),
}

/// Why an attempt failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) flag: ResponseFlag,
    pub(super) status: StatusCode,
    pub(super) details: &'static str,
    /// Whose fault it is, as far as it is the endpoint's.
    pub(super) blame: Option<outlier::Outcome>,
    pub(super) kind: Kind,
    /// In words, for the log.
    pub(super) text: Option<String>,
}

/// What kind of failure it was, for whoever decides whether there is another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// No connection: nothing of the request was sent.
    NoConnection,
    /// The connection ended before the answer began.
    Ended,
    /// An answer came whose status says that another attempt may help.
    Status(StatusCode),
    /// It took too long.
    TimedOut,
    /// Trying again is of no use.
    Final,
}

impl Failure {
    pub(super) fn new(flag: ResponseFlag, status: StatusCode, details: &'static str) -> Failure {
        Failure { flag, status, details, blame: None, kind: Kind::Final, text: None }
    }

    fn ended(text: Option<String>) -> Failure {
        Failure {
            blame: Some(outlier::Outcome::Reset),
            kind: Kind::Ended,
            text,
            ..Failure::new(
                ResponseFlag::UpstreamConnectionTermination,
                StatusCode::SERVICE_UNAVAILABLE,
                "upstream_reset_before_response_started",
            )
        }
    }

    fn protocol(details: &'static str) -> Failure {
        Failure {
            blame: Some(outlier::Outcome::Reset),
            ..Failure::new(ResponseFlag::UpstreamProtocolError, StatusCode::BAD_GATEWAY, details)
        }
    }

    pub(super) fn timed_out(details: &'static str) -> Failure {
        Failure {
            blame: Some(outlier::Outcome::TimedOut),
            kind: Kind::TimedOut,
            ..Failure::new(
                ResponseFlag::UpstreamRequestTimeout,
                StatusCode::GATEWAY_TIMEOUT,
                details,
            )
        }
    }
}

/// Why the request's direction came to an end before the answer's.
enum RequestEnd {
    /// The client has closed its connection.
    Gone,
    /// Its body is not valid, or was cut off.
    Refused(&'static str, StatusCode),
    /// It is longer than it may be.
    TooLarge,
    /// The upstream takes no more of it; it may have answered all the same.
    NotTaken,
}

/// The body of a request as far as it was sent, to be sent again.
#[derive(Default)]
pub(super) struct Replay {
    kept: Vec<u8>,
    keeps: bool,
    lost: bool,
}

impl Replay {
    /// So much is kept; a longer body is sent once.
    const MOST: usize = 16 << 10;

    /// A request begins, whose body is to be kept if `keeps`.
    pub(super) fn begin(&mut self, keeps: bool) {
        self.kept.clear();
        self.keeps = keeps;
        self.lost = false;
    }

    /// Whether all that was taken from the client can be sent again.
    pub(super) fn is_complete(&self) -> bool {
        !self.lost
    }

    fn see(&mut self, bytes: &[u8]) {
        if self.keeps && self.kept.len() + bytes.len() <= Self::MOST {
            self.kept.extend_from_slice(bytes);
        } else {
            self.keeps = false;
            self.lost = true;
        }
    }
}

impl<F: Filter> Exchange<'_, F> {
    /// Sends the request over `upstream`, and its answer to the client. `may_retry` says whether an
    /// answer with this status is to be thrown away for another attempt.
    pub(super) async fn attempt(
        &self,
        downstream: &mut Downstream,
        work: &mut Work,
        upstream: &mut Upstream,
        try_limit: Option<Duration>,
        may_retry: impl Fn(StatusCode) -> bool,
    ) -> Attempt {
        let Downstream { connection, incoming, outgoing, opened, .. } = downstream;
        let Work { request, response, replay, .. } = work;
        let (request, record) = (&*request, self.record);
        let (mut from_client, mut to_client) = connection.split();
        let (mut from_upstream, mut to_upstream) = upstream.connected.stream.split();
        record.upstream_asked.set(self.deadline.now());
        let length = request.body();
        let upgrades = request.upgrade().is_some();
        let persistence = if upgrades { Persistence::Upgrade } else { Persistence::Implied };
        upstream.outgoing.begin(&to_upstream, length, |out| {
            request.encode(length, persistence, out);
        });
        upstream.outgoing.again(&to_upstream, &replay.kept);

        let body_is_sent = Cell::new(false);
        let mut sending = pin!(self.send_body(
            (incoming, &mut from_client),
            (&mut upstream.outgoing, &mut to_upstream),
            replay,
            &body_is_sent,
        ));
        let mut sending_ended = None;

        {
            let heads = self.read_head(
                (&mut upstream.incoming, &mut from_upstream),
                (outgoing, &mut to_client),
                request,
                response,
            );
            let mut heads = pin!(within(try_limit, heads));
            let read = match race(&mut sending, &mut heads).await {
                First::Other(read) => read,
                First::One(Err(RequestEnd::NotTaken)) => {
                    sending_ended = Some(RequestEnd::NotTaken);
                    heads.await
                }
                First::One(Err(end)) => return self.request_ended(end),
                First::One(Ok(never)) => match never {},
            };
            if let Err(failure) = read {
                return Attempt::Failed(failure);
            }
        }
        record.upstream_time.set(Some(Duration::from_nanos(
            self.deadline.now().saturating_sub(record.upstream_asked.get()),
        )));

        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            if !upgrades || response.upgrade().is_none() {
                return Attempt::Failed(Failure::protocol("upgrade_not_asked_for"));
            }
            outgoing.begin(&to_client, ResponseBody::None, |out| {
                response.encode(ResponseBody::None, Persistence::Upgrade, out);
            });
            record.status.set(response.status().as_u16());
            return match outgoing.flush(&mut to_client) {
                Ok(()) => Attempt::Done(Then::Tunnel(None)),
                Err(_) => self.request_ended(RequestEnd::Gone),
            };
        }
        if may_retry(response.status()) {
            return Attempt::Failed(Failure {
                blame: Some(outlier::Outcome::Answered(response.status().as_u16())),
                kind: Kind::Status(response.status()),
                ..Failure::new(ResponseFlag::None, response.status(), "via_upstream")
            });
        }

        let length = response.body(request.method());
        upstream.incoming.begin_body(length);
        if let Some(route) = self.route {
            apply(&route.response_headers, response.headers_mut());
        }
        if let Flow::Answer(answer) = self.filter_response(response).await {
            return Attempt::Done(self.proxy.answer_with(
                &answer,
                request,
                record,
                (outgoing, &mut to_client),
                body_is_sent.get(),
            ));
        }
        let age = Duration::from_nanos(self.deadline.now().saturating_sub(*opened));
        let keeps = body_is_sent.get() && self.proxy.keeps(request, age);
        let towards_client = match (length, request.version()) {
            (ResponseBody::UntilClose, Version::HTTP_11) => ResponseBody::Chunked,
            (ResponseBody::Chunked, Version::HTTP_10) => ResponseBody::UntilClose,
            (length, _) => length,
        };
        let keeps = keeps && towards_client != ResponseBody::UntilClose;
        let persistence = Persistence::towards(request.version(), keeps);
        outgoing.begin(&to_client, towards_client, |out| {
            response.encode(towards_client, persistence, out);
        });
        record.status.set(response.status().as_u16());

        let streamed = {
            let sees = self.proxy.filter.wants_response_body(&self.state.borrow());
            let streaming = forward(
                (&mut upstream.incoming, &mut from_upstream),
                (outgoing, &mut to_client),
                |bytes| {
                    self.deadline.moved();
                    record.sent.set(record.sent.get() + bytes.len() as u64);
                    if sees {
                        self.proxy.filter.response_body(bytes, &mut self.state.borrow_mut());
                    }
                    Ok(())
                },
            );
            let mut streaming = pin!(streaming);
            if sending_ended.is_some() {
                streaming.await
            } else {
                match race(&mut streaming, &mut sending).await {
                    First::One(streamed) => streamed,
                    // Whether the client still reads is found out by writing to it.
                    First::Other(_) => streaming.await,
                }
            }
        };
        match streamed {
            Ok(()) => {}
            Err(Broken::To) => return self.request_ended(RequestEnd::Gone),
            Err(Broken::From(fault)) => {
                record.flag.set(match fault {
                    BodyFault::Refused(crate::http::h1::BodyError::Truncated)
                    | BodyFault::Stream => ResponseFlag::UpstreamConnectionTermination,
                    BodyFault::Refused(_) => ResponseFlag::UpstreamProtocolError,
                });
                record.termination.set(Some("upstream_reset_after_response_started"));
                return Attempt::Done(Then::Reset { blame: Some(outlier::Outcome::Reset) });
            }
        }
        let reusable = body_is_sent.get()
            && response.keep_alive()
            && response.version() == Version::HTTP_11
            && length != ResponseBody::UntilClose;
        Attempt::Done(if !body_is_sent.get() || !keeps {
            Then::Close { reusable }
        } else {
            Then::Next { reusable }
        })
    }

    /// Sends the body of the request, and then looks out for the client's going away. It ends only
    /// where the exchange cannot go on as it should.
    async fn send_body(
        &self,
        (incoming, from): (&mut Incoming, &mut Receiving<'_>),
        (outgoing, to): (&mut Outgoing, &mut Sending<'_>),
        replay: &mut Replay,
        is_sent: &Cell<bool>,
    ) -> Result<Infallible, RequestEnd> {
        let limit = self.proxy.settings.max_body;
        let sees = self.proxy.filter.wants_request_body(&self.state.borrow());
        let too_large = Cell::new(false);
        let sent = forward((incoming, from), (outgoing, to), |bytes| {
            self.deadline.moved();
            let received = self.record.received.get() + bytes.len() as u64;
            self.record.received.set(received);
            if limit.is_some_and(|limit| received > limit) {
                too_large.set(true);
                return Err(Broken::To);
            }
            replay.see(bytes);
            if sees {
                self.proxy.filter.request_body(bytes, &mut self.state.borrow_mut());
            }
            Ok(())
        })
        .await;
        match sent {
            Ok(()) => is_sent.set(true),
            Err(Broken::To) if too_large.get() => return Err(RequestEnd::TooLarge),
            Err(Broken::To) => return Err(RequestEnd::NotTaken),
            Err(Broken::From(BodyFault::Refused(crate::http::h1::BodyError::Truncated))) => {
                return Err(RequestEnd::Gone);
            }
            Err(Broken::From(BodyFault::Refused(error))) => {
                return Err(RequestEnd::Refused(error.reason(), error.status()));
            }
            Err(Broken::From(BodyFault::Stream)) => return Err(RequestEnd::Gone),
        }
        match from.receive().await {
            // The next request, which is read when this one is answered.
            Ok(Some(chunk)) => {
                from.unreceive(chunk);
                std::future::pending().await
            }
            Ok(None) | Err(_) => Err(RequestEnd::Gone),
        }
    }

    /// Reads the head of the final answer, or of the one that changes the protocol, and passes on
    /// those before it.
    async fn read_head(
        &self,
        (incoming, from): (&mut Incoming, &mut Receiving<'_>),
        (outgoing, to): (&mut Outgoing, &mut Sending<'_>),
        request: &RequestHead,
        response: &mut ResponseHead,
    ) -> Result<(), Failure> {
        let mut interim = 0;
        loop {
            let read = incoming.head(from, |bytes, limits| response.parse(bytes, limits)).await;
            match read {
                Ok(true) => {}
                Ok(false) | Err(HeadFault::Truncated) => return Err(Failure::ended(None)),
                Err(HeadFault::Stream(error)) => {
                    return Err(Failure::ended(Some(error.to_string())));
                }
                Err(HeadFault::Refused(error)) => {
                    let error: ResponseError = error;
                    return Err(Failure::protocol(error.reason()));
                }
            }
            self.deadline.moved();
            let status = response.status();
            if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(());
            }
            interim += 1;
            if interim > INTERIM_MAX {
                return Err(Failure::protocol("too_many_interim_answers"));
            }
            let wanted = request.version() == Version::HTTP_11
                && (status != StatusCode::CONTINUE || request.expects_continue());
            if wanted {
                outgoing.begin(to, ResponseBody::None, |out| {
                    response.encode(ResponseBody::None, Persistence::Implied, out);
                });
                // Where it fails, the final answer's failure tells.
                let _ = outgoing.flush(to);
            }
        }
    }

    async fn filter_response(&self, response: &mut ResponseHead) -> Flow {
        // The request's direction is not looked at meanwhile, so nobody else has the state.
        let mut state = self.state.take();
        let flow = self.proxy.filter.response(response, &mut state).await;
        self.state.replace(state);
        flow
    }

    fn request_ended(&self, end: RequestEnd) -> Attempt {
        let failure = match end {
            RequestEnd::Gone | RequestEnd::NotTaken => {
                self.record.fail(
                    ResponseFlag::DownstreamConnectionTermination,
                    "downstream_remote_disconnect",
                );
                return Attempt::Done(Then::Reset { blame: None });
            }
            RequestEnd::Refused(reason, status) => {
                Failure::new(ResponseFlag::DownstreamProtocolError, status, reason)
            }
            RequestEnd::TooLarge => Failure::new(
                ResponseFlag::DownstreamProtocolError,
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
            ),
        };
        Attempt::Failed(failure)
    }
}

/// Whether RFC 9110 section 9.2.2 calls a method idempotent.
pub(super) fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE]
        .contains(method)
}

pub(super) fn apply(
    changes: &crate::http::route::HeaderChanges,
    headers: &mut crate::http::Headers,
) {
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

async fn within<T>(
    limit: Option<Duration>,
    future: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match limit {
        None => future.await,
        Some(limit) => match crate::runtime::timeout(limit, future).await {
            Ok(result) => result,
            Err(_) => Err(Failure::timed_out("upstream_per_try_timeout")),
        },
    }
}
