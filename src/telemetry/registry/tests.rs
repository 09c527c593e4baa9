mod http;

use super::super::HistogramSnapshot;
use super::super::label::{AcceptError, CloseReason, ConnectFailure, LookupResult};
use super::*;
use std::time::Duration;

/// Every series as `name{label=value,…}`.
#[derive(Default)]
struct Series(BTreeMap<String, f64>);

impl Series {
    fn of(registry: &Registry) -> Self {
        let mut series = Self::default();
        registry.collect(&mut series);
        series
    }

    fn put(&mut self, metric: &Metric, labels: &[(&'static str, &str)], value: f64) {
        let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let series = format!("{}{{{}}}", metric.name, labels.join(","));
        assert_eq!(self.0.insert(series.clone(), value), None, "{series} came twice");
    }

    #[track_caller]
    fn assert(&self, series: &str, value: f64) {
        assert_eq!(self.0.get(series), Some(&value), "{series}");
    }
}

impl Sink for Series {
    fn counter(&mut self, metric: &Metric, labels: &[(&'static str, &str)], value: u64) {
        assert!(metric.name.ends_with("_total"), "{}", metric.name);
        self.put(metric, labels, value as f64);
    }

    fn seconds(&mut self, metric: &Metric, labels: &[(&'static str, &str)], value: f64) {
        assert!(metric.name.ends_with("_seconds_total"), "{}", metric.name);
        self.put(metric, labels, value);
    }

    fn gauge(&mut self, metric: &Metric, labels: &[(&'static str, &str)], value: f64) {
        assert!(!metric.name.ends_with("_total"), "{}", metric.name);
        self.put(metric, labels, value);
    }

    fn histogram(
        &mut self,
        metric: &Metric,
        labels: &[(&'static str, &str)],
        value: &HistogramSnapshot,
    ) {
        self.put(metric, labels, value.count() as f64);
    }
}

#[test]
fn every_shard_is_there_before_it_counts() {
    let registry = Registry::new(3);
    registry.listener("web", 1).connections.increment();
    _ = registry.cluster("reviews", 2);
    let series = Series::of(&registry);
    for shard in 0..3 {
        let count = f64::from(u8::from(shard == 1));
        series.assert(
            &format!("evenkeel_downstream_connections_total{{listener=web,shard={shard}}}"),
            count,
        );
        for name in ["shard_busy_seconds_total", "shard_turn_duration_seconds"] {
            series.assert(&format!("evenkeel_{name}{{shard={shard}}}"), 0.0);
        }
        series.assert(
            &format!("evenkeel_upstream_connections_active{{cluster=reviews,shard={shard}}}"),
            0.0,
        );
    }
}

#[test]
fn every_reason_is_there_at_zero() {
    let registry = Registry::new(1);
    _ = registry.listener("web", 0);
    _ = registry.cluster("c", 0);
    _ = registry.accept("web", 0);
    let series = Series::of(&registry);
    let all = |metric: &str, values: &[&str]| {
        for value in values {
            series.assert(&format!("evenkeel_{metric}={value}}}"), 0.0);
        }
    };
    let closed: Vec<_> = CloseReason::ALL.iter().map(|r| r.as_str()).collect();
    all("downstream_connections_closed_total{listener=web,reason", &closed);
    let rejected: Vec<_> = RejectReason::ALL.iter().map(|r| r.as_str()).collect();
    all("connections_rejected_total{listener=web,reason", &rejected);
    let failures: Vec<_> = ConnectFailure::ALL.iter().map(|r| r.as_str()).collect();
    all("upstream_connect_failures_total{cluster=c,reason", &failures);
    let errors: Vec<_> = AcceptError::ALL.iter().map(|r| r.as_str()).collect();
    all("accept_errors_total{listener=web,reason", &errors);
    let lookups: Vec<_> = LookupResult::ALL.iter().map(|r| r.as_str()).collect();
    all("original_destination_lookups_total{listener=web,result", &lookups);
    all("config_reloads_total{result", &["accepted", "refused"]);
}

#[test]
fn metrics_without_a_shard_label_sum_over_the_shards() {
    let registry = Registry::new(2);
    for shard in 0..2 {
        let listener = registry.listener("web", shard);
        listener.closed.increment(CloseReason::Done);
        listener.lookups.increment(LookupResult::Redirected);
        listener.rejected.increment(RejectReason::Loop);
        registry.cluster("c", shard).connect_failures.increment(ConnectFailure::Refused);
    }
    let series = Series::of(&registry);
    for name in [
        "downstream_connections_closed_total{listener=web,reason=done}",
        "original_destination_lookups_total{listener=web,result=redirected}",
        "connections_rejected_total{listener=web,reason=loop}",
        "upstream_connect_failures_total{cluster=c,reason=refused}",
    ] {
        series.assert(&format!("evenkeel_{name}"), 2.0);
    }
}

#[test]
fn acceptors_are_summed_and_the_worst_is_told() {
    let registry = Registry::new(1);
    for acceptor in 0..2 {
        let accept = registry.accept("web", acceptor);
        accept.accepts.add(5);
        accept.errors.increment(AcceptError::Emfile);
        accept.rejected.increment(RejectReason::Limit);
        accept.accepting.set(1);
        registry.acceptor(acceptor).handoffs_redealt.increment();
    }
    registry.acceptor(0).last_turn_unix_micros.set(1_700_000_000_500_000);
    registry.acceptor(1).last_turn_unix_micros.set(1_700_000_009_000_000);
    registry.listener("web", 0).rejected.increment(RejectReason::Limit);
    let series = Series::of(&registry);
    series.assert("evenkeel_accepts_total{listener=web}", 10.0);
    series.assert("evenkeel_accept_errors_total{listener=web,reason=EMFILE}", 2.0);
    series.assert("evenkeel_connections_rejected_total{listener=web,reason=limit}", 3.0);
    series.assert("evenkeel_accepting{listener=web}", 1.0);
    series.assert("evenkeel_acceptor_last_turn_timestamp_seconds{}", 1_700_000_000.5);
    series.assert("evenkeel_handoffs_redealt_total{}", 2.0);

    registry.accept("web", 1).accepting.set(0);
    Series::of(&registry).assert("evenkeel_accepting{listener=web}", 0.0);
}

#[test]
fn who_comes_back_finds_the_same_cells() {
    let registry = Registry::new(1);
    registry.listener("web", 0).connections.add(7);
    assert_eq!(registry.listener("web", 0).connections.value(), 7);
    assert_eq!(registry.listener("other", 0).connections.value(), 0);
}

#[test]
fn a_listener_is_shown_on_every_shard() {
    let registry = Registry::new(2);
    let cells = registry.listener("web", 1);
    cells.connections.add(9);
    cells.active.add(4);
    let shards = registry.listener_shards("web");
    assert_eq!(
        shards,
        [
            ListenerShard { shard: 0, active: 0, total: 0 },
            ListenerShard { shard: 1, active: 4, total: 9 },
        ]
    );
    assert_eq!(registry.listener_shards("unknown").len(), 2);
}

#[test]
fn sources_are_read_at_each_collection_and_may_use_the_registry() {
    let registry = Arc::new(Registry::new(1));
    let weak = Arc::downgrade(&registry);
    registry.add_source(move |sink: &mut dyn Sink| {
        let registry = weak.upgrade().unwrap();
        let total = registry.listener("web", 0).connections.value();
        sink.counter(&catalog::ACCEPTS, &[("listener", "from a source")], total);
    });
    registry.listener("web", 0).connections.add(3);
    Series::of(&registry).assert("evenkeel_accepts_total{listener=from a source}", 3.0);
    registry.listener("web", 0).connections.add(1);
    Series::of(&registry).assert("evenkeel_accepts_total{listener=from a source}", 4.0);
}

#[test]
fn what_the_shard_counts_about_itself_comes_out_in_its_unit() {
    let registry = Registry::new(1);
    let shard = registry.shard(0);
    shard.busy_nanos.add(1_500_000_000);
    shard.free_buffers.set(1024);
    shard.turn_duration.observe(Duration::from_micros(20));
    shard.completions.raise_to(70);
    shard.completions.raise_to(60);
    shard.completion_queue_overflows.increment();
    shard.tasks_panicked.increment();
    registry.proxy().shards_failed.increment();
    registry.proxy().reloaded(ReloadResult::Refused);
    let series = Series::of(&registry);
    series.assert("evenkeel_shard_busy_seconds_total{shard=0}", 1.5);
    series.assert("evenkeel_shard_free_buffers{shard=0}", 1024.0);
    series.assert("evenkeel_shard_turn_duration_seconds{shard=0}", 1.0);
    series.assert("evenkeel_completion_queue_overflows_total{shard=0}", 1.0);
    series.assert("evenkeel_shard_completions_total{shard=0}", 70.0);
    series.assert("evenkeel_tasks_panicked_total{shard=0}", 1.0);
    series.assert("evenkeel_shards_failed_total{}", 1.0);
    series.assert("evenkeel_config_reloads_total{result=refused}", 1.0);
}
