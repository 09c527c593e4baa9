//! The policies: which shard, given what all of them carry.
//!
//! *In:* a slice of loads. *Out:* a shard. *Owns:* where it was last, to rotate ties. *Never:*
//! allocates, or reads anything but the slice: a policy is a function to test with plain values.
//!
//! Ties rotate: the search starts behind the shard that was chosen last and goes round, and the first
//! of the best wins. A fixed winner of ties would get every connection of a service whose
//! connections are so short that all shards are empty each time one arrives.
//!
//! # Threads
//! A policy belongs to one acceptor and is called on its thread.

use crate::shard::ShardLoad;

/// Chooses the shard for a connection.
///
/// Any `FnMut(&[ShardLoad]) -> Option<usize> + Send` is a policy.
pub trait Policy: Send {
    /// The shard that is to carry the next connection.
    ///
    /// `loads` has all shards in order, `loads[i].shard == i`. A shard is `available` where it may
    /// take this connection: one that has left, is at its cap, or has refused this connection is
    /// not. The answer is the number of an available shard; `None` is for when there is none, which
    /// a [`Balancer`](super::Balancer) finds out by itself before it asks.
    ///
    /// This runs on the acceptor's thread for each connection, and again where another acceptor was
    /// faster: a few hundred nanoseconds are in order, waiting is not.
    fn choose(&mut self, loads: &[ShardLoad]) -> Option<usize>;
}

impl<F: FnMut(&[ShardLoad]) -> Option<usize> + Send> Policy for F {
    fn choose(&mut self, loads: &[ShardLoad]) -> Option<usize> {
        self(loads)
    }
}

/// The shard with the fewest active connections; ties rotate.
///
/// Even as soon as a connection is placed, whatever the connections do later.
#[derive(Clone, Debug, Default)]
pub struct LeastConnections {
    /// Where the search starts.
    next: usize,
}

impl Policy for LeastConnections {
    fn choose(&mut self, loads: &[ShardLoad]) -> Option<usize> {
        let candidates = ring(loads, self.next).filter(|load| load.available);
        let chosen = candidates.min_by_key(|load| load.connections)?.shard;
        self.next = chosen + 1;
        Some(chosen)
    }
}

/// Among the shards that have been least busy lately the one with the fewest connections; ties
/// rotate.
///
/// For connections that differ much in how much work they are. A shard counts as among the least
/// busy while its busy share is within [`LeastBusy::MARGIN_PERMILLE`] of the lowest: differences
/// below that are noise, and must not decide against the number of connections. The share is a
/// measurement, some tens of milliseconds old: of a burst that arrives between two measurements all
/// goes to the shards that were least busy before it.
#[derive(Clone, Debug, Default)]
pub struct LeastBusy {
    /// Where the search starts.
    next: usize,
}

impl LeastBusy {
    /// By how much a shard may be busier than the least busy one and still count as equal to it:
    /// a tenth of its time.
    pub const MARGIN_PERMILLE: u32 = 100;
}

impl Policy for LeastBusy {
    fn choose(&mut self, loads: &[ShardLoad]) -> Option<usize> {
        let available = loads.iter().filter(|load| load.available);
        let lowest = available.map(|load| load.busy_permille).min()?;
        let limit = lowest.saturating_add(Self::MARGIN_PERMILLE);
        let candidates =
            ring(loads, self.next).filter(|load| load.available && load.busy_permille <= limit);
        let chosen = candidates.min_by_key(|load| load.connections)?.shard;
        self.next = chosen + 1;
        Some(chosen)
    }
}

/// One available shard after the other, whatever they carry.
///
/// Even over what opens, not over what stays open.
#[derive(Clone, Debug, Default)]
pub struct RoundRobin {
    /// Whose turn it is.
    next: usize,
}

impl Policy for RoundRobin {
    fn choose(&mut self, loads: &[ShardLoad]) -> Option<usize> {
        let chosen = ring(loads, self.next).find(|load| load.available)?.shard;
        self.next = chosen + 1;
        Some(chosen)
    }
}

/// All shards once, from `start` on and round.
fn ring(loads: &[ShardLoad], start: usize) -> impl Iterator<Item = &ShardLoad> {
    let start = if start < loads.len() { start } else { 0 };
    let (before, from_start) = loads.split_at(start);
    from_start.iter().chain(before)
}
