//! The connections to a cluster, as its limit counts them over all shards.
//!
//! *In:* connections that are made, become idle, are used again, end. *Out:* leave to make one, or
//! not. *Owns:* how many there are of each kind. *Never:* knows a connection, or closes one.
//!
//! An idle connection counts: to its origin it is as open as any other, and some hold a worker for
//! each. But it must not stand in the way of a request, and it may be in the pool of another shard,
//! which nobody but that shard can reach. So it *gives way*: at the limit, a new connection takes the
//! place of an idle one, whichever. Idle connections have no names here, they are only counted; so
//! there are more in the pools then than have a place, and the surplus is closed, by whichever shard
//! comes first. Shards that have any are woken for that.
//!
//! ```text
//!           claim                 rest                   used again
//!  (none) ────────► in use ──────────────────► idle ──────────────────► in use
//!                     ▲                          │ a claim at the limit takes its place
//!                     └──────────────────────────┴──────► surplus ─► closed
//! ```
//!
//! In use and idle together are never more than the limit. What is open for a moment more are the
//! surplus connections, until their shards have their turn.
//!
//! One word holds all three numbers, so that no change of two of them can be seen half.

use std::{
    fmt,
    task::{Context, Waker},
};

use crate::sync::{
    Arc, Mutex,
    atomic::{
        AtomicU64,
        Ordering::{AcqRel, Acquire},
    },
    lock,
};

/// The places for connections of one cluster. Clones are the same places.
#[derive(Clone)]
pub(crate) struct Places(Arc<Shared>);

#[repr(align(128))]
struct Shared {
    word: AtomicU64,
    /// Of shards that have idle connections.
    holders: Mutex<Vec<Waker>>,
}

/// How many connections there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) in_use: u32,
    pub(crate) idle: u32,
    /// In pools, and without a place.
    pub(crate) surplus: u32,
}

/// Twenty-one bits for each number: with more than two million of one kind, no more are let in.
const BITS: u32 = 21;
const MOST: u32 = (1 << BITS) - 1;

impl Census {
    fn of(word: u64) -> Census {
        let number = |at: u32| (word >> (at * BITS)) as u32 & MOST;
        Census { in_use: number(0), idle: number(1), surplus: number(2) }
    }

    fn word(self) -> u64 {
        let Census { in_use, idle, surplus } = self;
        u64::from(in_use) | u64::from(idle) << BITS | u64::from(surplus) << (2 * BITS)
    }

    /// One more in use, in the place of an idle one if need be.
    fn claimed(self, limit: u32) -> Option<Census> {
        let Census { in_use, idle, surplus } = self;
        if in_use >= limit.min(MOST) {
            return None;
        }
        let more = Census { in_use: in_use + 1, ..self };
        if in_use + idle < limit {
            Some(more)
        } else if surplus < MOST {
            Some(Census { idle: idle - 1, surplus: surplus + 1, ..more })
        } else {
            None
        }
    }

    /// One that was in use is idle.
    fn rested(self) -> Option<Census> {
        let idle = self.idle + 1;
        (idle <= MOST).then_some(Census { in_use: self.in_use - 1, idle, ..self })
    }

    /// One leaves the pools: one that has a place while there are any, a surplus one otherwise.
    fn left(self) -> Census {
        match self.idle {
            0 => Census { surplus: self.surplus.saturating_sub(1), ..self },
            idle => Census { idle: idle - 1, ..self },
        }
    }
}

impl Places {
    pub(super) fn new() -> Places {
        let (word, holders) = (AtomicU64::new(0), Mutex::new(Vec::new()));
        Places(Arc::new(Shared { word, holders }))
    }

    pub(crate) fn census(&self) -> Census {
        Census::of(self.0.word.load(Acquire))
    }

    /// A place for a new connection, if fewer than `limit` are in use.
    pub(super) fn claim(&self, limit: u32) -> Option<Place> {
        self.change(|census| census.claimed(limit))?;
        Some(Place { places: Some(self.clone()), state: State::InUse })
    }

    /// Takes one away from the surplus. Whether there was any.
    fn take_surplus(&self) -> bool {
        let fewer = |census: Census| {
            let surplus = census.surplus.checked_sub(1)?;
            Some(Census { surplus, ..census })
        };
        self.change(fewer).is_some()
    }

    /// Has every shard that holds idle connections look whether there is a surplus.
    pub(crate) fn wake_holders(&self) {
        let holders = std::mem::take(&mut *lock(&self.0.holders));
        holders.into_iter().for_each(Waker::wake);
    }

    /// Wakes the task the next time that holders are woken.
    pub(crate) fn hold(&self, cx: &Context<'_>) {
        let mut holders = lock(&self.0.holders);
        if !holders.iter().any(|known| known.will_wake(cx.waker())) {
            holders.push(cx.waker().clone());
        }
    }

    /// The census before and after a change; none where it was none.
    fn change(&self, change: impl Fn(Census) -> Option<Census>) -> Option<(Census, Census)> {
        let mut before = self.0.word.load(Acquire);
        loop {
            let census = Census::of(before);
            let after = change(census)?;
            match self.0.word.compare_exchange_weak(before, after.word(), AcqRel, Acquire) {
                Ok(_) => return Some((census, after)),
                Err(now) => before = now,
            }
        }
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Places").field(&self.census()).finish()
    }
}

/// The place of one connection; it is given back when this is dropped.
#[derive(Debug)]
#[must_use = "dropping it gives it back"]
pub struct Place {
    /// `None`: there is no limit, and nothing is counted.
    places: Option<Places>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    InUse,
    Idle,
    /// Another connection has it.
    GaveWay,
}

impl Place {
    /// Of a connection that nothing limits.
    pub(super) const UNLIMITED: Place = Place { places: None, state: State::InUse };

