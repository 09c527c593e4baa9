//! Least request: the better of two.
//!
//! Taking the least loaded of all would send every shard, and every proxy, to the same endpoint
//! until its count catches up. Of two that are drawn at random the better one is nearly as good and
//! does not herd (Mitzenmacher, The power of two choices in randomized load balancing, 2001).
//!
//! The two are drawn by weight, and compared by requests in flight for their weight; the first wins
//! a tie. So an idle cluster is chosen from by weight, and a busy one is levelled by weight.

use fastrand::Rng;

use super::Candidates;

pub(crate) fn least_request(candidates: &Candidates<'_>, random: &mut Rng) -> Option<usize> {
    let first = candidates.sample(random)?;
    let others = |index| index != first && candidates.may_be_chosen(index);
    let Some(second) = candidates.snapshot.sampler.sample(random, others) else {
        return Some(first);
    };
    let (one, other) = (candidates.endpoint(first), candidates.endpoint(second));
    // In flight by weight, multiplied out.
    let load_of_one = u64::from(one.in_flight()) * u64::from(other.weight);
    let load_of_other = u64::from(other.in_flight()) * u64::from(one.weight);
    Some(if load_of_other < load_of_one { second } else { first })
}
