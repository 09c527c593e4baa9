//! What comes after a 101: bytes, both ways.

use std::sync::Arc;

use super::{downstream::Downstream, upstream::Upstream};
use crate::{
    relay::{self, Meter, Timeouts},
    telemetry::{ClusterCells, ListenerCells},
};

struct Counts {
    listener: Arc<ListenerCells>,
    cluster: Arc<ClusterCells>,
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

/// Relays bytes until both sides have ended. What either side has sent already goes first.
pub(super) async fn tunnel(mut downstream: Box<Downstream>, mut upstream: Box<Upstream>) {
    let counts = Counts {
        listener: Arc::clone(&downstream.cells),
        cluster: Arc::clone(&upstream.connected.cells),
    };
    downstream.connection.watch_for_resets(true);
    upstream.connected.stream.watch_for_resets(true);
    let ended = relay::pipe(
        &mut downstream.connection,
        &mut upstream.connected.stream,
        &Timeouts::default(),
        &counts,
    )
    .await;
    downstream.connection.set_close_reason(ended.why.into());
}
