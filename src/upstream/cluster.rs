//! A cluster: endpoints that serve the same requests, and what all shards know of them together.
//!
//! ```text
//!  reload ── settings ──┐                              ┌─► ClusterView of shard 0 ─► a target
//!  resolver ─ addresses ┼─► lock ─► Snapshot (ArcSwap) ┼─► ClusterView of shard 1 ─► a target
//!  health checks ───────┤             │ availability   └─► …
//!  outcomes of requests ┘             └ bits
//! ```
//!
//! *In:* settings, addresses, outcomes, the results of checks. *Out:* snapshots, claims on limits.
//! *Owns:* the record of every endpoint and all counts that shards share; they survive a reload,
//! since it changes the cluster's settings and not the cluster. *Never:* looks at a clock, waits on
//! the data path, or opens a connection.
//!
//! # Threads
//! Anything may be called from any thread. The lock is taken when an endpoint is ejected or comes
//! back, and when settings, addresses or health change: never by a request that went well.
//! A request looks at the snapshot, which each shard caches; at the word that says when the next
//! ejected endpoint is due; and at the counters of limits, where there are limits.
//!
//! # The last endpoint
//! Whether an endpoint may be ejected is decided, and recorded, under the lock. So shards that eject
//! at the same time go one after the other, and the second finds that the endpoint which it would
//! eject is the last. Where health checks or a change of addresses leave ejected endpoints only,
//! these come back at once.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use fastrand::Rng;

use super::{
    endpoint::{Endpoint, EndpointId},
    limits::{Breakers, Limit},
    outlier::{Outcome, Standing},
    retry::RetryCounts,
    settings::{ClusterSettings, EndpointAddress},
    snapshot::{Addresses, Snapshot},
};
use crate::telemetry::{CircuitLimit, ClusterState};

/// The most addresses of one name that are used.
const MOST_ADDRESSES: usize = 1024;

/// No endpoint is ejected.
const NEVER: u64 = u64::MAX;

/// A cluster, shared by all shards.
#[derive(Debug)]
pub struct Cluster {
    name: Arc<str>,
    /// What times in `next_return` are counted from.
    origin: Instant,
    snapshot: Arc<ArcSwap<Snapshot>>,
    roster: Mutex<Roster>,
    /// When the next ejected endpoint is due to come back: nanoseconds after `origin`.
    next_return: AtomicU64,
    pub(super) breakers: Breakers,
    pub(super) retries: RetryCounts,
}

/// What the lock guards.
#[derive(Debug)]
struct Roster {
    addresses: Addresses,
    /// In the order of the snapshot's endpoints.
    standings: Vec<Standing>,
    random: Rng,
}

/// One endpoint, for whoever looks at a cluster from outside.
#[derive(Clone, Debug)]
pub struct EndpointStatus {
    /// The endpoint as it was configured, `host:port`.
    pub authority: Arc<str>,
    /// Where it is.
    pub address: SocketAddr,
    /// Its share of the requests.
    pub weight: u32,
    /// Requests in flight to it, where the policy counts them.
    pub in_flight: u32,
    /// Whether health checks find it well; `true` without checks.
    pub healthy: bool,
    /// How long it stays ejected from now on.
    pub ejected_for: Option<Duration>,
}

impl Cluster {
    /// A cluster with these settings. Its names have no addresses yet.
    ///
    /// `now` is of the same clock as all other times that the cluster is told; `seed` is for the
    /// jitter of ejections.
    pub fn new(settings: ClusterSettings, now: Instant, seed: u64) -> Arc<Cluster> {
        let addresses = Addresses::new();
        let snapshot = Snapshot::new(Arc::new(settings), &addresses, None);
        let mut roster = Roster {
            standings: vec![Standing::new(); snapshot.endpoints.len()],
            addresses,
            random: Rng::with_seed(seed),
        };
        let cluster = Cluster {
            name: Arc::clone(&snapshot.settings.name),
            origin: now,
            next_return: AtomicU64::new(roster.settle(&snapshot, now, now)),
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            roster: Mutex::new(roster),
            breakers: Breakers::new(),
            retries: RetryCounts::new(),
        };
        Arc::new(cluster)
    }

