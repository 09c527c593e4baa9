//! What comes after a 101: bytes, both ways.

use std::sync::Arc;

use super::{downstream::Downstream, upstream::Upstream};
use crate::relay::{self, Counts, Timeouts};

/// Relays bytes until both sides have ended. What either side has sent already goes first.
pub(super) async fn tunnel(mut downstream: Box<Downstream>, mut upstream: Box<Upstream>) {
    let listener = Arc::clone(&downstream.cells);
    let counts = Counts::new(listener, Arc::clone(&upstream.connected.cells));
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
