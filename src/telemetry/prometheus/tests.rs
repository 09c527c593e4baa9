use super::super::{
    CircuitLimit, CloseReason, ClusterState, CodeClass, Metric, Publisher, ResponseFlag,
};
use super::*;
use metrics_exporter_prometheus::Matcher;
use std::sync::Arc;
use std::time::Duration;

/// The exposition text, parsed strictly: any line that the format does not know is a panic.
#[derive(Debug, Default)]
struct Exposition {
    kinds: BTreeMap<String, String>,
    samples: BTreeMap<String, BTreeMap<Vec<(String, String)>, f64>>,
}

impl Exposition {
    fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line must end");
        let mut parsed = Self::default();
        let mut help = None;
        let mut family = String::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, text) = rest.split_once(' ').unwrap();
                assert!(!text.is_empty());
                help = Some(name.to_owned());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(["counter", "gauge", "histogram", "summary"].contains(&kind), "{line}");
                assert_eq!(help.take().as_deref(), Some(name), "HELP before TYPE: {line}");
                assert_eq!(parsed.kinds.insert(name.into(), kind.into()), None, "twice: {line}");
                name.clone_into(&mut family);
            } else {
                parsed.sample(&family, line);
            }
        }
        parsed.check_histograms();
        parsed
    }

    fn sample(&mut self, family: &str, line: &str) {
        let name_end = line.find(['{', ' ']).unwrap();
        let (name, rest) = line.split_at(name_end);
        assert!(
            name.chars().enumerate().all(|(i, c)| c == '_'
                || c == ':'
                || c.is_ascii_alphabetic()
                || (i > 0 && c.is_ascii_digit())),
            "{line}"
        );
        let suffixes: &[&str] = match self.kinds[family].as_str() {
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("not in {family}: {line}"));
        assert!(suffixes.contains(&suffix), "{line}");
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => parse_labels(rest),
            None => (Vec::new(), rest),
        };
        let value = value.strip_prefix(' ').unwrap();
        let value: f64 = if value == "+Inf" { f64::INFINITY } else { value.parse().unwrap() };
        let series = self.samples.entry(name.to_owned()).or_default();
        assert_eq!(series.insert(labels, value), None, "series twice: {line}");
    }

    fn check_histograms(&self) {
        for (name, _) in self.kinds.iter().filter(|(_, kind)| *kind == "histogram") {
            let counts = &self.samples[&format!("{name}_count")];
            assert_eq!(counts.len(), self.samples[&format!("{name}_sum")].len());
            for (labels, count) in counts {
                let buckets = self.buckets(name, labels);
                assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{buckets:?}");
                assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{name}");
            }
        }
    }

    fn buckets(&self, name: &str, labels: &[(String, String)]) -> Vec<(f64, f64)> {
        let mut buckets = Vec::new();
        for (series, count) in &self.samples[&format!("{name}_bucket")] {
            let (bound, rest): (Vec<_>, Vec<_>) =
                series.iter().cloned().partition(|(label, _)| label == "le");
            if rest == labels {
                let bound = bound[0].1.replace("+Inf", "inf").parse().unwrap();
                buckets.push((bound, *count));
            }
        }
        buckets.sort_by(|a: &(f64, f64), b| a.0.total_cmp(&b.0));
        buckets
    }

    #[track_caller]
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels: Vec<_> =
            labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.samples[name][&labels]
    }
}

fn parse_labels(mut rest: &str) -> (Vec<(String, String)>, &str) {
    let mut labels = Vec::new();
    loop {
        let (name, after) = rest.split_once("=\"").unwrap();
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().unwrap() {
                (end, '"') => break end,
                (_, '\\') => value.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    escaped @ ('\\' | '"') => escaped,
                    other => panic!("no such escape: {other}"),
                }),
                (_, other) => value.push(other),
            }
        };
        labels.push((name.to_owned(), value));
        match after[end + 1..].split_at(1) {
            (",", more) => rest = more,
            ("}", value) => return (labels, value),
            (other, _) => panic!("{other}"),
        }
    }
}

fn busy_registry() -> Arc<Registry> {
    let registry = Arc::new(Registry::new(2));
    let shard = registry.shard(1);
    for micros in [1, 10, 11, 700, 2_000_000] {
        shard.turn_duration.observe(Duration::from_micros(micros));
    }
    shard.busy_nanos.add(1_250_000_000);
    let listener = registry.listener("web", 0);
    listener.connections.add(3);
    listener.active.add(2);
    listener.closed.increment(CloseReason::Done);
    _ = registry.accept("web", 0);
    _ = registry.acceptor(0);
    _ = registry.cluster("reviews", 0);
    let http = registry.http_listener("web", 1);
    http.requests.increment(CodeClass::ServerError, ResponseFlag::UpstreamRequestTimeout);
    http.duration.observe(Duration::from_micros(300));
    _ = registry.http_cluster("reviews", 0);
    let state: Arc<dyn ClusterState> = Arc::new(Calm);
    registry.set_cluster_state("reviews", Arc::downgrade(&state));
    // The registry does not keep it.
    std::mem::forget(state);
    registry
}

