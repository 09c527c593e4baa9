//! Where collected values go, and where those come from that no cell holds.

use super::catalog::Metric;
use super::cell::HistogramSnapshot;

/// The labels of one series: names and values.
pub type Labels<'a> = [(&'static str, &'a str)];

/// Receives every series of a [`Registry`](super::Registry), in no particular order.
pub trait Sink {
    /// A count that only grows.
    fn counter(&mut self, metric: &Metric, labels: &Labels<'_>, value: u64);

    /// A count of seconds that only grows and has a fraction.
    fn seconds(&mut self, metric: &Metric, labels: &Labels<'_>, value: f64);

    /// A value as it is now.
    fn gauge(&mut self, metric: &Metric, labels: &Labels<'_>, value: f64);

    /// A distribution since the start.
    fn histogram(&mut self, metric: &Metric, labels: &Labels<'_>, value: &HistogramSnapshot);
}

/// Values that live outside the registry, read when it is collected: the loads of the shards, the
/// lengths of accept queues, what an embedder counts itself.
///
/// Runs on the thread that collects, several at a time if several collect. It must not block for
/// long, and should hold no `Arc` of the registry that it is added to: the two would keep each
/// other alive.
pub trait Source: Send + Sync {
    /// Gives every series of the source to `sink`.
    fn collect(&self, sink: &mut dyn Sink);
}

impl<F: Fn(&mut dyn Sink) + Send + Sync> Source for F {
    fn collect(&self, sink: &mut dyn Sink) {
        self(sink);
    }
}
