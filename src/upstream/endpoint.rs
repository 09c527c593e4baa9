//! One address that requests can go to, and the little that all shards must know of it together.
//!
//! *In:* requests that begin and end, failures in a row. *Out:* the numbers that policies and the
//! outlier ejection go by. *Never:* decides anything.
//!
//! # Why requests in flight are counted over all shards
//! A shard that knew only its own requests would take an endpoint for idle that the other shards
//! have overloaded, and with few requests a shard, which is the usual case, would see nothing but
//! ties. Counters of each shard, added up for each choice, would be a cache miss for each shard and
//! candidate, where one shared counter is one for each candidate. So it is one counter an endpoint,
//! with cache lines of its own, and only clusters whose policy looks at it count at all.

use std::{
    fmt,
    net::SocketAddr,
    ops::Deref,
    rc::Rc,
    sync::{
        Arc,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
};

use super::pool::PoolKey;

/// Names an endpoint, of whichever cluster, in this process. An endpoint that stays through a
/// reload keeps it, unless connections to it are made differently from then on; so connections that
/// are pooled under it can be used whenever it is seen again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(u64);

impl EndpointId {
    pub(crate) fn next() -> EndpointId {
        // It only has to differ from all others; it is never looked at.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        EndpointId(NEXT.fetch_add(1, Relaxed))
    }
}

/// What all shards count together, alone on its cache lines (two of 64 bytes: processors prefetch
/// lines in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Tally {
    in_flight: AtomicU32,
    failures: AtomicU32,
}

impl Tally {
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// One more failure; how many there are in a row with it.
    pub(super) fn failed(&self) -> u32 {
        self.failures.fetch_add(1, Relaxed).saturating_add(1)
    }

    /// No failures in a row any more. Where there were none, nothing is written.
    pub(super) fn succeeded(&self) {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }
}

/// An endpoint of a cluster. Never changed: another weight is another value with the same counts.
#[derive(Debug)]
pub struct Endpoint {
    pub(super) id: EndpointId,
    pub(super) address: SocketAddr,
    /// As it was configured.
    pub(super) authority: Arc<str>,
    pub(super) weight: u32,
    pub(super) tally: Arc<Tally>,
}

impl Endpoint {
    /// Its name in pools and reports.
    pub fn id(&self) -> EndpointId {
        self.id
    }

    /// The key for idle connections to it.
    pub fn pool_key(&self) -> PoolKey {
        PoolKey::Endpoint(self.id)
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `host:port` as it was configured, for a `Host` field where the client sent none.
    pub fn authority(&self) -> &Arc<str> {
        &self.authority
    }

    /// Its share of the requests, relative to that of the others.
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// Requests in flight to it, over all shards; 0 where the cluster's policy does not count them.
    pub fn in_flight(&self) -> u32 {
        self.tally.in_flight()
    }
}

/// A shard's handle to an endpoint: cloning it touches no memory that other shards write.
#[derive(Clone)]
pub struct Target(Rc<Held>);

struct Held {
    endpoint: Arc<Endpoint>,
    /// Whether requests to it are counted.
    counts: bool,
}

impl Target {
    pub(super) fn new(endpoint: Arc<Endpoint>, counts: bool) -> Target {
        Target(Rc::new(Held { endpoint, counts }))
    }

    /// Counts a request to the endpoint until the guard is dropped, if the policy looks at that.
    pub fn begin_request(&self) -> InFlight {
        if self.0.counts {
            self.0.endpoint.tally.in_flight.fetch_add(1, Relaxed);
        }
        InFlight(self.clone())
    }
}

impl Deref for Target {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.0.endpoint
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.endpoint.fmt(f)
    }
}

/// A request in flight to an endpoint.
#[derive(Debug)]
#[must_use = "dropping it ends the request"]
pub struct InFlight(Target);

impl InFlight {
    /// Where the request is.
    pub fn target(&self) -> &Target {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.0.counts {
            self.0.endpoint().tally.in_flight.fetch_sub(1, Relaxed);
        }
    }
}

impl Target {
    fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }
}

/// The endpoints that a request has been sent to already, so that a retry goes elsewhere.
///
/// It holds [`Tried::MOST`]; of more, the oldest are forgotten.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    ids: [Option<EndpointId>; Tried::MOST],
    next: usize,
}

impl Tried {
    /// How many it holds.
    pub const MOST: usize = 8;

    /// For a first try.
    pub fn none() -> Tried {
        Tried::default()
    }

    /// Adds an endpoint.
    pub fn add(&mut self, id: EndpointId) {
        self.ids[self.next % Tried::MOST] = Some(id);
        self.next += 1;
    }

    /// Whether a request has been sent there.
    pub fn contains(&self, id: EndpointId) -> bool {
        self.ids.contains(&Some(id))
    }

    /// Whether this is a first try.
    pub fn is_empty(&self) -> bool {
        self.next == 0
    }

    /// Starts over, for a retry that may go where it has been.
    pub fn forget(&mut self) {
        *self = Tried::none();
    }
}

/// Which endpoints may be chosen, a bit for each.
///
/// In one or a few words, so that looking over a hundred endpoints does not touch a hundred cache
/// lines. Written under the cluster's lock, read by every choice.
#[derive(Debug)]
pub(super) struct Availability {
    words: Box<[AtomicU64]>,
}

impl Availability {
    pub(super) fn new(endpoints: usize) -> Availability {
        Availability { words: (0..endpoints.div_ceil(64)).map(|_| AtomicU64::new(0)).collect() }
    }

    pub(super) fn get(&self, index: usize) -> bool {
        self.words[index / 64].load(Relaxed) >> (index % 64) & 1 == 1
    }

    pub(super) fn set(&self, index: usize, available: bool) {
        let bit = 1 << (index % 64);
        match available {
            true => self.words[index / 64].fetch_or(bit, SeqCst),
            false => self.words[index / 64].fetch_and(!bit, SeqCst),
        };
    }

    pub(super) fn count(&self) -> usize {
        self.words.iter().map(|word| word.load(SeqCst).count_ones() as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_apart() {
        let availability = Availability::new(130);
        for index in [0, 63, 64, 129] {
            availability.set(index, true);
        }
        availability.set(63, false);
        let set: Vec<_> = (0..130).filter(|&index| availability.get(index)).collect();
        assert_eq!((set, availability.count()), (vec![0, 64, 129], 3));
    }

    #[test]
    fn a_request_knows_where_it_has_been_lately() {
        let ids: Vec<_> = (0..Tried::MOST + 1).map(|_| EndpointId::next()).collect();
        let mut tried = Tried::none();
        assert!(!tried.contains(ids[0]));
        ids[..Tried::MOST].iter().for_each(|&id| tried.add(id));
        assert!(ids[..Tried::MOST].iter().all(|&id| tried.contains(id)));
        tried.add(ids[Tried::MOST]);
        assert!(tried.contains(ids[Tried::MOST]) && !tried.contains(ids[0]));
        tried.forget();
        assert!(!tried.contains(ids[1]));
    }
}
