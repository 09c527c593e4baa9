//! Idle upstream connections of one shard.
//!
//! *In:* connections that a request has left ready for another one. *Out:* the one that was used
//! most recently, if it still lives. *Owns:* the connections while they are idle. *Never:* looks at
//! a clock, opens a connection, or reads from one: [`Idle::is_alive`] does that.
//!
//! Most recently used first keeps few connections busy and lets the others run into their timeout;
//! taking turns would keep as many alive as a burst once needed. Where there are too many, the one
//! that has been idle longest goes.
//!
//! ```text
//!  bucket (key)          oldest ◄─► … ◄─► newest        taken from the newest end
//!  lane (idle timeout)   oldest ◄─► … ◄─► newest        expires, and is evicted, from the oldest end
//!  destinations          least recently used ◄─► …      for keys that clients choose
//! ```
//!
//! A connection is in the list of its bucket, and in that of its lane: all with the same idle
//! timeout, whose order is that of their ends. A proxy has few different timeouts. A bucket is there
//! only while it has connections, so keys need no bound of their own; but those of original
//! destinations have one, so that what clients connect to does not push out the connections of
//! clusters.
//!
//! Nothing is allocated once the pool has been as full as it gets.

mod list;

use std::{
    collections::{HashMap, hash_map},
    net::SocketAddr,
    time::{Duration, Instant},
};

use rapidhash::quality::RandomState;
use slab::Slab;

use self::list::{Links, List};
use super::endpoint::EndpointId;

/// A connection that can be idle.
pub trait Idle {
    /// Whether another request can go over it: it is open, and nothing has arrived that nobody
    /// asked for. Asked right before it is used again; it must not wait.
    fn is_alive(&mut self) -> bool;

    /// Closes it in order.
    fn close(self)
    where
        Self: Sized,
    {
        drop(self);
    }
}

/// What an idle connection leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolKey {
    /// An endpoint of a cluster.
    Endpoint(EndpointId),
    /// An address that a client was connecting to.
    Destination {
        /// Names the cluster and how it connects.
        cluster: EndpointId,
        /// The address.
        address: SocketAddr,
    },
}

/// How many idle connections a shard keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// For each key. Default: 128.
    pub each: usize,
    /// Altogether. Default: 1,024.
    pub all: usize,
    /// Original destinations to which there are any. Default: 128.
    pub destinations: usize,
}

impl Default for PoolLimits {
    fn default() -> PoolLimits {
        PoolLimits { each: 128, all: 1024, destinations: 128 }
    }
}

/// What has become of connections since the pool was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Used again.
    pub reused: u64,
    /// Found dead when they were to be used again.
    pub dead: u64,
    /// Closed since they were idle for too long.
    pub expired: u64,
    /// Closed to keep to the limits, or since they were to be cleared.
    pub evicted: u64,
}

/// The idle connections of one shard, of all its clusters.
///
/// Connections are closed while the pool is borrowed: that must not come back to it.
#[derive(Debug)]
pub struct Pool<C> {
    limits: PoolLimits,
    entries: Slab<Entry<C>>,
    buckets: Slab<Bucket<C>>,
    /// Its hash is seeded at random, as clients have a say in some of the keys.
    by_key: HashMap<PoolKey, u32, RandomState>,
    lanes: Vec<Lane<C>>,
    /// The buckets of original destinations, in the order of their last use.
    destinations: List<Bucket<C>>,
    destination_count: usize,
    counts: PoolCounts,
}

#[derive(Debug)]
struct Entry<C> {
    connection: C,
    since: Instant,
    bucket: u32,
    lane: u32,
    in_bucket: Links,
    in_lane: Links,
}

#[derive(Debug)]
struct Bucket<C> {
    key: PoolKey,
    entries: List<Entry<C>>,
    len: usize,
    in_destinations: Links,
}

#[derive(Debug)]
struct Lane<C> {
    timeout: Option<Duration>,
    entries: List<Entry<C>>,
}

/// Why a connection leaves the pool.
#[derive(Clone, Copy)]
enum Leaves {
    Expired,
    Evicted,
}

