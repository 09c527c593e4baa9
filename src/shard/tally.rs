//! What is counted of a guest's connection, for as long as it lives, on whatever thread it ends.
//!
//! *In:* a connection that has arrived. *Out:* its bytes, its end and its reason, in the cells of
//! its listener; its places under limits, given back. *Owns:* neither the stream nor the load.
//! *Never:* waits.
//!
//! Unlike our own streams, those of guests may be sent to other threads. So the cells that are
//! written here are written atomically, and here only.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use super::{Arrived, WaitingAcceptors};
use crate::{
    listener::LimitGuard,
    telemetry::{CloseReason, ListenerCells},
};

/// What connections need of their shard when they end, from any thread.
pub(super) struct Home {
    cutting: AtomicBool,
    starved_acceptors: Arc<WaitingAcceptors>,
}

impl Home {
    pub(super) fn new(starved_acceptors: Arc<WaitingAcceptors>) -> Home {
        Home { cutting: AtomicBool::new(false), starved_acceptors }
    }

    pub(super) fn is_cutting(&self) -> bool {
        self.cutting.load(Relaxed)
    }

    pub(super) fn cut(&self) {
        self.cutting.store(true, Relaxed);
    }

    pub(super) fn connection_closed(&self) {
        self.starved_acceptors.wake();
    }
}

/// One connection of a guest. Everything that is shared in it belongs to its shard.
pub(super) struct Tally {
    pub(super) listener: Arc<str>,
    pub(super) original_destination: Option<SocketAddr>,
    cells: Arc<ListenerCells>,
    home: Arc<Home>,
    _limits: [Option<LimitGuard>; 2],
}

impl Tally {
    /// The tally of a connection that begins to be served.
    pub(super) fn new(arrived: &mut Arrived) -> Tally {
        let cells = Arc::clone(&arrived.route.cells);
        cells.connections.add_from_any_thread(1);
        cells.active.add_from_any_thread(1);
        Tally {
            listener: Arc::clone(&arrived.route.name),
            original_destination: arrived.original_destination,
            cells,
            home: Arc::clone(arrived.shard.home()),
            _limits: std::mem::take(&mut arrived.limits),
        }
    }

    pub(super) fn received(&self, bytes: usize) {
        if bytes > 0 {
            self.cells.received_bytes.add_from_any_thread(bytes as u64);
        }
    }

    pub(super) fn sent(&self, bytes: usize) {
        if bytes > 0 {
            self.cells.sent_bytes.add_from_any_thread(bytes as u64);
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let reason = match self.home.is_cutting() {
            true => CloseReason::Drain,
            false => CloseReason::Done,
        };
        self.cells.active.add_from_any_thread(-1);
        self.cells.closed.increment_from_any_thread(reason);
        self.home.connection_closed();
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tally")
            .field("listener", &self.listener)
            .field("original_destination", &self.original_destination)
            .finish_non_exhaustive()
    }
}
