//! When a name is looked up again, and how long its last addresses are kept.
//!
//! *In:* outcomes, with the time. *Out:* when the name is due, and what to tell the clusters.
//! *Never:* looks at a clock, or looks anything up.

use std::time::{Duration, Instant};

use super::lookup::Outcome;

/// How names are looked up again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// The shortest time between two lookups of a name, whatever its TTL. Default: 1 s.
    pub shortest: Duration,
    /// The longest, whatever its TTL. Default: 5 min.
    pub longest: Duration,
    /// The pause after a first failed lookup, which doubles with each further one. Default: 1 s.
    pub retry: Duration,
    /// The longest of these pauses. Default: 30 s.
    pub longest_retry: Duration,
    /// How long the last addresses are kept while lookups fail: an address that may be wrong is
    /// better than none (RFC 8767). Default: 1 day.
    pub keep_failed: Duration,
    /// How long they are kept while servers say that there is no such name, or no address at it:
    /// a name that is gone for a moment is more often an accident than the truth. Default: 30 s.
    pub keep_gone: Duration,
}

impl Default for Refresh {
    fn default() -> Refresh {
        Refresh {
            shortest: Duration::from_secs(1),
            longest: Duration::from_secs(300),
            retry: Duration::from_secs(1),
            longest_retry: Duration::from_secs(30),
            keep_failed: Duration::from_secs(24 * 3600),
            keep_gone: Duration::from_secs(30),
        }
    }
}

/// What to tell the clusters that have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Publish {
    /// The addresses of the outcome.
    Addresses,
    /// Nothing: what they know stays.
    Keep,
    /// That there are none.
    Withdraw,
}

/// The schedule of one name.
#[derive(Debug)]
pub(super) struct Schedule {
    /// When to look it up.
    pub(super) due: Instant,
    /// Lookups in a row that failed.
    failures: u32,
    /// When the addresses were last confirmed; `None`: there are none.
    confirmed: Option<Instant>,
    /// Since when servers have said that there is nothing.
    gone: Option<Instant>,
    /// Whether clusters have been told that there is nothing.
    withdrawn: bool,
}

impl Schedule {
    /// A name that is due at once.
    pub(super) fn new(now: Instant) -> Schedule {
        Schedule { due: now, failures: 0, confirmed: None, gone: None, withdrawn: false }
    }

    /// Takes in an outcome. `random`, from 0 to 1, takes up to a tenth off the time until the next
    /// lookup, so that names which were looked up together drift apart.
    pub(super) fn take(
        &mut self,
        outcome: &Outcome,
        refresh: &Refresh,
        now: Instant,
        random: f64,
    ) -> Publish {
        let (pause, publish) = match outcome {
            Outcome::Addresses(_, ttl) => {
                *self = Schedule { confirmed: Some(now), ..Schedule::new(now) };
                (seconds(*ttl).clamp(refresh.shortest, refresh.longest), Publish::Addresses)
            }
            Outcome::Nothing(ttl) => {
                self.failures = 0;
                let gone = *self.gone.get_or_insert(now);
                let kept = self.confirmed.is_some() && now < gone + refresh.keep_gone;
                // While addresses are kept it is looked up soon, so that they are not kept longer.
                let most = refresh.longest_retry.min(refresh.keep_gone / 2);
                let pause = ttl.map_or(refresh.retry, seconds);
                (pause.clamp(refresh.shortest, most.max(refresh.shortest)), self.unless(kept))
            }
            Outcome::Failed(_) => {
                let doublings = self.failures.min(16);
                self.failures = self.failures.saturating_add(1);
                let pause = refresh.retry.saturating_mul(1 << doublings).min(refresh.longest_retry);
                let kept = self.confirmed.is_none_or(|at| now < at + refresh.keep_failed);
                (pause, self.unless(kept))
            }
        };
        self.due = now + pause.mul_f64(1.0 - random.clamp(0.0, 1.0) / 10.0);
        publish
    }