impl<C: Idle> Pool<C> {
    /// An empty pool.
    pub fn new(limits: PoolLimits) -> Pool<C> {
        Pool {
            limits,
            entries: Slab::new(),
            buckets: Slab::new(),
            by_key: HashMap::default(),
            lanes: Vec::new(),
            destinations: List::new(|bucket| &mut bucket.in_destinations),
            destination_count: 0,
            counts: PoolCounts::default(),
        }
    }

    /// Takes out the most recently used connection that is alive. Those that turn out to be dead,
    /// or idle for too long, are closed.
    pub fn get(&mut self, key: &PoolKey, now: Instant) -> Option<C> {
        let bucket = *self.by_key.get(key)?;
        while let Some(newest) = self.buckets.get(bucket as usize)?.entries.newest() {
            if self.is_over(newest, now) {
                // The others have been idle for longer still.
                self.empty(bucket, Leaves::Expired);
                return None;
            }
            let mut connection = self.take(newest);
            if connection.is_alive() {
                self.counts.reused += 1;
                return Some(connection);
            }
            connection.close();
            self.counts.dead += 1;
        }
        None
    }

    /// Takes in a connection that is ready for a request. It is closed once it has been idle for
    /// `timeout`; `None`: not for that reason. Where a limit is reached, the connection goes that
    /// has been idle longest, among those that the limit is about.
    pub fn put(&mut self, key: PoolKey, connection: C, timeout: Option<Duration>, now: Instant) {
        if self.limits.each == 0 || self.limits.all == 0 {
            connection.close();
            self.counts.evicted += 1;
            return;
        }
        self.make_room(&key);
        let lane = self.lane(timeout);
        let Some(bucket) = self.bucket(key) else {
            connection.close();
            self.counts.evicted += 1;
            return;
        };
        let entry = Entry {
            connection,
            since: now,
            bucket,
            lane,
            in_bucket: Links::default(),
            in_lane: Links::default(),
        };
        let index = self.entries.insert(entry) as u32;
        self.lanes[lane as usize].entries.push(&mut self.entries, index);
        let bucket = &mut self.buckets[bucket as usize];
        bucket.entries.push(&mut self.entries, index);
        bucket.len += 1;
    }

    /// When [`expire`](Pool::expire) has something to do.
    pub fn next_expiry(&self) -> Option<Instant> {
        let end = |lane: &Lane<C>| {
            let oldest = &self.entries[lane.entries.oldest()? as usize];
            oldest.since.checked_add(lane.timeout?)
        };
        self.lanes.iter().filter_map(end).min()
    }

    /// Closes what has been idle for too long, and says how many.
    pub fn expire(&mut self, now: Instant) -> usize {
        let before = self.entries.len();
        for lane in 0..self.lanes.len() {
            while let Some(oldest) = self.lanes[lane].entries.oldest() {
                if !self.is_over(oldest, now) {
                    break;
                }
                self.close(oldest, Leaves::Expired);
            }
        }
        before - self.entries.len()
    }

    /// Closes the first that `is_it`, beginning with the ones that have been idle longest among those
    /// with the same timeout. Whether there was one. It may look at all of them.
    pub fn close_one(&mut self, mut is_it: impl FnMut(&mut C) -> bool) -> bool {
        for lane in 0..self.lanes.len() {
            let mut next = self.lanes[lane].entries.oldest();
            while let Some(index) = next {
                let entry = &mut self.entries[index as usize];
                if is_it(&mut entry.connection) {
                    self.close(index, Leaves::Evicted);
                    return true;
                }
                next = entry.in_lane.newer();
            }
        }
        false
    }

    /// Closes all connections of a key.
    pub fn clear(&mut self, key: &PoolKey) {
        if let Some(&bucket) = self.by_key.get(key) {
            self.empty(bucket, Leaves::Evicted);
        }
    }

