//! What became of an exchange: told to the filter, the metrics and the access log.

use std::{cell::RefCell, time::Duration};

use super::{
    downstream::{Downstream, Work, noted},
    record::Record,
    service::ProxyOnShard,
    upstream::Place,
};
use crate::{
    http::{deadline::Deadline, filter::Filter},
    telemetry::{
        Exchange, Outcome,
        access_log::{Entry, Request},
    },
};

impl<F: Filter> ProxyOnShard<F> {
    pub(super) fn filter_end(
        &self,
        record: &Record,
        work: &Work,
        state: &RefCell<F::State>,
        deadline: &Deadline,
    ) {
        let cluster = record.cluster.borrow();
        let cluster = cluster.as_deref().map(|cluster| &*cluster.name);
        let outcome = outcome_of(record, cluster, noted(&work.route), deadline);
        self.filter.end(&outcome, &mut state.borrow_mut());
    }

    pub(super) fn end(
        &self,
        exchange: Exchange<'_>,
        record: &Record,
        work: Option<&Work>,
        downstream: &Downstream,
        deadline: &Deadline,
    ) {
        let cluster = record.cluster.borrow();
        let cluster = cluster.as_deref().map(|cluster| &*cluster.name);
        let failure = record.transport_failure.borrow();
        let route = work.and_then(|work| noted(&work.route));
        let mut outcome = outcome_of(record, cluster, route, deadline);
        outcome.transport_failure = failure.as_deref();
        let mut entry = Entry::new(&outcome);
        if !self.exchanges().is_logged() {
            return exchange.end(&entry);
        }
        let connection = &downstream.connection;
        entry.downstream_remote = downstream.client();
        entry.downstream_local = connection.server_address().ok().flatten();
        if let Some(work) = work {
            let request = &work.request;
            entry.request = Some(Request {
                method: request.method().as_str(),
                path: request.path_and_query().as_bytes(),
                original_path: noted(&work.original_path).map(str::as_bytes),
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
