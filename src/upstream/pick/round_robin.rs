//! Round robin by weight, smoothly: an endpoint of weight 5 among others of weight 1 is not chosen
//! five times in a row.
//!
//! Each turn every endpoint earns its weight, and the richest is chosen and pays what all earned
//! together. Earnings are bounded, so shares are exact over time, and whoever has anything to earn
//! is the richest in the end. An endpoint that may not be chosen earns nothing meanwhile, and has
//! nothing to catch up on when it is back.

use fastrand::Rng;

use super::Candidates;

/// A shard's place in the turns of a snapshot's endpoints.
#[derive(Debug)]
pub(crate) struct RoundRobin {
    purses: Box<[Purse]>,
}

#[derive(Debug)]
struct Purse {
    weight: i64,
    has: i64,
}

impl RoundRobin {
    /// Begins somewhere in the turns, at random: all shards begin when a cluster changes, and must
    /// not all begin with the same endpoint.
    pub(crate) fn new(weights: impl Iterator<Item = u32> + Clone, random: &mut Rng) -> RoundRobin {
        let total: i64 = weights.clone().map(i64::from).sum();
        let purse = |weight| Purse { weight: i64::from(weight), has: random.i64(0..total.max(1)) };
        RoundRobin { purses: weights.map(purse).collect() }
    }

    pub(crate) fn next(&mut self, candidates: &Candidates<'_>) -> Option<usize> {
        let mut earned = 0;
        let mut richest: Option<(usize, i64)> = None;
        for (index, purse) in self.purses.iter_mut().enumerate() {
            if candidates.may_be_chosen(index) {
                purse.has += purse.weight;
                earned += purse.weight;
                if richest.is_none_or(|(_, most)| purse.has > most) {
                    richest = Some((index, purse.has));
                }
            }
        }
        let (chosen, _) = richest?;
        self.purses[chosen].has -= earned;
        Some(chosen)
    }
}
