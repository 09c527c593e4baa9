//! The access log's line of a relayed connection.
//!
//! Flows in: what becomes of the connection, as it happens. Flows out: one line, when this is
//! dropped, however the connection ended. It exists only where there is a log.

use std::{
    cell::Cell,
    net::SocketAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use crate::{
    connection::Connection,
    net::Stream,
    telemetry::{
        CloseReason, Outcome, ResponseFlag,
        access_log::{AccessLogOnShard, Entry, TlsSession},
    },
};

pub(super) struct Line<'r> {
    log: &'r AccessLogOnShard,
    cluster: &'r str,
    started: SystemTime,
    since: Instant,
    client: Option<SocketAddr>,
    /// Where the client was connecting to.
    server: Option<SocketAddr>,
    upstream: Option<SocketAddr>,
    upstream_local: Option<SocketAddr>,
    downstream_tls: Option<Arc<dyn TlsSession>>,
    upstream_tls: Option<Arc<dyn TlsSession>>,
    failure: Option<Box<str>>,
    received: Cell<u64>,
    sent: Cell<u64>,
    /// Nothing is said about a connection that was cut.
    end: Option<(ResponseFlag, Option<&'static str>)>,
}

impl<'r> Line<'r> {
    /// The line of a connection that begins. Its addresses are asked for now, since a connection that
    /// was reset has none.
    pub(super) fn begin(
        log: &'r AccessLogOnShard,
        cluster: &'r str,
        connection: &Connection,
    ) -> Box<Line<'r>> {
        Box::new(Line {
            log,
            cluster,
            started: SystemTime::now(),
            since: Instant::now(),
            client: connection.client_address().ok().flatten(),
            server: connection.server_address().ok().flatten(),
            upstream: None,
            upstream_local: None,
            downstream_tls: connection.tls_session(),
            upstream_tls: None,
            failure: None,
            received: Cell::new(0),
            sent: Cell::new(0),
            end: None,
        })
    }

    pub(super) fn connected(&mut self, upstream: &Stream) {
        self.upstream = upstream.peer_address().ok().flatten();
        self.upstream_local = upstream.local_address().ok().flatten();
        self.upstream_tls = upstream.tls_session();
    }

    pub(super) fn received(&self, bytes: u64) {
        self.received.set(self.received.get() + bytes);
    }

    pub(super) fn sent(&self, bytes: u64) {
        self.sent.set(self.sent.get() + bytes);
    }

    /// The upstream could not be reached.
    pub(super) fn failed(&mut self, upstream: SocketAddr, failure: String) {
        self.upstream = Some(upstream);
        self.failure = Some(failure.into());
        self.ended(CloseReason::UpstreamFailed);
    }

    /// The connection was refused.
    pub(super) fn refused(&mut self, flag: ResponseFlag, why: &'static str) {
        self.end = Some((flag, Some(why)));
    }

    pub(super) fn ended(&mut self, reason: CloseReason) {
        let termination = (reason != CloseReason::Done).then_some(reason.as_str());
        self.end = Some((reason.into(), termination));
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if self.end.is_none() {
            self.ended(CloseReason::Drain);
        }
        let mut outcome = Outcome::new(self.started);
        (outcome.flag, outcome.termination) = self.end.unwrap_or((ResponseFlag::None, None));
        outcome.duration = self.since.elapsed();
        (outcome.received, outcome.sent) = (self.received.get(), self.sent.get());
        (outcome.upstream, outcome.upstream_local) = (self.upstream, self.upstream_local);
        outcome.cluster = Some(self.cluster);
        outcome.transport_failure = self.failure.as_deref();
        let mut entry = Entry::new(&outcome);
        (entry.downstream_remote, entry.downstream_local) = (self.client, self.server);
        entry.downstream_tls = self.downstream_tls.as_deref();
        entry.upstream_tls = self.upstream_tls.as_deref();
        self.log.log(&entry);
    }
}
