//! What every shard carries right now: the numbers that a connection is balanced by.
//!
//! *In:* a claim for each connection, made before it is handed to its shard; weights for what is in
//! flight on it; the busy share that each shard measures. *Out:* snapshots, for the policies, the
//! caps and the metrics. *Owns:* the counters. *Never:* chooses a shard, waits, or locks.
//!
//! Load belongs to a connection for its whole life, and to the shard that carries it. So the count
//! is a [`LoadGuard`] that travels inside the connection: a hand-off that is still in a queue
//! counts, and the count goes away in one place only, when the guard is dropped, wherever that is.
//!
//! # Threads
//! Everything here may be called from any thread. Acceptors claim, shards drop guards and report
//! how busy they are, whoever likes reads. Each shard's counters have an allocation and a cache line
//! of their own, so that two shards never write to the same line, not even to a reference count.
//!
//! # Memory ordering
//! Ending a connection is a `Release`, reading a count an `Acquire`, and every other change of the
//! count is a read-modify-write, which keeps the release sequences whole. So whoever reads zero
//! also sees all that the connections did before they ended: their last metrics, their closed fds.

use crate::sync::{
    Arc,
    atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};
use std::fmt;

/// Set beside the count while the shard takes no new connections. One word for both makes a claim
/// from a count that was seen fail by itself once the shard has left.
const UNAVAILABLE: u32 = 1 << 31;

/// The counters of one shard, alone on its cache lines (two of 64 bytes: processors prefetch lines
/// in pairs).
#[repr(align(128))]
struct Load {
    shard: usize,
    /// Active connections, and [`UNAVAILABLE`]. The count cannot reach the flag: a process has
    /// fewer than 2^31 file descriptors.
    connections: AtomicU32,
    weight: AtomicU32,
    busy_permille: AtomicU32,
}

impl Load {
    fn read(&self) -> ShardLoad {
        let connections = self.connections.load(Acquire);
        ShardLoad {
            shard: self.shard,
            connections: connections & !UNAVAILABLE,
            weight: self.weight.load(Relaxed),
            busy_permille: self.busy_permille.load(Relaxed),
            available: connections & UNAVAILABLE == 0,
        }
    }
}

/// The load of one shard at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardLoad {
    /// Which shard, counted from 0.
    pub shard: usize,
    /// Connections that it carries, those still on their way to it included.
    pub connections: u32,
    /// What is in flight on those connections: requests or streams, as its protocols count them.
    pub weight: u32,
    /// The share of its time that it has been busy lately, in thousandths: 0 to 1000.
    pub busy_permille: u32,
    /// Whether it may be given a connection.
    pub available: bool,
}

impl ShardLoad {
    /// A shard that is there and has nothing to do: what tests of a policy start from.
    pub const fn idle(shard: usize) -> Self {
        Self { shard, connections: 0, weight: 0, busy_permille: 0, available: true }
    }
}

/// The loads of all shards of a proxy. Clones share the same counters.
///
/// The number of shards is fixed; one that dies or leaves stays in its place, unavailable.
#[derive(Clone)]
pub struct Loads {
    shared: Arc<Shared>,
}

struct Shared {
    /// Each behind its own `Arc`, for the guards to hold: a reference count for all of them would
    /// be the one line that every shard writes to.
    shards: Box<[Arc<Load>]>,
    overruled_choices: AtomicU64,
}

impl Loads {
    /// Counters for the shards `0..shards`, all available and idle. 256 bytes a shard.
    pub fn new(shards: usize) -> Self {
        let load = |shard| {
            Arc::new(Load {
                shard,
                connections: AtomicU32::new(0),
                weight: AtomicU32::new(0),
                busy_permille: AtomicU32::new(0),
            })
        };
        let shards = (0..shards).map(load).collect();
        Self { shared: Arc::new(Shared { shards, overruled_choices: AtomicU64::new(0) }) }
    }

