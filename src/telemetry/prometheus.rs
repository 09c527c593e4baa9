//! The Prometheus text of a registry.
//!
//! Counters and gauges go through a recorder of the `metrics-exporter-prometheus` crate, an
//! instance of our own that nobody installs globally; an embedder may record its own metrics to it
//! and finds them in the same text.
//!
//! Histograms, and counters of seconds that have a fraction, are written here. The exporter knows a
//! histogram only by its observations, keeps each in 16 bytes until the next rendering, and its
//! counters are whole numbers: a busy proxy that nobody scrapes for a day would hand it some
//! billions of turns at once. Our cells are buckets already, so that their text is written in
//! microseconds, whenever the last scrape was.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use metrics::{KeyName, Recorder, SharedString};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::catalog::Metric;
use super::cell::HistogramSnapshot;
use super::publish::{METADATA, key};
use super::registry::Registry;
use super::sink::{Labels, Sink};

/// Renders registries in the Prometheus text format, version 0.0.4.
///
/// Rendering is for scrapes: it allocates, and takes two to four milliseconds for each thousand
/// series, most of it in the exporter. Several threads may render at the same time.
#[derive(Debug)]
pub struct PrometheusRenderer {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Default for PrometheusRenderer {
    fn default() -> Self {
        Self::new()
    }
}

impl PrometheusRenderer {
    /// The Content-Type of what [`PrometheusRenderer::render`] returns.
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// A renderer with a recorder of its own.
    #[must_use]
    pub fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        Self { recorder, handle }
    }

    /// The recorder, for metrics of an embedder that shall appear in the same text. Observations
    /// of histograms pile up in it until the next rendering.
    #[must_use]
    pub fn recorder(&self) -> &(dyn Recorder + Sync) {
        &self.recorder
    }

    /// The text of everything in `registry` and in the recorder as it is now.
    #[must_use]
    pub fn render(&self, registry: &Registry) -> String {
        let mut text =
            Text { recorder: &self.recorder, described: HashSet::new(), families: BTreeMap::new() };
        registry.collect(&mut text);
        let families = text.families;
        // Drains the histograms that an embedder records; rendering does so as well, but only as a
        // side effect that no doc of the exporter promises.
        self.handle.run_upkeep();
        let mut rendered = self.handle.render();
        for (name, family) in families {
            let Family { help, kind, series } = family;
            let help = escape_help(help);
            _ = write!(rendered, "# HELP {name} {help}\n# TYPE {name} {kind}\n{series}\n");
        }
        rendered
    }
}

/// Sorts the series: to the exporter, or into families of text, because all series of a metric must
/// stand together.
struct Text<'a> {
    recorder: &'a PrometheusRecorder,
    described: HashSet<&'static str>,
    families: BTreeMap<&'static str, Family>,
}

struct Family {
    help: &'static str,
    kind: &'static str,
    series: String,
}

impl Text<'_> {
    fn series(&mut self, metric: &Metric, kind: &'static str) -> &mut String {
        let empty = || Family { help: metric.help, kind, series: String::new() };
        &mut self.families.entry(metric.name).or_insert_with(empty).series
    }
}

impl Sink for Text<'_> {
    fn counter(&mut self, metric: &Metric, labels: &Labels<'_>, value: u64) {
        if self.described.insert(metric.name) {
            let (name, help) = description(metric);
            self.recorder.describe_counter(name, metric.unit, help);
        }
        self.recorder.register_counter(&key(metric, labels), &METADATA).absolute(value);
    }

    fn seconds(&mut self, metric: &Metric, labels: &Labels<'_>, value: f64) {
        let series = self.series(metric, "counter");
        write_series(series, metric.name, "", labels, None, value);
    }

    fn gauge(&mut self, metric: &Metric, labels: &Labels<'_>, value: f64) {
        if self.described.insert(metric.name) {
            let (name, help) = description(metric);
            self.recorder.describe_gauge(name, metric.unit, help);
        }
        self.recorder.register_gauge(&key(metric, labels), &METADATA).set(value);
    }

    fn histogram(&mut self, metric: &Metric, labels: &Labels<'_>, value: &HistogramSnapshot) {
        let series = self.series(metric, "histogram");
        let mut cumulative = 0;
        let bounds = value.bounds_seconds().map(|bound| bound.to_string());
        for (bucket, bound) in value.buckets().iter().zip(bounds.chain(["+Inf".to_owned()])) {
            cumulative += bucket.count;
            write_series(series, metric.name, "_bucket", labels, Some(&bound), cumulative);
        }
        write_series(series, metric.name, "_sum", labels, None, value.sum_seconds());
        write_series(series, metric.name, "_count", labels, None, cumulative);
    }
}

fn description(metric: &Metric) -> (KeyName, SharedString) {
    (KeyName::from_const_str(metric.name), SharedString::const_str(metric.help))
}

fn write_series(
    text: &mut String,
    name: &str,
    suffix: &str,
    labels: &Labels<'_>,
    bound: Option<&str>,
    value: impl std::fmt::Display,
) {
    text.push_str(name);
    text.push_str(suffix);
    let mut separator = '{';
    for (label, value) in labels.iter().copied().chain(bound.map(|bound| ("le", bound))) {
        _ = write!(text, "{separator}{label}=\"{}\"", escape_value(value));
        separator = ',';
    }
    if separator == ',' {
        text.push('}');
    }
    _ = writeln!(text, " {value}");
}

fn escape_value(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}

fn escape_help(help: &str) -> String {
    help.replace('\\', r"\\").replace('\n', r"\n")
}

#[cfg(test)]
mod tests;