    /// Closes all connections.
    pub fn clear_all(&mut self) {
        while let Some(oldest) = self.longest_idle() {
            self.close(oldest, Leaves::Evicted);
        }
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many connections of a key there are.
    pub fn len_of(&self, key: &PoolKey) -> usize {
        self.by_key.get(key).map_or(0, |&bucket| self.buckets[bucket as usize].len)
    }

    /// What has become of connections so far.
    pub fn counts(&self) -> PoolCounts {
        self.counts
    }

    /// Closes what stands in the way of one more connection of `key`.
    fn make_room(&mut self, key: &PoolKey) {
        match self.by_key.get(key) {
            Some(&bucket) if self.buckets[bucket as usize].len >= self.limits.each => {
                if let Some(oldest) = self.buckets[bucket as usize].entries.oldest() {
                    self.close(oldest, Leaves::Evicted);
                }
            }
            None if matches!(key, PoolKey::Destination { .. })
                && self.destination_count >= self.limits.destinations =>
            {
                if let Some(least_recent) = self.destinations.oldest() {
                    self.empty(least_recent, Leaves::Evicted);
                }
            }
            _ => {}
        }
        while self.entries.len() >= self.limits.all {
            let Some(oldest) = self.longest_idle() else { return };
            self.close(oldest, Leaves::Evicted);
        }
    }

    fn longest_idle(&self) -> Option<u32> {
        let oldest = self.lanes.iter().filter_map(|lane| lane.entries.oldest());
        oldest.min_by_key(|&index| self.entries[index as usize].since)
    }

    fn is_over(&self, index: u32, now: Instant) -> bool {
        let entry = &self.entries[index as usize];
        let timeout = self.lanes[entry.lane as usize].timeout;
        timeout.is_some_and(|timeout| now.saturating_duration_since(entry.since) >= timeout)
    }

    /// The lane of a timeout. One that is empty may change its timeout, so there are never more
    /// than there are connections.
    fn lane(&mut self, timeout: Option<Duration>) -> u32 {
        let same = self.lanes.iter().position(|lane| lane.timeout == timeout);
        let found = same.or_else(|| self.lanes.iter().position(|it| it.entries.oldest().is_none()));
        let lane = found.unwrap_or_else(|| {
            let entries = List::new(|entry: &mut Entry<C>| &mut entry.in_lane);
            self.lanes.push(Lane { timeout, entries });
            self.lanes.len() - 1
        });
        self.lanes[lane].timeout = timeout;
        lane as u32
    }

    /// The bucket of a key, made where there is none; it is the most recently used one then. `None`
    /// for an original destination where none are kept.
    fn bucket(&mut self, key: PoolKey) -> Option<u32> {
        let is_destination = matches!(key, PoolKey::Destination { .. });
        if is_destination && self.limits.destinations == 0 {
            return None;
        }
        let bucket = match self.by_key.entry(key) {
            hash_map::Entry::Occupied(known) => {
                if is_destination {
                    self.destinations.remove(&mut self.buckets, *known.get());
                }
                *known.get()
            }
            hash_map::Entry::Vacant(place) => {
                self.destination_count += usize::from(is_destination);
                let bucket = self.buckets.insert(Bucket {
                    key,
                    entries: List::new(|entry| &mut entry.in_bucket),
                    len: 0,
                    in_destinations: Links::default(),
                });
                *place.insert(bucket as u32)
            }
        };
        if is_destination {
            self.destinations.push(&mut self.buckets, bucket);
        }
        Some(bucket)
    }

    fn empty(&mut self, bucket: u32, why: Leaves) {
        while let Some(oldest) =
            self.buckets.get(bucket as usize).and_then(|bucket| bucket.entries.oldest())
        {
            self.close(oldest, why);
        }
    }

    fn close(&mut self, index: u32, why: Leaves) {
        self.take(index).close();
        match why {
            Leaves::Expired => self.counts.expired += 1,
            Leaves::Evicted => self.counts.evicted += 1,
        }
    }

    /// Takes a connection out of all lists, and its bucket away with the last one.
    fn take(&mut self, index: u32) -> C {
        let Entry { bucket, lane, .. } = self.entries[index as usize];
        self.lanes[lane as usize].entries.remove(&mut self.entries, index);
        let owner = &mut self.buckets[bucket as usize];
        owner.entries.remove(&mut self.entries, index);
        owner.len -= 1;
        if owner.len == 0 {
            let key = owner.key;
            if matches!(key, PoolKey::Destination { .. }) {
                self.destinations.remove(&mut self.buckets, bucket);
                self.destination_count -= 1;
            }
            self.by_key.remove(&key);
            self.buckets.remove(bucket as usize);
        }
        self.entries.remove(index as usize).connection
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