    /// Whose place it is, if anybody counts.
    pub(crate) fn places(&self) -> Option<&Places> {
        self.places.as_ref()
    }

    /// The connection is idle from now on. `false`: it cannot be, and is to be closed.
    pub(crate) fn rest(&mut self) -> bool {
        let rested = self.places.as_ref().is_none_or(|it| it.change(Census::rested).is_some());
        if rested {
            self.state = State::Idle;
        }
        rested
    }

    /// The idle connection is to be used again. `false`: its place was taken, and it is to be closed.
    pub(crate) fn resume(&mut self) -> bool {
        let resumed = match &self.places {
            None => true,
            Some(places) => {
                let used = |census: Census| match census.idle {
                    0 => Some(census.left()),
                    _ => Some(Census { in_use: census.in_use + 1, ..census.left() }),
                };
                places.change(used).is_some_and(|(before, _)| before.idle > 0)
            }
        };
        self.state = if resumed { State::InUse } else { State::GaveWay };
        resumed
    }

    /// Whether it is of an idle connection in `places` that is to be closed, since there are more of
    /// them than have a place.
    pub(crate) fn give_way(&mut self, places: &Places) -> bool {
        let is_its = self.places.as_ref().is_some_and(|its| Arc::ptr_eq(&its.0, &places.0));
        let gives = self.state == State::Idle && is_its && places.take_surplus();
        if gives {
            self.state = State::GaveWay;
        }
        gives
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(places) = &self.places else { return };
        match self.state {
            State::InUse => {
                let ended = |census: Census| Census { in_use: census.in_use - 1, ..census };
                places.change(|census| Some(ended(census)));
            }
            State::Idle => {
                places.change(|census| Some(census.left()));
            }
            State::GaveWay => {}
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::thread;

    use super::*;

    fn census(in_use: u32, idle: u32, surplus: u32) -> Census {
        Census { in_use, idle, surplus }
    }

    #[test]
    fn a_claim_at_the_limit_takes_the_place_of_an_idle_connection() {
        let places = Places::new();
        let mut first = places.claim(2).unwrap();
        let second = places.claim(2).unwrap();
        assert!(places.claim(2).is_none(), "both are in use");
        assert!(first.rest());
        assert_eq!(places.census(), census(1, 1, 0));
        let third = places.claim(2).unwrap();
        assert_eq!(places.census(), census(2, 0, 1));
        assert!(places.claim(2).is_none());
        assert!(!first.resume(), "it has no place any more");
        drop(first);
        assert_eq!(places.census(), census(2, 0, 0));
        drop((second, third));
        assert_eq!(places.census(), Census::default());
    }

    #[test]
    fn whichever_shard_looks_first_closes_the_surplus_and_the_rest_is_used() {
        let (places, other) = (Places::new(), Places::new());
        let mut idle: Vec<_> = (0..3).map(|_| places.claim(3).unwrap()).collect();
        idle.iter_mut().for_each(|place| assert!(place.rest()));
        let _new = places.claim(3).unwrap();
        assert!(!idle[0].give_way(&other), "another cluster's");
        assert!(idle[1].give_way(&places));
        assert!(!idle[0].give_way(&places), "one is enough");
        assert!(idle[0].resume() && idle[2].resume());
        assert_eq!(places.census(), census(3, 0, 0));
        drop(idle);
        assert_eq!(places.census(), census(1, 0, 0));
    }

    #[test]
    fn a_limit_that_was_lowered_lets_nobody_in_and_nothing_is_lost() {
        let places = Places::new();
        let mut many: Vec<_> = (0..4).map(|_| places.claim(4).unwrap()).collect();
        assert!(many[0].rest());
        assert!(places.claim(2).is_none());
        drop(many.split_off(1));
        assert!(places.claim(1).is_some(), "in the place of the idle one");
        assert_eq!(places.census(), census(0, 0, 1));
        drop(many);
        assert_eq!(places.census(), Census::default());
    }

    #[test]
    fn threads_together_keep_to_the_limit_and_lose_no_place() {
        const LIMIT: u32 = 3;
        let places = Places::new();
        thread::scope(|scope| {
            for thread in 0..6_u64 {
                let places = &places;
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(thread);
                    let mut idle: Vec<Place> = Vec::new();
                    for _ in 0..5_000 {
                        let own = idle.pop();
                        let used = match own {
                            Some(mut place) => place.resume().then_some(place),
                            None => places.claim(LIMIT),
                        };
                        let now = places.census();
                        assert!(now.in_use + now.idle <= LIMIT, "{now:?}");
                        if let Some(mut place) = used
                            && random.bool()
                            && place.rest()
                        {
                            idle.push(place);
                        }
                        if random.u8(..) < 16 {
                            idle.retain_mut(|place| !place.give_way(places));
                        }
                    }
                });
            }
        });
        assert_eq!(places.census(), Census::default());
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use loom::thread;

    use super::*;

    /// One shard takes the only idle connection's place while the other uses it again, or lets it go:
    /// one of them has it, and in the end nobody.
    #[test]
    fn a_place_is_taken_or_used_again_never_both() {
        loom::model(|| {
            let places = Places::new();
            let mut idle = places.claim(1).unwrap();
            assert!(idle.rest());
            let other = {
                let places = places.clone();
                thread::spawn(move || places.claim(1))
            };
            let resumed = idle.resume();
            let claimed = other.join().unwrap();
            assert_ne!(resumed, claimed.is_some());
            let now = places.census();
            assert_eq!((now.in_use, now.idle, now.surplus), (1, 0, 0));
            drop((idle, claimed));
            assert_eq!(places.census(), Census::default());
        });
    }
}
