//! Outlier ejection: endpoints that fail again and again get no requests for a while.
//!
//! *In:* how each request to an endpoint ended. *Out:* whether an endpoint is due to be ejected, for
//! how long, and when it is back. *Owns:* the record of one endpoint. *Never:* looks at a clock, and
//! never decides about the others: that the last endpoint stays is the cluster's to see to.

use std::time::{Duration, Instant};

/// When an endpoint is left out, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlier {
    /// So many failures in a row eject an endpoint. Default: 5.
    pub consecutive_failures: u32,
    /// The time of a first ejection; each further one takes twice as long. For every such time that
    /// an endpoint has been back, one ejection is forgotten. Default: 30 s.
    pub base: Duration,
    /// The longest ejection. Default: 300 s.
    pub longest: Duration,
    /// The share of endpoints that may be ejected at a time, in hundredths. One may always be,
    /// whatever its share, and the last one that is available never. Default: 10.
    pub most_percent: u32,
}

impl Default for Outlier {
    fn default() -> Outlier {
        Outlier {
            consecutive_failures: 5,
            base: Duration::from_secs(30),
            longest: Duration::from_secs(300),
            most_percent: 10,
        }
    }
}

impl Outlier {
    pub(super) fn check(&self) -> Result<(), &'static str> {
        match self {
            Outlier { consecutive_failures: 0, .. } => {
                Err("outlier.consecutive_failures must be at least 1")
            }
            Outlier { base: Duration::ZERO, .. } => Err("the time of an ejection must not be 0"),
            _ => Ok(()),
        }
    }

    /// Whether one more of `endpoints` may be ejected where `ejected` are.
    pub(super) fn allows_another(&self, ejected: usize, endpoints: usize) -> bool {
        let most = endpoints as u64 * u64::from(self.most_percent) / 100;
        ejected == 0 || (ejected as u64) < most
    }

    /// How long the `n`th ejection takes (`n` from 1), before jitter.
    fn time(&self, n: u32) -> Duration {
        let doublings = n.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << doublings).min(self.longest.max(self.base))
    }
}

/// How a request to an endpoint ended, as far as the endpoint is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered, with this status.
    Answered(u16),
    /// It could not be connected to.
    ConnectFailed,
    /// It closed or reset the connection before its answer was complete.
    Reset,
    /// It took too long.
    TimedOut,
}

impl Outcome {
    /// Whether it counts as a failure: anything but an answer with a status below 500.
    pub fn is_failure(self) -> bool {
        !matches!(self, Outcome::Answered(..500))
    }
}

/// What is known of one endpoint: whether it may be chosen, and its ejections.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    /// What active health checks say; `true` where there are none.
    pub(super) healthy: bool,
    /// Until when it is ejected.
    pub(super) ejected_until: Option<Instant>,
    /// Ejections that are not forgotten.
    ejections: u32,
    /// When it came back from the last one.
    returned: Option<Instant>,
}

impl Standing {
    pub(super) fn new() -> Standing {
        Standing { healthy: true, ejected_until: None, ejections: 0, returned: None }
    }

    pub(super) fn is_available(&self) -> bool {
        self.healthy && self.ejected_until.is_none()
    }

    /// Ejects it from `now` on. `jitter`, from 0 to 1, makes that up to a tenth longer, so that
    /// endpoints which failed together do not come back together.
    pub(super) fn eject(&mut self, outlier: &Outlier, now: Instant, jitter: f64) {
        if let Some(returned) = self.returned.take() {
            let good = now.saturating_duration_since(returned);
            let forgotten = good.as_nanos() / outlier.base.as_nanos().max(1);
            let forgotten = u32::try_from(forgotten).unwrap_or(u32::MAX);
            self.ejections = self.ejections.saturating_sub(forgotten);
        }
        self.ejections = self.ejections.saturating_add(1);
        let time = outlier.time(self.ejections);
        self.ejected_until = Some(now + time + time.mul_f64(jitter.clamp(0.0, 1.0) / 10.0));
    }

    /// Takes it back.
    pub(super) fn restore(&mut self, now: Instant) {
        if self.ejected_until.take().is_some() {
            self.returned = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn failures_are_5xx_and_whatever_is_no_answer() {
        for (outcome, failure) in [
            (Outcome::Answered(200), false),
            (Outcome::Answered(101), false),
            (Outcome::Answered(404), false),
            (Outcome::Answered(499), false),
            (Outcome::Answered(500), true),
            (Outcome::Answered(503), true),
            (Outcome::ConnectFailed, true),
            (Outcome::Reset, true),
            (Outcome::TimedOut, true),
        ] {
            assert_eq!(outcome.is_failure(), failure, "{outcome:?}");
        }
    }

    #[test]
    fn each_ejection_is_twice_as_long_until_it_is_forgotten() {
        let outlier = Outlier::default();
        let mut now = Instant::now();
        let mut standing = Standing::new();
        let mut times = Vec::new();
        for _ in 0..6 {
            standing.eject(&outlier, now, 0.0);
            let until = standing.ejected_until.unwrap();
            times.push((until - now).as_secs());
            assert!(!standing.is_available());
            standing.restore(until);
            assert!(standing.is_available());
            // It fails again before anything is forgotten.
            now = until + SECOND;
        }
        assert_eq!(times, [30, 60, 120, 240, 300, 300]);
        now += 4 * outlier.base;
        standing.eject(&outlier, now, 0.0);
        assert_eq!(standing.ejected_until.unwrap() - now, Duration::from_secs(120));
    }

    #[test]
    fn the_share_holds_but_one_may_always_go() {
        let outlier = Outlier { most_percent: 10, ..Outlier::default() };
        assert!(outlier.allows_another(0, 3));
        assert!(!outlier.allows_another(1, 3));
        assert!(outlier.allows_another(1, 20));
        assert!(!outlier.allows_another(2, 20));
    }

    proptest! {
        #[test]
        fn an_ejection_is_within_its_bounds(
            base in 1_u64..1_000_000, longest in 0_u64..1_000_000,
            ejections in 1_usize..80, jitter in -1.0..2.0,
        ) {
            let (base, longest) = (Duration::from_millis(base), Duration::from_millis(longest));
            let outlier = Outlier { base, longest, ..Outlier::default() };
            let now = Instant::now();
            let mut standing = Standing::new();
            for _ in 0..ejections {
                standing.restore(now);
                standing.eject(&outlier, now, jitter);
            }
            let time = standing.ejected_until.unwrap() - now;
            prop_assert!(time >= base && time <= longest.max(base).mul_f64(1.1) + SECOND / 1000);
        }
    }
}
