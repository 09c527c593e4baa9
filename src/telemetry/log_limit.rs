//! A limit on log lines that a peer can cause.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Lets `burst` lines through, then one each `every`, and counts what it held back.
///
/// It is for one thread: each shard has its own, one for each kind of line. The caller passes the
/// time, which the shard's loop has at hand.
///
/// ```
/// # use std::time::{Duration, Instant};
/// # use evenkeel::telemetry::LogLimit;
/// let limit = LogLimit::new(Duration::from_secs(1), 5);
/// # let now = Instant::now();
/// if limit.allow(now) {
///     let suppressed = limit.take_suppressed();
///     // tracing::warn!(suppressed, "the client sent a broken PROXY header");
/// #   assert_eq!(suppressed, 0);
/// }
/// ```
#[derive(Debug)]
pub struct LogLimit {
    every: Duration,
    burst: u32,
    tokens: Cell<u32>,
    refilled: Cell<Option<Instant>>,
    suppressed: Cell<u64>,
}

impl LogLimit {
    /// A limit of `burst` lines at once and one each `every` in the long run. With an `every` of
    /// zero nothing is held back; with a `burst` of zero one line is still let through each
    /// `every`.
    #[must_use]
    pub const fn new(every: Duration, burst: u32) -> Self {
        let burst = if burst == 0 { 1 } else { burst };
        Self {
            every,
            burst,
            tokens: Cell::new(burst),
            refilled: Cell::new(None),
            suppressed: Cell::new(0),
        }
    }

    /// Whether a line may be written at `now`; if not, it is counted as suppressed. A `now` that
    /// lies before an earlier one refills nothing.
    pub fn allow(&self, now: Instant) -> bool {
        self.refill(now);
        match self.tokens.get().checked_sub(1) {
            Some(left) => {
                self.tokens.set(left);
                true
            }
            None => {
                self.suppressed.set(self.suppressed.get().saturating_add(1));
                false
            }
        }
    }

    /// How many lines were held back since the last call: for the next line that is written.
    pub fn take_suppressed(&self) -> u64 {
        self.suppressed.take()
    }

    fn refill(&self, now: Instant) {
        let Some(since) = self.refilled.get() else {
            self.refilled.set(Some(now));
            return;
        };
        let elapsed = now.saturating_duration_since(since);
        let earned = match self.every.as_nanos() {
            0 => u128::from(self.burst),
            every => elapsed.as_nanos() / every,
        };
        let Ok(earned @ 1..) = u32::try_from(earned.min(u128::from(u32::MAX))) else {
            return;
        };
        let tokens = self.tokens.get().saturating_add(earned).min(self.burst);
        self.tokens.set(tokens);
        // Time short of a whole line counts towards the next one, unless the bucket is full.
        let refilled = if tokens == self.burst { now } else { since + self.every * earned };
        self.refilled.set(Some(refilled));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EVERY: Duration = Duration::from_millis(100);

    #[test]
    fn a_burst_passes_then_one_each_interval() {
        let limit = LogLimit::new(EVERY, 3);
        let start = Instant::now();
        assert_eq!((0..10).filter(|_| limit.allow(start)).count(), 3);
        assert_eq!(limit.take_suppressed(), 7);
        assert_eq!(limit.take_suppressed(), 0);
        assert!(!limit.allow(start + EVERY / 2));
        assert!(limit.allow(start + EVERY));
        assert!(!limit.allow(start + EVERY));
        assert_eq!(limit.take_suppressed(), 2);
    }

    #[test]
    fn silence_earns_a_burst_and_no_more() {
        let limit = LogLimit::new(EVERY, 3);
        let start = Instant::now();
        while limit.allow(start) {}
        let later = start + Duration::from_secs(3600);
        assert_eq!((0..10).filter(|_| limit.allow(later)).count(), 3);
    }

    #[test]
    fn degenerate_limits_still_work() {
        let now = Instant::now();
        let open = LogLimit::new(Duration::ZERO, 1);
        assert!((0..100).all(|_| open.allow(now)));
        let tight = LogLimit::new(EVERY, 0);
        assert!(tight.allow(now));
        assert!(!tight.allow(now));
        assert!(tight.allow(now + EVERY));
    }

    proptest! {
        #[test]
        fn never_more_than_burst_plus_elapsed(
            burst in 1u32..20,
            steps in proptest::collection::vec(0u64..300, 1..200),
        ) {
            let limit = LogLimit::new(EVERY, burst);
            let start = Instant::now();
            let mut now = start;
            let mut allowed = 0u128;
            for step in &steps {
                now += Duration::from_millis(*step);
                allowed += u128::from(limit.allow(now));
            }
            let elapsed = now.duration_since(start).as_millis() / EVERY.as_millis();
            prop_assert!(allowed <= u128::from(burst) + elapsed);
            prop_assert_eq!(allowed + u128::from(limit.take_suppressed()), steps.len() as u128);
        }
    }
}