    fn unless(&mut self, kept: bool) -> Publish {
        if kept || self.withdrawn {
            return Publish::Keep;
        }
        self.withdrawn = true;
        self.confirmed = None;
        Publish::Withdraw
    }
}

fn seconds(ttl: u32) -> Duration {
    // The top bit set counts as 0 (RFC 2181, section 8).
    Duration::from_secs(if ttl >> 31 == 0 { ttl.into() } else { 0 })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Fixture {
        schedule: Schedule,
        now: Instant,
    }

    impl Fixture {
        fn new() -> Fixture {
            let now = Instant::now();
            Fixture { schedule: Schedule::new(now), now }
        }

        /// What is published, and the seconds until the next lookup, at which it is then.
        fn take(&mut self, outcome: &Outcome) -> (Publish, u64) {
            let publish = self.schedule.take(outcome, &Refresh::default(), self.now, 0.0);
            let pause = self.schedule.due - self.now;
            self.now = self.schedule.due;
            (publish, pause.as_secs())
        }
    }

    fn addresses(ttl: u32) -> Outcome {
        Outcome::Addresses(vec![[10, 0, 0, 1].into()], ttl)
    }

    const FAILED: Outcome = Outcome::Failed("SERVFAIL");

    #[test]
    fn the_ttl_says_when_within_bounds() {
        for (ttl, pause) in [(0, 1), (1, 1), (30, 30), (86_400, 300), (u32::MAX, 1)] {
            let mut fixture = Fixture::new();
            assert_eq!(fixture.take(&addresses(ttl)), (Publish::Addresses, pause), "{ttl}");
        }
        let mut schedule = Schedule::new(Instant::now());
        let now = schedule.due;
        schedule.take(&addresses(100), &Refresh::default(), now, 1.0);
        assert_eq!(schedule.due - now, 90 * SECOND, "a tenth earlier at most");
    }

    #[test]
    fn failures_back_off_and_keep_the_addresses_for_a_day() {
        let mut fixture = Fixture::new();
        fixture.take(&addresses(1));
        let pauses: Vec<_> = (0..7).map(|_| fixture.take(&FAILED)).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30].map(|pause| (Publish::Keep, pause)));
        fixture.take(&addresses(1));
        assert_eq!(fixture.take(&FAILED), (Publish::Keep, 1), "from the beginning");
        fixture.now += 24 * 3600 * SECOND;
        assert_eq!(fixture.take(&FAILED).0, Publish::Withdraw);
        assert_eq!(fixture.take(&FAILED).0, Publish::Keep, "said once");
        assert_eq!(fixture.take(&addresses(5)).0, Publish::Addresses);
    }

    #[test]
    fn a_name_that_is_gone_is_kept_for_half_a_minute() {
        let mut fixture = Fixture::new();
        fixture.take(&addresses(1));
        let gone = fixture.now;
        loop {
            let (publish, pause) = fixture.take(&Outcome::Nothing(Some(3600)));
            assert!(pause <= 15, "looked up soon again, whatever its TTL");
            if publish == Publish::Withdraw {
                break;
            }
        }
        let kept = fixture.schedule.due - gone;
        assert!((30 * SECOND..=60 * SECOND).contains(&kept), "{kept:?}");
        assert_eq!(fixture.take(&Outcome::Nothing(Some(7))), (Publish::Keep, 7));
        // In between it came back: the half minute starts over.
        fixture.take(&addresses(1));
        assert_eq!(fixture.take(&Outcome::Nothing(None)), (Publish::Keep, 1));
        fixture.take(&addresses(1));
        fixture.now += 40 * SECOND;
        assert_eq!(fixture.take(&Outcome::Nothing(None)).0, Publish::Keep);
    }

    #[test]
    fn a_name_that_never_was_is_said_to_be_nothing_and_a_failure_is_not() {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.take(&FAILED).0, Publish::Keep);
        assert_eq!(fixture.take(&Outcome::Nothing(None)).0, Publish::Withdraw);
        assert_eq!(fixture.take(&Outcome::Nothing(None)).0, Publish::Keep);
    }
}
