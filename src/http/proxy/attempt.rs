//! One attempt to have a request answered by one upstream connection.
//!
//! Both directions go on at once: the request's body upstream, and the answer downstream, which may
//! begin before the body has ended. What of an answer has been sent to the client cannot be taken
//! back; up to that point an attempt can fail, and leaves it to its caller whether there is another.

use std::{
    cell::Cell,
    convert::Infallible,
    future::pending,
    io,
    pin::{Pin, pin},
    time::Duration,
};

use http::{StatusCode, Version};

use super::{
    downstream::{Downstream, Work},
    exchange::{Exchange, Lent, apply},
    failure::Failure,
    race::{First, race},
    replay::Replay,
    service::Then,
    upstream::Upstream,
};
use crate::{
    http::{
        Answer, Persistence, RequestHead, ResponseBody, ResponseHead,
        filter::{Filter, Flow},
        h1::{BodyError, ResponseError},
        wire::{BodyFault, Broken, HeadFault, Incoming, Outgoing, forward},
    },
    net::{self, Receiving},
    ring::Nanoseconds,
    runtime::timeout,
    telemetry::ResponseFlag,
    upstream::outlier,
};

/// Interim answers that an upstream may send before the final one.
const INTERIM_MAX: u32 = 16;

/// How an attempt ended.
pub(super) enum Attempt {
    /// The client has its answer, or cannot get one any more.
    Done(Then),
    /// The upstream gave none, and the client has nothing of it.
    Failed(Failure),
}

/// Why the request's direction came to an end before the answer's.
enum RequestEnd {
    /// The client has closed its connection, or its direction of it: which of them cannot be told,
    /// and most often nobody waits for the answer any more.
    Gone,
    /// Its body is not valid, or was cut off.
    Refused(&'static str, StatusCode),
    /// It is longer than it may be.
    TooLarge,
    /// The upstream takes no more of it; it may have answered all the same.
    NotTaken,
}

/// Whether the request's direction is still to be looked at once the answer has begun.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sending {
    GoesOn,
    HasEnded,
}

