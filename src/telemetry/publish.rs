//! Publishing a registry to a recorder of the `metrics` crate.
//!
//! Counters are set to their absolute value, gauges to what they are now. A recorder knows
//! histograms only by single observations, so of each bucket the observations since the last
//! publication are recorded, all with one value: their mean, which lies in the bucket and keeps the
//! sum. A recorder with the same bounds then shows the same buckets, count and sum.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use metrics::{Key, KeyName, Label, Level, Metadata, Recorder, SharedString};

use super::catalog::Metric;
use super::cell::HistogramSnapshot;
use super::registry::Registry;
use super::sink::{Labels, Sink};

/// Publishes one registry to one recorder, and remembers how much of each histogram the recorder
/// already has.
///
/// Cost: one registration for each series. Observations are passed by
/// [`metrics::Histogram::record_many`], which a recorder may carry out one by one (the Prometheus
/// exporter does, keeping 16 bytes for each until it is rendered or its upkeep runs). A shard makes
/// some ten thousand turns a second under load, so publish every few seconds rather than every few
/// hours.
#[derive(Debug)]
pub struct Publisher<R> {
    registry: Arc<Registry>,
    recorder: R,
    described: HashSet<&'static str>,
    recorded: HashMap<Key, Vec<Recorded>>,
}

/// How much of one bucket the recorder has.
#[derive(Debug, Clone, Copy, Default)]
struct Recorded {
    count: u64,
    sum_seconds: f64,
}

impl<R: Recorder> Publisher<R> {
    /// A publisher to `recorder`, which may be a reference, a `Box` or an `Arc` of one.
    #[must_use]
    pub fn new(registry: Arc<Registry>, recorder: R) -> Self {
        Self { registry, recorder, described: HashSet::new(), recorded: HashMap::new() }
    }

    /// Publishes everything as it is now. Counters of seconds lose their fraction: the recorder's
    /// counters are whole numbers.
    pub fn publish(&mut self) {
        let registry = Arc::clone(&self.registry);
        registry.collect(self);
    }

    fn describe(&mut self, metric: &Metric, describe: Describe<R>) {
        if self.described.insert(metric.name) {
            let name = KeyName::from_const_str(metric.name);
            describe(&self.recorder, name, metric.unit, SharedString::const_str(metric.help));
        }
    }
}

type Describe<R> = fn(&R, KeyName, Option<metrics::Unit>, SharedString);

pub(super) static METADATA: Metadata<'static> =
    Metadata::new("evenkeel", Level::INFO, Some("evenkeel"));

pub(super) fn key(metric: &Metric, labels: &Labels<'_>) -> Key {
    let labels: Vec<Label> =
        labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect();
    Key::from_parts(metric.name, labels)
}

impl<R: Recorder> Sink for Publisher<R> {
    fn counter(&mut self, metric: &Metric, labels: &Labels<'_>, value: u64) {
        self.describe(metric, R::describe_counter);
        self.recorder.register_counter(&key(metric, labels), &METADATA).absolute(value);
    }

    fn seconds(&mut self, metric: &Metric, labels: &Labels<'_>, value: f64) {
        self.counter(metric, labels, value as u64);
    }

    fn gauge(&mut self, metric: &Metric, labels: &Labels<'_>, value: f64) {
        self.describe(metric, R::describe_gauge);
        self.recorder.register_gauge(&key(metric, labels), &METADATA).set(value);
    }

    fn histogram(&mut self, metric: &Metric, labels: &Labels<'_>, value: &HistogramSnapshot) {
        self.describe(metric, R::describe_histogram);
        let key = key(metric, labels);
        let histogram = self.recorder.register_histogram(&key, &METADATA);
        let recorded = self.recorded.entry(key).or_default();
        recorded.resize(value.buckets().len(), Recorded::default());
        let lower = std::iter::once(-f64::MIN_POSITIVE).chain(value.bounds_seconds());
        let upper = value.bounds_seconds().chain([f64::INFINITY]);
        for (((bucket, recorded), lower), upper) in
            value.buckets().iter().zip(recorded).zip(lower).zip(upper)
        {
            let Some((mean, count)) = recorded.advance(*bucket, lower, upper) else { continue };
            histogram.record_many(mean, count);
        }
    }
}