    /// How many shards there are, available or not.
    pub fn len(&self) -> usize {
        self.shared.shards.len()
    }

    /// Whether there is no shard at all.
    pub fn is_empty(&self) -> bool {
        self.shared.shards.is_empty()
    }

    /// The load of one shard; `None` where there is no such shard.
    pub fn read(&self, shard: usize) -> Option<ShardLoad> {
        self.shared.shards.get(shard).map(|load| load.read())
    }

    /// Replaces what is in `into` by the load of every shard, in order: `into[i].shard == i`.
    ///
    /// Each shard is read at a moment of its own; the whole is no atomic picture, and
    /// [`try_claim`](Self::try_claim) is what makes acting on it safe.
    pub fn snapshot(&self, into: &mut Vec<ShardLoad>) {
        into.clear();
        into.extend(self.shared.shards.iter().map(|load| load.read()));
    }

    /// Active connections over all shards. Exact when nothing opens or closes meanwhile; with
    /// several acceptors at work it can be behind by as many connections as there are acceptors.
    pub fn total(&self) -> u64 {
        self.shared.shards.iter().map(|load| u64::from(load.read().connections)).sum()
    }

    /// Counts a connection on `shard` if the shard still carries `seen_connections`.
    ///
    /// `None` where the count has changed since, the shard is unavailable, or there is no such
    /// shard: look again, and choose again. So two acceptors that both saw the same least-loaded
    /// shard cannot both take it.
    pub fn try_claim(&self, shard: usize, seen_connections: u32) -> Option<LoadGuard> {
        let load = self.shared.shards.get(shard)?;
        if seen_connections >= UNAVAILABLE {
            return None;
        }
        load.connections
            .compare_exchange(seen_connections, seen_connections + 1, Relaxed, Relaxed)
            .ok()?;
        Some(LoadGuard { load: load.clone() })
    }

    /// Counts a connection on `shard` whatever it carries, and even if it is unavailable: for a
    /// shard that accepts for itself, and for a connection that is there already.
    ///
    /// `None` only where there is no such shard.
    pub fn claim(&self, shard: usize) -> Option<LoadGuard> {
        let load = self.shared.shards.get(shard)?;
        load.connections.fetch_add(1, Relaxed);
        Some(LoadGuard { load: load.clone() })
    }

    /// Takes `shard` into the balance, or out of it. Connections that it carries stay counted.
    ///
    /// A claim under way may still win against this; the shard's inbox, once closed, sends such a
    /// connection back. A shard that does not exist is ignored.
    pub fn set_available(&self, shard: usize, available: bool) {
        let Some(load) = self.shared.shards.get(shard) else { return };
        if available {
            load.connections.fetch_and(!UNAVAILABLE, Relaxed);
        } else {
            load.connections.fetch_or(UNAVAILABLE, Relaxed);
        }
    }

    /// Publishes the share of its time that `shard` has been busy lately, in thousandths; more than
    /// 1000 is 1000. Meant for the shard itself, a few times a second. A shard that does not exist
    /// is ignored.
    pub fn report_busy(&self, shard: usize, permille: u32) {
        if let Some(load) = self.shared.shards.get(shard) {
            load.busy_permille.store(permille.min(1000), Relaxed);
        }
    }

    /// How often a balance policy chose a shard that it could not have, or failed to choose, and
    /// was overruled: zero unless a policy is wrong. See [`crate::accept::Balancer`].
    pub fn overruled_choices(&self) -> u64 {
        self.shared.overruled_choices.load(Relaxed)
    }

    pub(crate) fn count_overruled_choice(&self) {
        self.shared.overruled_choices.fetch_add(1, Relaxed);
    }
}

impl fmt::Debug for Loads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.shared.shards.iter().map(|load| load.read())).finish()
    }
}