/// A cluster that has nothing to tell.
struct Calm;

impl ClusterState for Calm {
    fn is_open(&self, _: CircuitLimit) -> bool {
        false
    }

    fn ejected_endpoints(&self) -> usize {
        0
    }
}

#[test]
fn the_text_is_strictly_valid_and_has_the_values() {
    let registry = busy_registry();
    let exposition = Exposition::parse(&PrometheusRenderer::new().render(&registry));
    let connections = "evenkeel_downstream_connections_total";
    assert_eq!(exposition.kinds[connections], "counter");
    assert_eq!(exposition.value(connections, &[("listener", "web"), ("shard", "0")]), 3.0);
    assert_eq!(exposition.value(connections, &[("listener", "web"), ("shard", "1")]), 0.0);
    let active = "evenkeel_downstream_connections_active";
    assert_eq!(exposition.kinds[active], "gauge");
    assert_eq!(exposition.value(active, &[("listener", "web"), ("shard", "0")]), 2.0);
    let busy = "evenkeel_shard_busy_seconds_total";
    assert_eq!(exposition.kinds[busy], "counter");
    assert_eq!(exposition.value(busy, &[("shard", "1")]), 1.25);
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(exposition.value("evenkeel_build_info", &version), 1.0);

    let turns = "evenkeel_shard_turn_duration_seconds";
    assert_eq!(exposition.kinds[turns], "histogram");
    let buckets = exposition.buckets(turns, &[("shard".into(), "1".into())]);
    assert_eq!(buckets.len(), 17);
    assert_eq!(buckets[0], (0.000_01, 2.0));
    assert_eq!(buckets[15], (1.0, 4.0));
    assert_eq!(exposition.value(&format!("{turns}_count"), &[("shard", "1")]), 5.0);
    let sum = exposition.value(&format!("{turns}_sum"), &[("shard", "1")]);
    assert!((sum - 2.000_722).abs() < 1e-9, "{sum}");
    assert_eq!(exposition.value(&format!("{turns}_count"), &[("shard", "0")]), 0.0);
}

/// Names, kinds and labels are what dashboards are built on: this list changes with a line in the
/// changelog, or not at all.
#[test]
fn the_families_and_their_labels_are_these() {
    let exposition = Exposition::parse(&PrometheusRenderer::new().render(&busy_registry()));
    let mut families = Vec::new();
    for (name, kind) in &exposition.kinds {
        let sample = if kind == "histogram" { format!("{name}_count") } else { name.clone() };
        let (labels, _) = exposition.samples[&sample].first_key_value().unwrap();
        let labels: Vec<&str> = labels.iter().map(|(label, _)| label.as_str()).collect();
        families.push(format!("{name} {kind} {}", labels.join(",")).trim_end().to_owned());
    }
    let expected = "
        evenkeel_accept_errors_total counter listener,reason
        evenkeel_accepting gauge listener
        evenkeel_acceptor_last_turn_timestamp_seconds gauge
        evenkeel_accepts_total counter listener
        evenkeel_access_log_dropped_total counter shard
        evenkeel_build_info gauge version
        evenkeel_circuit_breaker_open gauge cluster,limit
        evenkeel_completion_queue_overflows_total counter shard
        evenkeel_config_reloads_total counter result
        evenkeel_connections_rejected_total counter listener,reason
        evenkeel_downstream_connections_active gauge listener,shard
        evenkeel_downstream_connections_closed_total counter listener,reason
        evenkeel_downstream_connections_total counter listener,shard
        evenkeel_downstream_received_bytes_total counter listener,shard
        evenkeel_downstream_sent_bytes_total counter listener,shard
        evenkeel_handoffs_redealt_total counter
        evenkeel_http_rejected_total counter listener,reason
        evenkeel_original_destination_lookups_total counter listener,result
        evenkeel_request_duration_seconds histogram listener
        evenkeel_requests_active gauge listener,shard
        evenkeel_requests_total counter listener,shard,code,flag
        evenkeel_shard_busy_seconds_total counter shard
        evenkeel_shard_completions_total counter shard
        evenkeel_shard_free_buffers gauge shard
        evenkeel_shard_turn_duration_seconds histogram shard
        evenkeel_shards_failed_total counter
        evenkeel_tasks_panicked_total counter shard
        evenkeel_upstream_connect_failures_total counter cluster,reason
        evenkeel_upstream_connections_active gauge cluster,shard
        evenkeel_upstream_connections_total counter cluster,shard
        evenkeel_upstream_ejected_endpoints gauge cluster
        evenkeel_upstream_pool_connections gauge cluster,shard,state
        evenkeel_upstream_received_bytes_total counter cluster,shard
        evenkeel_upstream_requests_total counter cluster,shard,code
        evenkeel_upstream_retries_total counter cluster,shard
        evenkeel_upstream_sent_bytes_total counter cluster,shard";
    let expected: Vec<&str> = expected.trim().lines().map(str::trim).collect();
    assert_eq!(families, expected);
}