/// Whether the peer has given up a connection by an alert of TLS.
fn is_alert(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionAborted && error.raw_os_error().is_none()
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
        let (request, replay, record) = (&*request, &*replay, self.record);
        let reused = upstream.reused;
        let (mut from_client, mut to_client) = connection.split();
        let (mut from_upstream, mut to_upstream) = upstream.connected.stream.split();
        self.begin_request(request, replay, (&mut upstream.outgoing, &to_upstream));
        let is_sent = Cell::new(false);
        let client = (incoming, &mut from_client);
        let mut sending = pin!(self.send_body(
            client,
            (&mut upstream.outgoing, &mut to_upstream),
            replay,
            &is_sent,
        ));
        let origin = (&mut upstream.incoming, &mut from_upstream);
        let read = {
            let answer = (&mut *outgoing, &mut to_client);
            let heads =
                pin!(within(try_limit, self.read_head(origin, answer, request, response, reused)));
            self.await_head(&mut sending, heads).await
        };
        let goes_on = match read {
            Ok(goes_on) => goes_on,
            Err(ended) => return ended,
        };
        record.upstream_time.set(Some(self.since(record.upstream_asked.get())));
        let status = response.status();
        record.upstream_status.set(status.as_u16());
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(request, response, (outgoing, &mut to_client));
        }
        if replay.is_complete() && may_retry(status) {
            return Attempt::Failed(Failure::to_be_retried(status));
        }

        let length = response.body(request.method());
        upstream.incoming.begin_body(length, response.hop_by_hop());
        if let Some(route) = self.route {
            apply(&route.response_headers, response.headers_mut());
        }
        if let Some(answer) = self.filter_response(response).await {
            let to = (outgoing, &mut to_client);
            let then = self.proxy.answer_with(&answer, request, record, to, is_sent.get());
            return Attempt::Done(then);
        }
        // An answer that comes before the request's body is the last: whatever of the body is still
        // to come must not be taken for a request.
        let keeps = is_sent.get() && self.proxy.keeps(request, self.since(*opened), &to_client);
        let to = (&mut *outgoing, &to_client);
        let keeps = self.begin_answer(request, response, length, keeps, to);
        let origin = (&mut upstream.incoming, &mut from_upstream);
        let streaming = pin!(self.stream_answer(origin, (outgoing, &mut to_client)));
        if let Err(ended) = self.await_answer(&mut sending, streaming, goes_on).await {
            return ended;
        }
        let reusable = is_sent.get()
            && response.keep_alive()
            && response.version() == Version::HTTP_11
            && length != ResponseBody::UntilClose;
        Attempt::Done(if keeps { Then::Next { reusable } } else { Then::Close { reusable } })
    }

    /// Writes the head of the request, and what of its body was sent before.
    fn begin_request(
        &self,
        request: &RequestHead,
        replay: &Replay,
        (outgoing, to): (&mut Outgoing, &net::Sending<'_>),
    ) {
        self.record.upstream_asked.set(self.deadline.now());
        let persistence = match request.upgrade() {
            Some(_) => Persistence::Upgrade,
            None => Persistence::Implied,
        };
        outgoing.begin(to, request.body(), |out| {
            request.encode(request.body(), persistence, out);
        });
        outgoing.copy(to, &replay.kept());
    }

    /// Writes the head of the answer, framed as the client understands it. Says whether the client's
    /// connection is kept, if it is to be.
    fn begin_answer(
        &self,
        request: &RequestHead,
        response: &ResponseHead,
        length: ResponseBody,
        keeps: bool,
        (outgoing, to): (&mut Outgoing, &net::Sending<'_>),
    ) -> bool {
        let length = match (length, request.version()) {
            (ResponseBody::UntilClose, Version::HTTP_11) => ResponseBody::Chunked,
            (ResponseBody::Chunked, Version::HTTP_10) => ResponseBody::UntilClose,
            (length, _) => length,
        };
        let keeps = keeps && length != ResponseBody::UntilClose;
        let persistence = Persistence::towards(request.version(), keeps);
        outgoing.begin(to, length, |out| response.encode(length, persistence, out));
        self.record.status.set(response.status().as_u16());
        keeps
    }

    fn since(&self, then: Nanoseconds) -> Duration {
        Duration::from_nanos(self.deadline.now().saturating_sub(then))
    }

    /// Waits for the head of the answer while the request's body is sent.
    async fn await_head(
        &self,
        sending: &mut Pin<&mut impl Future<Output = Result<Infallible, RequestEnd>>>,
        mut heads: Pin<&mut impl Future<Output = Result<(), Failure>>>,
    ) -> Result<Sending, Attempt> {
        match race(sending, &mut heads).await {
            First::Other(read) => read.map(|()| Sending::GoesOn).map_err(Attempt::Failed),
            // It may have answered before it closed that direction.
            First::One(Err(RequestEnd::NotTaken)) => {
                heads.await.map(|()| Sending::HasEnded).map_err(Attempt::Failed)
            }
            First::One(Err(end)) => Err(self.request_ended(end)),
            First::One(Ok(never)) => match never {},
        }
    }

    /// Waits for the end of the answer while what is left of the request's body is sent.
    async fn await_answer(
        &self,
        sending: &mut Pin<&mut impl Future<Output = Result<Infallible, RequestEnd>>>,
        mut streaming: Pin<&mut impl Future<Output = Result<(), Broken>>>,
        goes_on: Sending,
    ) -> Result<(), Attempt> {
        let streamed = if goes_on == Sending::HasEnded {
            streaming.await
        } else {
            match race(&mut streaming, sending).await {
                First::One(streamed) => streamed,
                First::Other(Err(RequestEnd::Gone)) => Err(Broken::To),
                // The answer stands, whatever is wrong with the body that it did not wait for.
                First::Other(_) => streaming.await,
            }
        };
        let fault = match streamed {
            Ok(()) => return Ok(()),
            Err(Broken::To) => return Err(self.request_ended(RequestEnd::Gone)),
            Err(Broken::From(fault)) => fault,
        };
        self.record.flag.set(match fault {
            BodyFault::Refused(BodyError::Truncated) | BodyFault::Stream => {
                ResponseFlag::UpstreamConnectionTermination
            }
            BodyFault::Refused(_) => ResponseFlag::UpstreamProtocolError,
        });
        self.record.termination.set(Some("upstream_reset_after_response_started"));
        Err(Attempt::Done(Then::Reset { blame: Some(outlier::Outcome::Reset) }))
    }

    /// Passes on a 101, if it is one that the client asked for.
    fn switch(
        &self,
        request: &RequestHead,
        response: &ResponseHead,
        (outgoing, to): (&mut Outgoing, &mut net::Sending<'_>),
    ) -> Attempt {
        let asked_for = match (request.upgrade(), response.upgrade()) {
            (Some(asked), Some(given)) => asked.eq_ignore_ascii_case(given),
            _ => false,
        };
        if !asked_for {
            return Attempt::Failed(Failure::protocol("upgrade_not_asked_for"));
        }
        outgoing.begin(to, ResponseBody::None, |out| {
            response.encode(ResponseBody::None, Persistence::Upgrade, out);
        });
        self.record.status.set(response.status().as_u16());
        match outgoing.flush(to) {
            Ok(()) => Attempt::Done(Then::Tunnel(None)),
            Err(_) => self.request_ended(RequestEnd::Gone),
        }
    }

    /// Sends the body of the answer, behind its head.
    async fn stream_answer(
        &self,
        from: (&mut Incoming, &mut Receiving<'_>),
        to: (&mut Outgoing, &mut net::Sending<'_>),
    ) -> Result<(), Broken> {
        let sees = self.proxy.filter.wants_response_body(&self.state.borrow());
        forward(from, to, |bytes| {
            self.deadline.moved();
            self.record.sent.set(self.record.sent.get() + bytes.len() as u64);
            if sees {
                self.proxy.filter.response_body(bytes, &mut self.state.borrow_mut());
            }
            Ok(())
        })
        .await
    }

    /// Sends the body of the request, and then looks out for the client's going away. It ends only
    /// where the exchange cannot go on as it should.
    async fn send_body(
        &self,
        (incoming, from): (&mut Incoming, &mut Receiving<'_>),
        (outgoing, to): (&mut Outgoing, &mut net::Sending<'_>),
        replay: &Replay,
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
            Err(Broken::From(BodyFault::Refused(BodyError::Truncated))) => {
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
                pending().await
            }
            Ok(None) | Err(_) => Err(RequestEnd::Gone),
        }
    }

    /// Reads the head of the final answer, or of the one that changes the protocol, and passes on
    /// those before it.
    async fn read_head(
        &self,
        (incoming, from): (&mut Incoming, &mut Receiving<'_>),
        (outgoing, to): (&mut Outgoing, &mut net::Sending<'_>),
        request: &RequestHead,
        response: &mut ResponseHead,
        reused: bool,
    ) -> Result<(), Failure> {
        let mut interim = 0;
        loop {
            let read = incoming.head(from, |bytes, limits| response.parse(bytes, limits)).await;
            match read {
                Ok(true) => {}
                Ok(false) | Err(HeadFault::Truncated) => return Err(Failure::ended(None)),
                // Whether a server takes our certificate it says behind its handshake (RFC 8446
                // section 4.4.2.4).
                Err(HeadFault::Stream(error)) if is_alert(&error) && !reused => {
                    return Err(Failure::refused(error.to_string()));
                }
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

    /// Shows the head of the answer to the filter, which may answer in its place. The request's
    /// direction waits meanwhile, so nobody else wants the state.
    pub(super) async fn filter_response(&self, response: &mut ResponseHead) -> Option<Answer> {
        let mut state = Lent::from(self.state);
        match self.proxy.filter.response(response, &mut state).await {
            Flow::Answer(answer) => Some(answer),
            Flow::Continue | Flow::Cluster(_) => None,
        }
    }

    /// The client is gone, so that nobody waits for an answer.
    pub(super) fn client_gone(&self) -> Attempt {
        let flag = ResponseFlag::DownstreamConnectionTermination;
        self.record.fail(flag, "downstream_remote_disconnect");
        Attempt::Done(Then::Reset { blame: None })
    }

    fn request_ended(&self, end: RequestEnd) -> Attempt {
        let failure = match end {
            RequestEnd::Gone | RequestEnd::NotTaken => return self.client_gone(),
            RequestEnd::Refused(reason, status) => {
                Failure::new(ResponseFlag::DownstreamProtocolError, status, reason)
            }
            RequestEnd::TooLarge => Failure::body_too_large(),
        };
        Attempt::Failed(failure)
    }
}

async fn within<T>(
    limit: Option<Duration>,
    future: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match timeout(limit, future).await {
        Ok(result) => result,
        Err(_) => Err(Failure::timed_out("upstream_per_try_timeout")),
    }
}
