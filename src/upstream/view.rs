//! A cluster as one shard sees it: the shard's own place in the turns, its own randomness, and a
//! cached snapshot.
//!
//! *In:* a request that needs an endpoint, a claim, or a pause. *Out:* a target; a guard; a time.
//! *Owns:* nothing that another shard needs. *Never:* allocates for a choice, except for the first
//! one after the cluster has changed.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Cache};
use fastrand::Rng;

use super::{
    cluster::Cluster,
    endpoint::{Endpoint, Target, Tried},
    limits::{Claim, Limit, Overflow},
    outlier::Outcome,
    pick::{Candidates, RoundRobin, by_hash, least_request},
    places::Place,
    pool::PoolKey,
    retry::RetryPolicy,
    settings::{ClusterSettings, Policy},
    snapshot::Snapshot,
};

/// One shard's view of a cluster. It notices by itself when the cluster changes.
pub struct ClusterView {
    cluster: Arc<Cluster>,
    newest: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    /// What the rest was made for.
    snapshot: Arc<Snapshot>,
    targets: Box<[Target]>,
    turns: RoundRobin,
    random: Rng,
}

/// A request under way, as the cluster's limits and retry budget count it.
#[derive(Debug)]
#[must_use = "dropping it ends the request"]
pub struct RequestClaim {
    _limit: Claim,
    _budget: Claim,
}

/// A retry under way, as the limit and the budget of retries count it.
#[derive(Debug)]
#[must_use = "dropping it ends the retry"]
pub struct RetryClaim {
    _limit: Claim,
    _budget: Claim,
}

impl ClusterView {
    /// A view. With `seed` all its choices can be repeated; shards have different ones, so that they
    /// do not begin with the same endpoint.
    pub fn new(cluster: Arc<Cluster>, seed: u64) -> ClusterView {
        let mut random = Rng::with_seed(seed);
        let newest = Cache::new(Arc::clone(cluster.shared_snapshot()));
        let snapshot = cluster.snapshot();
        let (targets, turns) = view_of(&snapshot, &mut random);
        ClusterView { cluster, newest, snapshot, targets, turns, random }
    }

    /// What it is a view of.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The settings at the moment.
    pub fn settings(&mut self) -> &ClusterSettings {
        self.refresh();
        &self.snapshot.settings
    }

    /// Chooses an endpoint for a request.
    ///
    /// `key` is the value of the header that [`Policy::Hash`] names; other policies do not look at
    /// it. Endpoints in `tried` are passed over, and those that are ejected or unhealthy. `None`
    /// means that none is left: the flag UH, or for a retry that may go where it has been,
    /// [`Tried::forget`] and another call.
    pub fn pick(&mut self, key: Option<&[u8]>, tried: &Tried, now: Instant) -> Option<Target> {
        self.refresh();
        self.cluster.restore_due(now);
        let candidates = Candidates { snapshot: &self.snapshot, tried };
        let random = &mut self.random;
        let chosen = match (&self.snapshot.settings.policy, key) {
            (Policy::LeastRequest, _) => least_request(&candidates, random),
            (Policy::RoundRobin, _) => self.turns.next(&candidates),
            (Policy::Hash { .. }, Some(key)) => by_hash(&candidates, key),
            (Policy::Hash { .. }, None) | (Policy::Random, _) => candidates.sample(random),
        };
        chosen.map(|index| self.targets[index].clone())
    }

    /// The key for connections to an address that a client was connecting to. It changes when a
    /// reload changes how connections are made.
    pub fn destination_key(&mut self, address: SocketAddr) -> PoolKey {
        self.refresh();
        PoolKey::Destination { cluster: self.snapshot.elsewhere, address }
    }

    /// Tells how a request to an endpoint ended. It costs nothing unless the cluster has outlier
    /// settings, and a look at a counter where the request went well.
    pub fn report(&self, endpoint: &Endpoint, outcome: Outcome, now: Instant) {
        self.cluster.report(&self.snapshot, endpoint, outcome, now);
    }

    /// Counts a request from before an endpoint is chosen for it until it has ended, all its tries
    /// included.
    ///
    /// # Errors
    /// The limit of requests is used up.
    pub fn begin_request(&mut self) -> Result<RequestClaim, Overflow> {
        self.refresh();
        let limit = self.cluster.breakers.claim_request(self.snapshot.settings.limits)?;
        let budget = self.cluster.retries.begin_request(self.snapshot.settings.retry_budget);
        Ok(RequestClaim { _limit: limit, _budget: budget })
    }

    /// Counts a retry for as long as it is under way.
    ///
    /// # Errors
    /// The limit or the budget of retries is used up.
    pub fn claim_retry(&mut self) -> Result<RetryClaim, Overflow> {
        self.refresh();
        let limit = self.cluster.breakers.claim_retry(self.snapshot.settings.limits)?;
        let budget = self.cluster.retries.claim_retry(self.snapshot.settings.retry_budget);
        let budget = budget.ok_or(Overflow(Limit::Retries))?;
        Ok(RetryClaim { _limit: limit, _budget: budget })
    }

    /// Claims a place among the requests that wait for a connection.
    ///
    /// # Errors
    /// The limit is used up.
    pub fn claim_pending(&mut self) -> Result<Claim, Overflow> {
        self.refresh();
        self.cluster.breakers.claim_pending(self.snapshot.settings.limits)
    }

    /// Claims a connection. At the limit it takes the place of one that is idle, on whichever shard.
    ///
    /// # Errors
    /// So many are in use.
    pub fn claim_connection(&mut self) -> Result<Place, Overflow> {
        self.refresh();
        self.cluster.breakers.claim_connection(self.snapshot.settings.limits)
    }

    /// The pause before the `retry`th retry (from 1), drawn by the back-off of the route's policy, or
    /// the cluster's own.
    pub fn pause(&mut self, policy: &RetryPolicy, retry: u32) -> Duration {
        policy.backoff.pause(retry, self.random.f64())
    }

    fn refresh(&mut self) {
        if !Arc::ptr_eq(self.newest.load(), &self.snapshot) {
            self.snapshot = Arc::clone(self.newest.load());
            (self.targets, self.turns) = view_of(&self.snapshot, &mut self.random);
        }
    }
}

fn view_of(snapshot: &Snapshot, random: &mut Rng) -> (Box<[Target]>, RoundRobin) {
    let counts = snapshot.counts_requests();
    let target = |endpoint: &Arc<Endpoint>| Target::new(Arc::clone(endpoint), counts);
    let targets = snapshot.endpoints.iter().map(target).collect();
    let weights = snapshot.endpoints.iter().map(|endpoint| endpoint.weight);
    (targets, RoundRobin::new(weights, random))
}
