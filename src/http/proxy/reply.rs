//! Answers to clients that this proxy or a filter gives.

use std::time::Duration;

use super::{
    downstream::{Downstream, Work},
    failure::Failure,
    record::Record,
    service::{Serving, Then},
};
use crate::{
    http::{
        Answer, Persistence, RequestHead, ResponseBody,
        filter::Filter,
        h1::{self, AnswerForm, write_answer},
        wire::Outgoing,
    },
    net::Sending,
    telemetry::ResponseFlag,
};

impl<F: Filter> Serving<'_, F> {
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
        let keeps = body_is_read && self.keeps(request, Duration::ZERO, to);
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
        let Downstream { connection, outgoing, .. } = downstream;
        let (_, mut to) = connection.split();
        let request = &work.request;
        let keeps = body_is_read
            && failure.flag != ResponseFlag::DownstreamProtocolError
            && self.keeps(request, Duration::ZERO, &to);
        let answer = h1::Answer {
            status: failure.status,
            reason: failure.details,
            request_id: request.headers().get_str("x-request-id").unwrap_or_default(),
            form: AnswerForm::wanted_by(request.headers()),
            persistence: Persistence::towards(request.version(), keeps),
            to_head: request.method() == http::Method::HEAD,
        };
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
