//! What became of an exchange: told to the filter, the metrics and the access log.

use std::{cell::RefCell, time::Duration};

use super::{
    downstream::{Downstream, Work, noted},
    record::Record,
    service::Serving,
    upstream::Place,
};
use crate::{
    http::{RequestHead, deadline::Deadline, filter::Filter},
    telemetry::{
        Exchange, Outcome,
        access_log::{Entry, Fields, Request},
    },
};

impl<F: Filter> Serving<'_, F> {
    /// Tells what became of an exchange; of one with a request also the filter, which has a state
    /// for it.
    pub(super) fn end(
        &self,
        exchange: Exchange<'_>,
        record: &Record,
        request: Option<(&Work, &RefCell<F::State>)>,
        downstream: &Downstream,
        deadline: &Deadline,
    ) {
        let cluster = record.cluster.borrow();
        let cluster = cluster.as_deref().map(|cluster| &*cluster.name);
        let failure = record.transport_failure.borrow();
        let route = request.and_then(|(work, _)| noted(&work.route));
        let mut outcome = outcome_of(record, cluster, route, deadline);
        outcome.transport_failure = failure.as_deref();
        let downstream_tls = match self.exchanges.is_logged() {
            true => downstream.connection.tls_session(),
            false => None,
        };
        let upstream_tls = record.upstream_tls.borrow();
        let mut entry = Entry::new(&outcome);
        if self.exchanges.is_logged() {
            entry.downstream_remote = downstream.client();
            entry.downstream_local = downstream.server();
            entry.downstream_tls = downstream_tls.as_deref();
            entry.upstream_tls = upstream_tls.as_deref();
            entry.request = request.map(|(work, _)| Request {
                original_path: noted(&work.original_path).map(str::as_bytes),
                ..logged(&work.request)
            });
            entry.response = request.map(|(work, _)| work.response.headers() as &dyn Fields);
        }
        exchange.end(&entry);
        if let Some((_, state)) = request {
            self.filter.end(&outcome, &mut state.borrow_mut());
        }
    }
}

/// A request as the log has it.
fn logged(request: &RequestHead) -> Request<'_> {
    Request {
        method: request.method().as_str(),
        // The target of a CONNECT is an authority.
        path: match request.path_and_query() {
            "" => request.authority().as_bytes(),
            path => path.as_bytes(),
        },
        original_path: None,
        authority: request.authority().as_bytes(),
        protocol: match request.version() {
            http::Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        },
        fields: request.headers(),
    }
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
    outcome.upstream = record.place.borrow().as_ref().map(Place::address);
    outcome.upstream_local = record.upstream_local.get();
    outcome.cluster = cluster;
    outcome.route = route;
    outcome
}