#[test]
fn a_second_rendering_counts_nothing_twice() {
    let registry = busy_registry();
    let renderer = PrometheusRenderer::new();
    let first = Exposition::parse(&renderer.render(&registry));
    let second = Exposition::parse(&renderer.render(&registry));
    assert_eq!(first.samples, second.samples);
    registry.listener("web", 0).active.add(-2);
    let third = Exposition::parse(&renderer.render(&registry));
    let labels = [("listener", "web"), ("shard", "0")];
    assert_eq!(third.value("evenkeel_downstream_connections_active", &labels), 0.0);
}

/// What an embedder's own exporter shows, given our bounds, is what we show.
#[test]
fn a_recorder_with_the_same_bounds_renders_the_same_histograms() {
    let registry = busy_registry();
    let name = "evenkeel_shard_turn_duration_seconds";
    let bounds: Vec<f64> = registry.shard(0).turn_duration.snapshot().bounds_seconds().collect();
    let requests = registry.http_listener("web", 0).duration.snapshot();
    let requests: Vec<f64> = requests.bounds_seconds().collect();
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(name.into()), &bounds)
        .unwrap()
        .set_buckets_for_metric(Matcher::Prefix("evenkeel_request".into()), &requests)
        .unwrap()
        .build_recorder();
    let handle = recorder.handle();
    let mut publisher = Publisher::new(Arc::clone(&registry), recorder);
    publisher.publish();
    registry.shard(0).turn_duration.observe(Duration::from_millis(3));
    registry.shard(1).turn_duration.observe(Duration::from_micros(10));
    publisher.publish();
    publisher.publish();

    let theirs = Exposition::parse(&handle.render());
    let ours = Exposition::parse(&PrometheusRenderer::new().render(&registry));
    assert_eq!(theirs.kinds, ours.kinds);
    for suffix in ["_bucket", "_count"] {
        let name = format!("{name}{suffix}");
        assert_eq!(theirs.samples[&name], ours.samples[&name]);
    }
    for (labels, sum) in &ours.samples[&format!("{name}_sum")] {
        let theirs = theirs.samples[&format!("{name}_sum")][labels];
        assert!((sum - theirs).abs() < 1e-12, "{sum} {theirs}");
    }
    let connections = "evenkeel_downstream_connections_total";
    assert_eq!(theirs.samples[connections], ours.samples[connections]);
}

/// Turns that nobody scraped cost nothing at the first scrape; as samples of 16 bytes, these would
/// take 46 MiB.
#[test]
fn an_unscraped_histogram_does_not_pile_up() {
    let registry = Arc::new(Registry::new(1));
    let cells = registry.shard(0);
    for _ in 0..3_000_000 {
        cells.turn_duration.observe(Duration::from_micros(20));
    }
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4
    };
    let renderer = PrometheusRenderer::new();
    let before = resident();
    let exposition = Exposition::parse(&renderer.render(&registry));
    let grown_kib = resident().saturating_sub(before);
    let count = "evenkeel_shard_turn_duration_seconds_count";
    assert_eq!(exposition.value(count, &[("shard", "0")]), 3_000_000.0);
    assert!(grown_kib < 32 * 1024, "{grown_kib} KiB");
}

#[test]
fn what_an_embedder_records_is_in_the_text() {
    let registry = Registry::new(1);
    let renderer = PrometheusRenderer::new();
    let own = Metric { name: "app_logins_total", unit: None, help: "Logins." };
    renderer.recorder().describe_counter(
        KeyName::from_const_str(own.name),
        None,
        SharedString::const_str(own.help),
    );
    renderer.recorder().register_counter(&key(&own, &[]), &METADATA).increment(2);
    let exposition = Exposition::parse(&renderer.render(&registry));
    assert_eq!(exposition.value("app_logins_total", &[]), 2.0);
}

#[test]
fn names_from_the_configuration_are_escaped() {
    let registry = Registry::new(1);
    let name = "a \"quoted\" name\nwith \\ everything é";
    registry.add_source(move |sink: &mut dyn Sink| {
        let metric = Metric { name: "escaped_seconds_total", unit: None, help: "A \\ help\ntext." };
        sink.seconds(&metric, &[("listener", name)], 0.5);
    });
    let exposition = Exposition::parse(&PrometheusRenderer::new().render(&registry));
    assert_eq!(exposition.value("escaped_seconds_total", &[("listener", name)]), 0.5);
}

#[test]
fn scrapes_at_the_same_time_agree() {
    let registry = busy_registry();
    let renderer = PrometheusRenderer::new();
    let expected = Exposition::parse(&renderer.render(&registry)).samples;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(Exposition::parse(&renderer.render(&registry)).samples, expected);
                }
            });
        }
    });
}
