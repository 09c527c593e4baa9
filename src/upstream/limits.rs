//! Circuit breakers: how much a cluster may cost, over all shards together.
//!
//! *In:* a claim before something is begun. *Out:* a guard whose drop gives it back, or the limit
//! that is used up. *Never:* waits; whoever is refused answers at once, or queues by itself.
//!
//! A claim adds first and compares then, so that shards together cannot exceed a limit however they
//! race: of those that add at the same time, only as many see a count below the limit as there is
//! room for. What was refused is taken away again; so near the limit a claim can be refused for
//! another one that is about to be, never granted in excess.
//!
//! Giving back is a `Release` and claiming an `Acquire`, so whoever takes the room also sees that
//! what was there before has ended.
//!
//! A limit that is absent costs nothing: no shared memory is touched. So where a reload sets one,
//! what began before does not count.

use std::fmt;

use super::places::{Place, Places};
use crate::sync::{
    Arc,
    atomic::{
        AtomicU32,
        Ordering::{Acquire, Relaxed, Release},
    },
};

/// The limits of a cluster; `None`: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Upstream connections, those in pools included; an idle one gives way to a new one.
    pub connections: Option<u32>,
    /// Requests that wait for a connection.
    pub pending: Option<u32>,
    /// Requests that were let through and have not ended.
    pub requests: Option<u32>,
    /// Retries that have not ended.
    pub retries: Option<u32>,
}

impl Limits {
    /// The one of this kind.
    pub fn of(self, limit: Limit) -> Option<u32> {
        match limit {
            Limit::Connections => self.connections,
            Limit::Pending => self.pending,
            Limit::Requests => self.requests,
            Limit::Retries => self.retries,
        }
    }
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Upstream connections.
    Connections,
    /// Requests that wait for a connection.
    Pending,
    /// Requests under way.
    Requests,
    /// Retries under way.
    Retries,
}

impl Limit {
    /// All of them.
    pub const ALL: [Limit; 4] =
        [Limit::Connections, Limit::Pending, Limit::Requests, Limit::Retries];

    /// As it is called in the configuration and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Limit::Connections => "connections",
            Limit::Pending => "pending",
            Limit::Requests => "requests",
            Limit::Retries => "retries",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A limit is used up; the request is answered with 503 and the flag UO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow(pub Limit);

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the cluster's limit of {} is used up", self.0)
    }
}

impl std::error::Error for Overflow {}

/// How many of something there are.
///
/// Its guards hold it by an [`Arc`], whose own count lies right before it: whoever changes one
/// changes the other, so they share a cache line, and what is behind keeps others off it.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Count {
    value: AtomicU32,
    _keeps_others_off_the_line: [u8; 108],
}

impl Count {
    pub(super) fn new() -> Arc<Count> {
        Arc::new(Count { value: AtomicU32::new(0), _keeps_others_off_the_line: [0; 108] })
    }

    pub(super) fn get(&self) -> u32 {
        self.value.load(Relaxed)
    }

    /// One more, whatever there are.
    pub(super) fn add(count: &Arc<Count>) -> Claim {
        count.value.fetch_add(1, Relaxed);
        Claim(Some(Arc::clone(count)))
    }

    /// One more, if there are fewer than `limit` before it.
    pub(super) fn add_below(count: &Arc<Count>, limit: u32) -> Option<Claim> {
        // The claim exists before the comparison, so its drop takes the refused one away.
        let before = count.value.fetch_add(1, Acquire);
        let claim = Claim(Some(Arc::clone(count)));
        (before < limit).then_some(claim)
    }
}

/// One of something that is limited; it is given back when this is dropped.
#[derive(Debug)]
#[must_use = "dropping it gives it back"]
pub struct Claim(Option<Arc<Count>>);

impl Claim {
    /// Of something without a limit.
    pub(super) const UNLIMITED: Claim = Claim(None);
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.value.fetch_sub(1, Release);
        }
    }
}

/// The counts of a cluster's limits.
#[derive(Debug)]
pub(super) struct Breakers {
    connections: Places,
    pending: Arc<Count>,
    requests: Arc<Count>,
    retries: Arc<Count>,
}

impl Breakers {
    pub(super) fn new() -> Breakers {
        let [pending, requests, retries] = [(); 3].map(|()| Count::new());
        Breakers { connections: Places::new(), pending, requests, retries }
    }

    /// A connection, if there are not too many in use.
    pub(super) fn claim_connection(&self, limits: Limits) -> Result<Place, Overflow> {
        match limits.connections {
            None => Ok(Place::UNLIMITED),
            Some(most) => self.connections.claim(most).ok_or(Overflow(Limit::Connections)),
        }
    }

