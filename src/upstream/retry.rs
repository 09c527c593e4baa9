//! Retries: how many, how far apart, and how many at a time over all shards.
//!
//! *In:* settings, and which retry it is. *Out:* how long to wait before it, and whether there is
//! room for it. *Never:* decides whether a request may be retried at all: that is known only where
//! it is known what has been sent.

use std::time::Duration;

use super::limits::{Claim, Count};
use crate::sync::Arc;

/// What is retried, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Retries of a request, its first try not counted. Default: 1.
    pub attempts: u32,
    /// The pauses before them.
    pub backoff: Backoff,
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy { attempts: 1, backoff: Backoff::default() }
    }
}

impl RetryPolicy {
    pub(super) fn check(&self) -> Result<(), &'static str> {
        match self.backoff.base {
            Duration::ZERO => Err("the pause before a retry must not be 0"),
            _ => Ok(()),
        }
    }
}

/// Exponential back-off with full jitter: any pause up to a bound that doubles is as likely as any
/// other, so that requests which failed together are not retried together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The bound for the first retry. Default: 25 ms.
    pub base: Duration,
    /// The greatest bound. Default: 250 ms.
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { base: Duration::from_millis(25), longest: Duration::from_millis(250) }
    }
}

impl Backoff {
    /// The pause before the `retry`th retry (from 1). `random` is from 0 to 1, drawn for each.
    ///
    /// The bound is `base * (2^retry - 1)`, so 25, 75, 175, then 250 ms.
    pub fn pause(self, retry: u32, random: f64) -> Duration {
        let times = (1_u32 << retry.clamp(1, 31)) - 1;
        let bound = self.base.saturating_mul(times).min(self.longest.max(self.base));
        bound.mul_f64(random.clamp(0.0, 1.0))
    }
}

/// How many retries there may be at a time: a share of the cluster's requests that are under way.
///
/// It belongs to the cluster, whatever routes say of their retries: it is the cluster that it
/// protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// So many retries for a hundred requests under way. Default: 20.
    pub percent: u32,
    /// So many at a time in any case. Default: 3.
    pub least: u32,
}

impl Default for RetryBudget {
    fn default() -> RetryBudget {
        RetryBudget { percent: 20, least: 3 }
    }
}

impl RetryBudget {
    /// How many retries there may be beside so many requests.
    pub(super) fn most(self, active: u32) -> u32 {
        let share = u64::from(active) * u64::from(self.percent) / 100;
        u32::try_from(share).unwrap_or(u32::MAX).max(self.least)
    }
}

/// The counts that a budget needs, over all shards.
#[derive(Debug)]
pub(super) struct RetryCounts {
    requests: Arc<Count>,
    retries: Arc<Count>,
}

impl RetryCounts {
    pub(super) fn new() -> RetryCounts {
        RetryCounts { requests: Count::new(), retries: Count::new() }
    }

    /// Counts a request, where a budget depends on it.
    pub(super) fn begin_request(&self, budget: Option<RetryBudget>) -> Claim {
        match budget {
            Some(_) => Count::add(&self.requests),
            None => Claim::UNLIMITED,
        }
    }

    /// Claims room for a retry; `None` if the budget is used up.
    pub(super) fn claim_retry(&self, budget: Option<RetryBudget>) -> Option<Claim> {
        match budget {
            Some(budget) => Count::add_below(&self.retries, budget.most(self.requests.get())),
            None => Some(Claim::UNLIMITED),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_double_up_to_the_longest() {
        let bounds = (1..=6).map(|retry| Backoff::default().pause(retry, 1.0).as_millis());
        assert_eq!(bounds.collect::<Vec<_>>(), [25, 75, 175, 250, 250, 250]);
        assert_eq!(Backoff::default().pause(3, 0.0), Duration::ZERO);
    }

    #[test]
    fn a_budget_is_a_share_of_the_requests_under_way() {
        let counts = RetryCounts::new();
        let budget = Some(RetryBudget::default());
        let retry = || counts.claim_retry(budget);
        let few: Vec<_> = std::iter::from_fn(retry).collect();
        assert_eq!(few.len(), 3, "in any case");
        let requests: Vec<_> = (0..40).map(|_| counts.begin_request(budget)).collect();
        let more: Vec<_> = std::iter::from_fn(retry).collect();
        assert_eq!(few.len() + more.len(), 8, "a fifth of 40");
        drop(requests);
        drop(more);
        assert!(retry().is_none(), "three are under way");
        drop(few);
        assert!(retry().is_some());
    }

    #[test]
    fn without_a_budget_nothing_is_counted() {
        let counts = RetryCounts::new();
        let _requests: Vec<_> = (0..9).map(|_| counts.begin_request(None)).collect();
        let _retries: Vec<_> = (0..9).map(|_| counts.claim_retry(None).unwrap()).collect();
        assert_eq!((counts.requests.get(), counts.retries.get()), (0, 0));
    }

    proptest! {
        #[test]
        fn a_pause_is_within_its_bound(
            base in 1_u64..1_000, longest in 0_u64..10_000, retry: u32, random: f64,
        ) {
            let backoff = Backoff {
                base: Duration::from_millis(base),
                longest: Duration::from_millis(longest),
            };
            prop_assume!(!random.is_nan());
            let pause = backoff.pause(retry, random);
            prop_assert!(pause <= backoff.longest.max(backoff.base));
        }
    }
}