impl Recorded {
    /// The observations that are new: their mean and number. The mean is held inside the bucket,
    /// because a snapshot can have a sum that is ahead of its count, and a mean can be rounded; what
    /// the sum lacks thereby is made up for by the next observations.
    fn advance(
        &mut self,
        bucket: super::BucketSnapshot,
        lower: f64,
        upper: f64,
    ) -> Option<(f64, usize)> {
        let count = bucket.count.checked_sub(self.count).filter(|count| *count > 0)?;
        let sum = super::cell::seconds(bucket.sum_nanos) - self.sum_seconds;
        let mean = (sum / count as f64).max(lower.next_up()).min(upper.min(f64::MAX));
        self.count = bucket.count;
        self.sum_seconds += mean * count as f64;
        Some((mean, usize::try_from(count).unwrap_or(usize::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::cell::Histogram;
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    static BOUNDS: [u64; 3] = [10_000, 1_000_000, 1_000_000_000];

    fn bucket_of(seconds: f64) -> usize {
        BOUNDS.partition_point(|bound| super::super::cell::seconds(*bound) < seconds)
    }

    proptest! {
        /// Whatever is observed and however it is cut into publications, the recorder's counts are
        /// ours, its values lie in their buckets, and its sum is ours.
        #[test]
        fn what_is_recorded_is_what_was_observed(
            publications in proptest::collection::vec(
                proptest::collection::vec(
                    prop_oneof![
                        0u64..3_000_000_000,
                        proptest::sample::select(vec![0, 10_000, 10_001, 1_000_000, 1_000_000_000]),
                    ],
                    0..40,
                ),
                1..8,
            ),
        ) {
            let histogram = Histogram::new(&BOUNDS);
            let mut recorded = [Recorded::default(); 4];
            let mut counts = [0u64; 4];
            let mut sum = 0.0;
            let bounds: Vec<f64> = histogram.snapshot().bounds_seconds().collect();
            for observations in publications {
                for nanos in observations {
                    histogram.observe(Duration::from_nanos(nanos));
                }
                let snapshot = histogram.snapshot();
                for (index, bucket) in snapshot.buckets().iter().enumerate() {
                    let lower = if index == 0 { -f64::MIN_POSITIVE } else { bounds[index - 1] };
                    let upper = bounds.get(index).copied().unwrap_or(f64::INFINITY);
                    let Some((mean, count)) = recorded[index].advance(*bucket, lower, upper) else {
                        continue;
                    };
                    prop_assert_eq!(bucket_of(mean), index);
                    counts[index] += count as u64;
                    sum += mean * count as f64;
                }
            }
            let snapshot = histogram.snapshot();
            let expected: Vec<u64> = snapshot.buckets().iter().map(|b| b.count).collect();
            prop_assert_eq!(&counts[..], &expected[..]);
            prop_assert!((sum - snapshot.sum_seconds()).abs() <= 1e-9 * snapshot.sum_seconds().max(1.0));
        }
    }

    #[test]
    fn a_sum_ahead_of_its_count_stays_in_the_bucket_and_is_made_up_for() {
        let mut recorded = Recorded::default();
        let ahead = super::super::BucketSnapshot { count: 1, sum_nanos: 18_000 };
        let (mean, _) = recorded.advance(ahead, 0.0, 0.000_01).unwrap();
        assert!(mean <= 0.000_01);
        let whole = super::super::BucketSnapshot { count: 2, sum_nanos: 18_000 };
        let (next, _) = recorded.advance(whole, 0.0, 0.000_01).unwrap();
        assert!((mean + next - 0.000_018).abs() < 1e-15);
    }
}