    pub(super) fn claim_pending(&self, limits: Limits) -> Result<Claim, Overflow> {
        claim(&self.pending, limits.pending, Limit::Pending)
    }

    pub(super) fn claim_request(&self, limits: Limits) -> Result<Claim, Overflow> {
        claim(&self.requests, limits.requests, Limit::Requests)
    }

    pub(super) fn claim_retry(&self, limits: Limits) -> Result<Claim, Overflow> {
        claim(&self.retries, limits.retries, Limit::Retries)
    }

    /// How many there are; of connections, those in pools included.
    pub(super) fn in_use(&self, limit: Limit) -> u32 {
        match limit {
            Limit::Connections => {
                let census = self.connections.census();
                census.in_use + census.idle
            }
            Limit::Pending => self.pending.get(),
            Limit::Requests => self.requests.get(),
            Limit::Retries => self.retries.get(),
        }
    }

    /// Whether another one would be refused.
    pub(super) fn is_open(&self, limit: Limit, limits: Limits) -> bool {
        let taken = match limit {
            // Idle ones give way.
            Limit::Connections => self.connections.census().in_use,
            limit => self.in_use(limit),
        };
        limits.of(limit).is_some_and(|most| taken >= most)
    }
}

fn claim(count: &Arc<Count>, most: Option<u32>, limit: Limit) -> Result<Claim, Overflow> {
    match most {
        None => Ok(Claim::UNLIMITED),
        Some(most) => Count::add_below(count, most).ok_or(Overflow(limit)),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{
        sync::{Barrier, atomic::AtomicU32 as Counter},
        thread,
    };

    use super::*;

    #[test]
    fn a_limit_is_given_out_and_taken_back() {
        let breakers = Breakers::new();
        let limits = Limits { requests: Some(2), ..Limits::default() };
        let first = breakers.claim_request(limits).unwrap();
        let _second = breakers.claim_request(limits).unwrap();
        let refused = breakers.claim_request(limits).map(drop);
        assert_eq!(refused, Err(Overflow(Limit::Requests)));
        assert_eq!(breakers.in_use(Limit::Requests), 2, "the refused one does not stay");
        drop(first);
        assert!(breakers.claim_request(limits).is_ok());
        assert!(breakers.claim_connection(limits).is_ok(), "another limit, and absent");
    }

    #[test]
    fn what_has_no_limit_is_not_counted() {
        let breakers = Breakers::new();
        let _claims: Vec<_> = (0..3).map(|_| breakers.claim_retry(Limits::default())).collect();
        assert_eq!(breakers.in_use(Limit::Retries), 0);
        let none = Limits { retries: Some(0), ..Limits::default() };
        assert!(breakers.claim_retry(none).is_err());
    }

    #[test]
    fn threads_together_never_hold_more_than_the_limit() {
        const THREADS: u32 = 8;
        const LIMIT: u32 = 3;
        let (count, held, granted) = (Count::new(), Counter::new(0), Counter::new(0));
        let start = Barrier::new(THREADS as usize);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    start.wait();
                    for _ in 0..2_000 {
                        let Some(claim) = Count::add_below(&count, LIMIT) else { continue };
                        granted.fetch_add(1, Relaxed);
                        assert!(held.fetch_add(1, Relaxed) < LIMIT);
                        thread::yield_now();
                        held.fetch_sub(1, Relaxed);
                        drop(claim);
                    }
                });
            }
        });
        assert_eq!(count.get(), 0);
        assert!(granted.into_inner() >= THREADS, "some were granted");
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use loom::thread;

    use super::*;

    /// However two claims of one interleave, one is held at most, and once it is given back there
    /// is room for one again.
    #[test]
    fn claims_together_stay_within_the_limit() {
        loom::model(|| {
            let count = Count::new();
            let held = Arc::new(AtomicU32::new(0));
            let claim = |count: &Arc<Count>, held: &AtomicU32| {
                if let Some(claim) = Count::add_below(count, 1) {
                    assert_eq!(held.fetch_add(1, Relaxed), 0);
                    held.fetch_sub(1, Relaxed);
                    drop(claim);
                }
            };
            let other = {
                let (count, held) = (Arc::clone(&count), Arc::clone(&held));
                thread::spawn(move || claim(&count, &held))
            };
            claim(&count, &held);
            other.join().unwrap();
            assert_eq!(count.get(), 0);
            let only = Count::add_below(&count, 1);
            assert!(only.is_some() && Count::add_below(&count, 1).is_none());
        });
    }
}
