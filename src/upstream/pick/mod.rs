//! The policies: which endpoint, given those that may be chosen.
//!
//! *In:* [`Candidates`], and what the policy goes by: turns, randomness, a key. *Out:* the position
//! of an endpoint. *Never:* allocates, waits, or takes an endpoint that is not available or was
//! tried before.

mod hash;
mod least_request;
mod round_robin;
mod sample;

use fastrand::Rng;

pub(super) use self::{
    hash::{by_hash, seed},
    least_request::least_request,
    round_robin::RoundRobin,
    sample::Sampler,
};
use super::{
    endpoint::{Endpoint, Tried},
    snapshot::Snapshot,
};

/// The endpoints of a snapshot, and which of them may be chosen for one request.
pub(super) struct Candidates<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) tried: &'a Tried,
}

impl Candidates<'_> {
    fn len(&self) -> usize {
        self.snapshot.endpoints.len()
    }

    fn endpoint(&self, index: usize) -> &Endpoint {
        &self.snapshot.endpoints[index]
    }

    fn may_be_chosen(&self, index: usize) -> bool {
        self.snapshot.available.get(index) && !self.was_tried(index)
    }

    fn was_tried(&self, index: usize) -> bool {
        !self.tried.is_empty() && self.tried.contains(self.endpoint(index).id)
    }

    /// One of them, drawn by weight.
    pub(super) fn sample(&self, random: &mut Rng) -> Option<usize> {
        self.snapshot.sampler.sample(random, |index| self.may_be_chosen(index))
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
