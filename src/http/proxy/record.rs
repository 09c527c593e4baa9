//! What is noted about an exchange while it goes on, for its outcome.
//!
//! It lies outside of the exchange's future, so that it tells what had happened also where that
//! future was dropped.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::upstream::{ClusterOnShard, Place};
use crate::{
    ring::Nanoseconds,
    telemetry::{ResponseFlag, VIA_UPSTREAM, access_log::TlsSession},
};

/// What is known of an exchange.
pub(super) struct Record {
    pub(super) started: SystemTime,
    pub(super) began: Nanoseconds,
    /// Bytes of the bodies.
    pub(super) received: Cell<u64>,
    pub(super) sent: Cell<u64>,
    /// The status that the client is sent; 0 before.
    pub(super) status: Cell<u16>,
    pub(super) flag: Cell<ResponseFlag>,
    pub(super) details: Cell<&'static str>,
    pub(super) termination: Cell<Option<&'static str>>,
    pub(super) transport_failure: RefCell<Option<String>>,
    /// The status that the upstream gave; 0 before.
    pub(super) upstream_status: Cell<u16>,
    /// Where the request was sent last.
    pub(super) place: RefCell<Option<Place>>,
    pub(super) upstream_local: Cell<Option<SocketAddr>>,
    pub(super) upstream_tls: RefCell<Option<Arc<dyn TlsSession>>>,
    pub(super) upstream_asked: Cell<Nanoseconds>,
    pub(super) upstream_time: Cell<Option<Duration>>,
    pub(super) cluster: RefCell<Option<Rc<ClusterOnShard>>>,
}

impl Record {
    pub(super) fn new(now: Nanoseconds) -> Record {
        Record {
            started: SystemTime::now(),
            began: now,
            received: Cell::new(0),
            sent: Cell::new(0),
            status: Cell::new(0),
            flag: Cell::new(ResponseFlag::None),
            details: Cell::new(VIA_UPSTREAM),
            termination: Cell::new(None),
            transport_failure: RefCell::new(None),
            upstream_status: Cell::new(0),
            place: RefCell::new(None),
            upstream_local: Cell::new(None),
            upstream_tls: RefCell::new(None),
            upstream_asked: Cell::new(now),
            upstream_time: Cell::new(None),
            cluster: RefCell::new(None),
        }
    }

    /// Whether the client has been sent the head of its answer.
    pub(super) fn is_answered(&self) -> bool {
        self.status.get() != 0
    }

    /// What ended the exchange out of order.
    pub(super) fn fail(&self, flag: ResponseFlag, details: &'static str) {
        self.flag.set(flag);
        self.details.set(details);
    }
}
