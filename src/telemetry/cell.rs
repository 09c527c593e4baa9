//! The cells that metrics are counted in.
//!
//! A cell has one writer, the thread of the shard or acceptor that owns it, and any number of
//! readers. So an update is a plain load and store: no read-modify-write instruction, no lock, no
//! allocation. Two writers are not undefined behaviour, but they lose updates of each other; what
//! several threads write is a [`SharedCounter`]. Where connections may end on any thread, as those of
//! guest runtimes do, *all* updates of their cells are atomic ones (`…_from_any_thread`).
//!
//! All accesses are relaxed, and no order between two cells is promised: a reader may see the bytes
//! of a connection before it sees the connection. There is nothing for a model checker to find
//! here, so the atomics are always std's.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A count that only grows. One writer; see the module's doc.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// A counter at zero.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds one.
    #[inline]
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `n`. Wraps at 2^64, which a count of bytes at 100 Gbit/s reaches after 46 years.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Adds `n` on any thread, for a cell of which every update is made so.
    #[inline]
    pub fn add_from_any_thread(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Brings the count up to a total that is counted elsewhere; one below it changes nothing.
    #[inline]
    pub fn raise_to(&self, total: u64) {
        self.0.store(self.0.load(Relaxed).max(total), Relaxed);
    }

    /// The count; callable on any thread.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A value that goes up and down. One writer; see the module's doc.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// A gauge at zero.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicI64::new(0))
    }

    /// Replaces the value.
    #[inline]
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// Adds `n`, which may be negative.
    #[inline]
    pub fn add(&self, n: i64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Adds `n` on any thread, for a cell of which every update is made so.
    #[inline]
    pub fn add_from_any_thread(&self, n: i64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The value; callable on any thread.
    #[must_use]
    pub fn value(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// A count that several threads add to, by an atomic read-modify-write. For what is rare: a line
/// of memory that all shards write costs each of them its cache.
#[derive(Debug, Default)]
pub struct SharedCounter(AtomicU64);

impl SharedCounter {
    /// A counter at zero.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The count.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[derive(Debug)]
struct Bucket {
    count: Counter,
    sum_nanos: Counter,
}

impl Bucket {
    const fn new() -> Self {
        Self { count: Counter::new(), sum_nanos: Counter::new() }
    }

    fn snapshot(&self) -> BucketSnapshot {
        BucketSnapshot { count: self.count.value(), sum_nanos: self.sum_nanos.value() }
    }
}

/// Durations by fixed buckets, with the sum of each bucket. One writer; see the module's doc.
///
/// `N` bounds make `N + 1` buckets; a bucket holds what is greater than the bound before it and at
/// most its own (`le` in Prometheus), the last one everything greater than all bounds. 16 bytes a
/// bucket.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds_nanos: &'static [u64; N],
    buckets: [Bucket; N],
    beyond: Bucket,
}

impl<const N: usize> Histogram<N> {
    /// An empty histogram over `bounds_nanos`, in nanoseconds and strictly ascending.
    #[must_use]
    pub const fn new(bounds_nanos: &'static [u64; N]) -> Self {
        Self { bounds_nanos, buckets: [const { Bucket::new() }; N], beyond: Bucket::new() }
    }

    /// Counts one duration.
    #[inline]
    pub fn observe(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let index = self.bounds_nanos.partition_point(|bound| *bound < nanos);
        let bucket = self.buckets.get(index).unwrap_or(&self.beyond);
        bucket.sum_nanos.add(nanos);
        bucket.count.increment();
    }

    /// The buckets as they are now; callable on any thread. What is observed meanwhile may be in
    /// a bucket's sum and not yet in its count; the next snapshot has both.
    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        let mut buckets: Vec<_> = self.buckets.iter().map(Bucket::snapshot).collect();
        buckets.push(self.beyond.snapshot());
        HistogramSnapshot { bounds_nanos: self.bounds_nanos, buckets }
    }
}

/// What a [`Histogram`] held at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramSnapshot {
    bounds_nanos: &'static [u64],
    buckets: Vec<BucketSnapshot>,
}

/// One bucket of a [`HistogramSnapshot`]: its own observations, not those of the smaller buckets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BucketSnapshot {
    /// How many observations fell into the bucket.
    pub count: u64,
    /// Their sum, in nanoseconds.
    pub sum_nanos: u64,
}

impl HistogramSnapshot {
    /// Adds the observations of another histogram over the same bounds.
    pub(super) fn add(&mut self, other: &HistogramSnapshot) {
        debug_assert_eq!(self.bounds_nanos, other.bounds_nanos);
        for (bucket, added) in self.buckets.iter_mut().zip(&other.buckets) {
            bucket.count += added.count;
            bucket.sum_nanos = bucket.sum_nanos.wrapping_add(added.sum_nanos);
        }
    }

    /// The upper bounds, in seconds, ascending; one fewer than there are buckets.
    pub fn bounds_seconds(&self) -> impl Iterator<Item = f64> + '_ {
        self.bounds_nanos.iter().map(|nanos| seconds(*nanos))
    }

    /// The buckets, ascending; the last one has no upper bound.
    #[must_use]
    pub fn buckets(&self) -> &[BucketSnapshot] {
        &self.buckets
    }

    /// All observations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.count).sum()
    }

    /// The sum of all observations, in seconds.
    #[must_use]
    pub fn sum_seconds(&self) -> f64 {
        self.buckets.iter().map(|bucket| seconds(bucket.sum_nanos)).sum()
    }
}

/// Nanoseconds as seconds: one correctly rounded division, so that a bound such as 10 µs is the
/// very number that `0.00001` is.
pub(super) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    static BOUNDS: [u64; 2] = [1_000, 2_000];

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let histogram = Histogram::new(&BOUNDS);
        for nanos in [0, 1_000, 1_001, 2_000, 2_001] {
            histogram.observe(Duration::from_nanos(nanos));
        }
        let snapshot = histogram.snapshot();
        let counts: Vec<u64> = snapshot.buckets().iter().map(|bucket| bucket.count).collect();
        assert_eq!(counts, [2, 2, 1]);
        assert_eq!(snapshot.count(), 5);
        let sums: Vec<u64> = snapshot.buckets().iter().map(|bucket| bucket.sum_nanos).collect();
        assert_eq!(sums, [1_000, 3_001, 2_001]);
    }

    #[test]
    fn the_longest_duration_is_counted() {
        let histogram = Histogram::new(&BOUNDS);
        histogram.observe(Duration::MAX);
        assert_eq!(histogram.snapshot().buckets()[2].count, 1);
    }

    #[test]
    fn bounds_are_the_decimal_numbers_that_they_read_as() {
        static ROUND: [u64; 3] = [10_000, 2_500_000, 1_000_000_000];
        let bounds: Vec<String> =
            Histogram::new(&ROUND).snapshot().bounds_seconds().map(|b| b.to_string()).collect();
        assert_eq!(bounds, ["0.00001", "0.0025", "1"]);
    }

    #[test]
    fn shared_counters_lose_nothing() {
        let counter = SharedCounter::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| counter.increment()));
            }
        });
        assert_eq!(counter.value(), 40_000);
    }

    #[test]
    fn gauges_go_below_zero_and_back() {
        let gauge = Gauge::new();
        gauge.add(-2);
        assert_eq!(gauge.value(), -2);
        gauge.add(5);
        assert_eq!(gauge.value(), 3);
        gauge.set(7);
        assert_eq!(gauge.value(), 7);
    }
}
