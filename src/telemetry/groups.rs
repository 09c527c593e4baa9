//! Cells by who writes them: one group is one allocation, aligned to two cache lines (the pair that
//! x86 prefetches together, and one line of some arm64), so that no two shards share a line.
//!
//! A shard asks the [`Registry`](super::Registry) for its groups when a listener or cluster
//! appears, keeps the `Arc`s, and only stores to them from then on.

use super::cell::{Counter, Gauge, Histogram, SharedCounter};
use super::label::{
    AcceptError, CloseReason, ConnectFailure, CounterBy, LookupResult, RejectReason, ReloadResult,
};

/// The bounds of `shard_turn_duration_seconds`, in nanoseconds: 10 µs to 1 s.
pub static TURN_DURATION_BOUNDS_NANOS: [u64; 16] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
];

/// What a shard's loop counts about itself. Written by the shard only.
#[derive(Debug)]
#[repr(align(128))]
pub struct ShardCells {
    /// Time that the loop spent working rather than waiting, in nanoseconds.
    pub busy_nanos: Counter,
    /// How long each turn of the loop took, the wait for events not included.
    pub turn_duration: Histogram<{ TURN_DURATION_BOUNDS_NANOS.len() }>,
    /// Completions that all turns took in together.
    pub completions: Counter,
    /// Buffers of the shard's buffer ring that are not in use.
    pub free_buffers: Gauge,
    /// How often the kernel had more completions than the completion queue holds.
    pub completion_queue_overflows: Counter,
    /// Tasks that ended in a panic; each ends its own connection.
    pub tasks_panicked: Counter,
    /// Lines of access logs that found no room in the shard's queues.
    pub access_log_dropped: Counter,
}

impl Default for ShardCells {
    fn default() -> Self {
        Self {
            busy_nanos: Counter::new(),
            turn_duration: Histogram::new(&TURN_DURATION_BOUNDS_NANOS),
            completions: Counter::new(),
            free_buffers: Gauge::new(),
            completion_queue_overflows: Counter::new(),
            tasks_panicked: Counter::new(),
            access_log_dropped: Counter::new(),
        }
    }
}

/// What one shard counts about one listener, the one that matched. Written by the shard only; a
/// connection that moves to another shard is subtracted on the old one and added on the new one.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ListenerCells {
    /// Connections that this shard began to serve.
    pub connections: Counter,
    /// Connections that this shard is serving.
    pub active: Gauge,
    /// Bytes received from clients.
    pub received_bytes: Counter,
    /// Bytes sent to clients.
    pub sent_bytes: Counter,
    /// Connections that ended, by why.
    pub closed: CounterBy<CloseReason, { CloseReason::COUNT }>,
    /// Connections closed before they were served, by why.
    pub rejected: CounterBy<RejectReason, { RejectReason::COUNT }>,
    /// Lookups of an original destination, by what they found.
    pub lookups: CounterBy<LookupResult, { LookupResult::COUNT }>,
}

/// What one shard counts about one cluster. Written by the shard only.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ClusterCells {
    /// Connections made to the cluster's endpoints.
    pub connections: Counter,
    /// Those that are open.
    pub active: Gauge,
    /// Bytes received from the cluster.
    pub received_bytes: Counter,
    /// Bytes sent to the cluster.
    pub sent_bytes: Counter,
    /// Connections that could not be made, by why.
    pub connect_failures: CounterBy<ConnectFailure, { ConnectFailure::COUNT }>,
}

/// What one acceptor counts about one accepting listener. Written by the acceptor only.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct AcceptCells {
    /// Connections that the kernel handed over.
    pub accepts: Counter,
    /// Accepts that failed, by error number.
    pub errors: CounterBy<AcceptError, { AcceptError::COUNT }>,
    /// Connections closed by the acceptor, by why.
    pub rejected: CounterBy<RejectReason, { RejectReason::COUNT }>,
    /// 1 while the acceptor accepts here, 0 while it pauses or drains.
    pub accepting: Gauge,
}

/// What an acceptor's loop tells about itself.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct AcceptorCells {
    /// When the loop last turned, in microseconds since the Unix epoch. Written by the acceptor.
    pub last_turn_unix_micros: Gauge,
    /// Connections that were meant for one shard and given to another, because the first was full
    /// or gone. Any thread may find that out.
    pub handoffs_redealt: SharedCounter,
}

/// What is counted once for the whole proxy. Rare events only: any thread writes.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ProxyCells {
    /// Shards whose thread died.
    pub shards_failed: SharedCounter,
    reloads: [SharedCounter; ReloadResult::COUNT],
}

impl ProxyCells {
    /// Counts a reload.
    pub fn reloaded(&self, result: ReloadResult) {
        self.reloads[result as usize].increment();
    }

    /// The reloads that ended in `result`.
    #[must_use]
    pub fn reloads(&self, result: ReloadResult) -> u64 {
        self.reloads[result as usize].value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn no_two_groups_share_a_pair_of_cache_lines() {
        let groups: Vec<Arc<ListenerCells>> = (0..8).map(|_| Arc::default()).collect();
        for group in &groups {
            assert_eq!(Arc::as_ptr(group).addr() % 128, 0);
        }
        for size in [
            size_of::<ShardCells>(),
            size_of::<ListenerCells>(),
            size_of::<ClusterCells>(),
            size_of::<AcceptCells>(),
            size_of::<AcceptorCells>(),
        ] {
            assert_eq!(size % 128, 0);
        }
    }

    #[test]
    fn a_listener_costs_half_a_kibibyte_a_shard_at_most() {
        assert!(size_of::<ListenerCells>() <= 512, "{}", size_of::<ListenerCells>());
    }
}