/// One connection, counted on one shard until this is dropped.
///
/// It is 8 bytes, and may be sent to and dropped on any thread. It cannot be cloned: the count goes
/// up once and down once. A connection that moves to another shard is claimed there first and drops
/// this afterwards, so that it is never uncounted in between.
#[must_use = "dropping the guard takes the connection off its shard's load"]
pub struct LoadGuard {
    load: Arc<Load>,
}

impl LoadGuard {
    /// The shard that carries the connection.
    pub fn shard(&self) -> usize {
        self.load.shard
    }

    /// Counts `weight` requests or streams as in flight on the shard, until what is returned is
    /// dropped. It may outlive the connection.
    pub fn add_weight(&self, weight: u32) -> WeightGuard {
        self.load.weight.fetch_add(weight, Relaxed);
        WeightGuard { load: self.load.clone(), weight }
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.load.connections.fetch_sub(1, Release);
    }
}

impl fmt::Debug for LoadGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadGuard").field("shard", &self.shard()).finish()
    }
}

/// Requests or streams in flight, counted on one shard until this is dropped. Made by
/// [`LoadGuard::add_weight`]; may be sent to and dropped on any thread.
#[must_use = "dropping the guard takes the weight off its shard's load"]
pub struct WeightGuard {
    load: Arc<Load>,
    weight: u32,
}

impl WeightGuard {
    /// How much this counts.
    pub fn weight(&self) -> u32 {
        self.weight
    }
}

impl Drop for WeightGuard {
    fn drop(&mut self) {
        self.load.weight.fetch_sub(self.weight, Release);
    }
}

impl fmt::Debug for WeightGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeightGuard")
            .field("shard", &self.load.shard)
            .field("weight", &self.weight)
            .finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use loom::thread;

    fn claim_and_leave(claimers: u32) {
        let loads = Loads::new(1);
        let claimers: Vec<_> = (0..claimers)
            .map(|_| {
                let loads = loads.clone();
                thread::spawn(move || {
                    let guard = loads.claim(0).unwrap();
                    drop(guard.add_weight(3));
                })
            })
            .collect();
        let kept = loads.claim(0).unwrap();
        assert!(loads.read(0).unwrap().connections as usize <= 1 + claimers.len());
        for claimer in claimers {
            claimer.join().unwrap();
        }
        assert_eq!(loads.read(0), Some(ShardLoad { connections: 1, ..ShardLoad::idle(0) }));
        drop(kept);
        assert_eq!(loads.read(0), Some(ShardLoad::idle(0)));
    }

    #[test]
    fn the_count_is_exact_and_comes_back_to_zero() {
        loom::model(|| claim_and_leave(1));
        // With two at once, those interleavings in which a thread is interrupted twice at most.
        let mut bounded = loom::model::Builder::new();
        bounded.preemption_bound = Some(2);
        bounded.check(|| claim_and_leave(2));
    }

    #[test]
    fn claims_from_the_same_count_are_won_once() {
        loom::model(|| {
            let loads = Loads::new(1);
            let rival = {
                let loads = loads.clone();
                thread::spawn(move || loads.try_claim(0, 0))
            };
            let ours = loads.try_claim(0, 0);
            let theirs = rival.join().unwrap();
            assert!(ours.is_some() != theirs.is_some(), "one claim wins, never both");
            assert_eq!(loads.total(), 1);
            drop((ours, theirs));
            assert_eq!(loads.total(), 0);
        });
    }

    #[test]
    fn a_shard_that_has_left_is_not_claimed() {
        loom::model(|| {
            let loads = Loads::new(1);
            let leaving = {
                let loads = loads.clone();
                thread::spawn(move || loads.set_available(0, false))
            };
            let before = loads.try_claim(0, 0);
            leaving.join().unwrap();
            let counted = u32::from(before.is_some());
            assert!(loads.try_claim(0, counted).is_none());
            assert_eq!(loads.read(0).unwrap().connections, counted);
            drop(before);
            assert_eq!(loads.total(), 0);
        });
    }
}