    /// What it is called. A reload does not change it.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What it is at the moment.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    pub(super) fn shared_snapshot(&self) -> &Arc<ArcSwap<Snapshot>> {
        &self.snapshot
    }

    /// Changes the settings. Endpoints that stay keep their counts, ejections and health; limits
    /// keep what is claimed. The settings' name is not looked at.
    pub fn apply(&self, settings: ClusterSettings, now: Instant) {
        let mut roster = self.roster();
        roster.addresses.retain(|name, _| settings.host_names().any(|wanted| wanted == name));
        self.replace(&mut roster, Arc::new(settings), now);
    }

    /// Takes in the addresses of a name. At most 1,024 are used.
    pub fn set_addresses(&self, host: &Arc<str>, addresses: &[IpAddr], now: Instant) {
        let addresses = &addresses[..addresses.len().min(MOST_ADDRESSES)];
        let mut roster = self.roster();
        let settings = Arc::clone(&self.snapshot.load().settings);
        let is_mine = settings.host_names().any(|name| name == host);
        if is_mine && roster.addresses.get(host).is_none_or(|known| **known != *addresses) {
            roster.addresses.insert(Arc::clone(host), addresses.into());
            self.replace(&mut roster, settings, now);
        }
    }

    /// The names among the endpoints that have not been resolved yet.
    pub fn unresolved(&self) -> Vec<Arc<str>> {
        let roster = self.roster();
        let snapshot = self.snapshot.load();
        let names = snapshot.settings.host_names();
        names.filter(|name| !roster.addresses.contains_key(*name)).cloned().collect()
    }

    fn replace(&self, roster: &mut Roster, settings: Arc<ClusterSettings>, now: Instant) {
        let before = self.snapshot.load_full();
        let after = Snapshot::new(settings, &roster.addresses, Some(&before));
        let standing = |endpoint: &Arc<Endpoint>| {
            // By the counts, which stay with an endpoint whose id changes.
            let same = |other: &Arc<Endpoint>| Arc::ptr_eq(&endpoint.tally, &other.tally);
            let position = before.endpoints.iter().position(same);
            position.map_or_else(Standing::new, |at| roster.standings[at].clone())
        };
        roster.standings = after.endpoints.iter().map(standing).collect();
        if after.settings.health.is_none() {
            roster.standings.iter_mut().for_each(|standing| standing.healthy = true);
        }
        if after.settings.outlier.is_none() {
            roster.standings.iter_mut().for_each(|standing| standing.restore(now));
        }
        self.settle(roster, &after, now);
        self.snapshot.store(Arc::new(after));
    }

    /// Tells how a request to an endpoint ended. Without outlier settings this does nothing.
    pub(super) fn report(
        &self,
        snapshot: &Snapshot,
        endpoint: &Endpoint,
        outcome: Outcome,
        now: Instant,
    ) {
        let Some(outlier) = &snapshot.settings.outlier else { return };
        if !outcome.is_failure() {
            endpoint.tally.succeeded();
        } else if endpoint.tally.failed() >= outlier.consecutive_failures {
            // Whether it is ejected or may not be: it takes as many failures again.
            endpoint.tally.succeeded();
            self.eject(endpoint.id, now);
        }
    }

    /// Ejects an endpoint, unless it is the last one that is available or too many are ejected.
    fn eject(&self, id: EndpointId, now: Instant) {
        let mut roster = self.roster();
        let snapshot = self.snapshot.load();
        let (Some(position), Some(outlier)) = (snapshot.position(id), &snapshot.settings.outlier)
        else {
            return;
        };
        let ejected = roster.ejected();
        let is_available = roster.standings[position].is_available();
        let is_last = snapshot.available.count() <= 1;
        if is_available && !is_last && outlier.allows_another(ejected, snapshot.endpoints.len()) {
            let jitter = roster.random.f64();
            roster.standings[position].eject(outlier, now, jitter);
            self.settle(&mut roster, &snapshot, now);
        }
    }

    /// Takes back the endpoints whose time is over. Cheap where none is due.
    pub(super) fn restore_due(&self, now: Instant) {
        if self.next_return.load(Relaxed) > since(self.origin, now) {
            return;
        }
        let mut roster = self.roster();
        let snapshot = self.snapshot.load();
        for standing in &mut roster.standings {
            if standing.ejected_until.is_some_and(|until| until <= now) {
                standing.restore(now);
            }
        }
        self.settle(&mut roster, &snapshot, now);
    }

    /// Takes in what a health check found out. An endpoint that has gone is passed over.
    pub fn set_healthy(&self, id: EndpointId, healthy: bool, now: Instant) {
        let mut roster = self.roster();
        let snapshot = self.snapshot.load();
        if let Some(position) = snapshot.position(id) {
            roster.standings[position].healthy = healthy;
            self.settle(&mut roster, &snapshot, now);
        }
    }

    /// How many endpoints are ejected.
    pub fn ejected(&self) -> usize {
        self.roster().ejected()
    }

    /// How much of a limit is in use, of connections those in pools included; 0 for one that is absent.
    pub fn in_use(&self, limit: Limit) -> u32 {
        self.breakers.in_use(limit)
    }

    /// Whether a limit is used up. Idle connections give way, so that they do not count here.
    pub fn is_open(&self, limit: Limit) -> bool {
        self.breakers.is_open(limit, self.snapshot.load().settings.limits)
    }

    /// All endpoints as they are at `now`.
    pub fn status(&self, now: Instant) -> Vec<EndpointStatus> {
        let roster = self.roster();
        let snapshot = self.snapshot.load();
        let status = |(endpoint, standing): (&Arc<Endpoint>, &Standing)| EndpointStatus {
            authority: Arc::clone(&endpoint.authority),
            address: endpoint.address,
            weight: endpoint.weight,
            in_flight: endpoint.in_flight(),
            healthy: standing.healthy,
            ejected_for: standing.ejected_until.map(|until| until.saturating_duration_since(now)),
        };
        snapshot.endpoints.iter().zip(&roster.standings).map(status).collect()
    }

    /// Whether the settings have names among their endpoints.
    pub fn has_names(&self) -> bool {
        let is_name = |address: &EndpointAddress| matches!(address, EndpointAddress::Name { .. });
        self.snapshot.load().settings.endpoints.iter().any(|it| is_name(&it.address))
    }

    fn settle(&self, roster: &mut Roster, snapshot: &Snapshot, now: Instant) {
        self.next_return.store(roster.settle(snapshot, self.origin, now), SeqCst);
    }

    /// Every change of the roster is whole before the lock is given up, or of a single value.
    fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClusterState for Cluster {
    fn is_open(&self, limit: CircuitLimit) -> bool {
        Cluster::is_open(
            self,
            match limit {
                CircuitLimit::Connections => Limit::Connections,
                CircuitLimit::Pending => Limit::Pending,
                CircuitLimit::Requests => Limit::Requests,
                CircuitLimit::Retries => Limit::Retries,
            },
        )
    }

    fn ejected_endpoints(&self) -> usize {
        self.ejected()
    }
}

impl Roster {
    fn ejected(&self) -> usize {
        self.standings.iter().filter(|standing| standing.ejected_until.is_some()).count()
    }

    /// Brings the snapshot's bits up to date, and says when the next ejected endpoint is due.
    fn settle(&mut self, snapshot: &Snapshot, origin: Instant, now: Instant) -> u64 {
        if !self.standings.iter().any(Standing::is_available) {
            for standing in self.standings.iter_mut().filter(|standing| standing.healthy) {
                standing.restore(now);
            }
        }
        // First those that come, then those that go: no reader finds none in between.
        for available in [true, false] {
            for (index, standing) in self.standings.iter().enumerate() {
                if standing.is_available() == available {
                    snapshot.available.set(index, available);
                }
            }
        }
        let ends = self.standings.iter().filter_map(|standing| standing.ejected_until);
        ends.min().map_or(NEVER, |end| since(origin, end))
    }
}

fn since(origin: Instant, time: Instant) -> u64 {
    let elapsed = time.saturating_duration_since(origin).as_nanos();
    u64::try_from(elapsed).unwrap_or(NEVER)
}

#[cfg(all(test, not(loom)))]
mod tests;
