//! The metrics of HTTP, and that an outcome reaches them and the log together.

use super::super::super::{
    CircuitLimit, ClusterState, CodeClass, Exchanges, HttpReject, Outcome, PoolState, ResponseFlag,
    access_log::{AccessLog, Entry},
};
use super::super::{Registry, catalog};
use super::Series;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering::Relaxed},
};
use std::time::{Duration, UNIX_EPOCH};

fn outcome(status: u16, flag: ResponseFlag, milliseconds: u64) -> Outcome<'static> {
    let mut outcome = Outcome::new(UNIX_EPOCH);
    (outcome.status, outcome.flag) = (status, flag);
    outcome.duration = Duration::from_millis(milliseconds);
    outcome
}

#[test]
fn an_outcome_is_counted_and_logged_by_one_call() {
    let registry = Registry::new(2);
    let written = Arc::new(Mutex::new(String::new()));
    let sink = Arc::clone(&written);
    let log = AccessLog::to(move |lines: &[u8]| {
        sink.lock().unwrap().push_str(std::str::from_utf8(lines).unwrap());
        Ok(())
    });
    let log = log.unwrap().format("%RESPONSE_CODE% %RESPONSE_FLAGS%".parse().unwrap());
    let on_shard = log.on_shard(registry.shard(1));
    let exchanges = Exchanges::new(registry.http_listener("web", 1), Some(on_shard));
    let first = exchanges.begin();
    let second = exchanges.begin();
    let active = "evenkeel_requests_active{listener=web,shard=1}";
    Series::of(&registry).assert(active, 2.0);
    first.end(&Entry::new(&outcome(200, ResponseFlag::None, 1)));
    second.end(&Entry::new(&outcome(504, ResponseFlag::UpstreamRequestTimeout, 61_000)));
    exchanges.begin().end(&Entry::new(&outcome(
        0,
        ResponseFlag::DownstreamConnectionTermination,
        2,
    )));
    drop(exchanges.begin());

    let series = Series::of(&registry);
    series.assert(active, 0.0);
    let count = |shard: usize, code: &str, flag: &str| {
        format!("evenkeel_requests_total{{listener=web,shard={shard},code={code},flag={flag}}}")
    };
    for (code, flag) in [("2xx", "-"), ("5xx", "UT"), ("none", "DC"), ("none", "LR")] {
        series.assert(&count(1, code, flag), 1.0);
    }
    series.assert(&count(1, "5xx", "-"), 0.0);
    series.assert(&count(0, "2xx", "-"), 0.0);
    series.assert("evenkeel_request_duration_seconds{listener=web}", 3.0);
    assert!(log.flush(Duration::from_secs(20)));
    assert_eq!(*written.lock().unwrap(), "200 -\n504 UT\n0 DC\n");
}

#[test]
fn durations_of_all_shards_are_one_histogram() {
    let registry = Registry::new(2);
    for (shard, milliseconds) in [(0, 1), (1, 2), (1, 60_000), (0, 60_001)] {
        let cells = registry.http_listener("web", shard);
        Exchanges::new(cells, None).begin().end(&Entry::new(&outcome(
            200,
            ResponseFlag::None,
            milliseconds,
        )));
    }
    let mut buckets = Vec::new();
    struct Buckets<'b>(&'b mut Vec<u64>);
    impl super::Sink for Buckets<'_> {
        fn counter(&mut self, _: &super::Metric, _: &[(&'static str, &str)], _: u64) {}
        fn seconds(&mut self, _: &super::Metric, _: &[(&'static str, &str)], _: f64) {}
        fn gauge(&mut self, _: &super::Metric, _: &[(&'static str, &str)], _: f64) {}
        fn histogram(
            &mut self,
            metric: &super::Metric,
            _: &[(&'static str, &str)],
            value: &super::HistogramSnapshot,
        ) {
            if *metric == catalog::REQUEST_DURATION {
                let bounds: Vec<f64> = value.bounds_seconds().collect();
                assert_eq!((bounds[0], bounds[17]), (0.0001, 60.0));
                self.0.extend(value.buckets().iter().map(|bucket| bucket.count));
                assert!((value.sum_seconds() - 120.004).abs() < 1e-9);
            }
        }
    }
    registry.collect(&mut Buckets(&mut buckets));
    let mut expected = [0; 19];
    (expected[3], expected[4], expected[17], expected[18]) = (1, 1, 1, 1);
    assert_eq!(buckets, expected);
}

#[test]
fn what_is_refused_and_what_goes_upstream_is_counted() {
    let registry = Registry::new(2);
    for shard in 0..2 {
        registry.http_listener("web", shard).rejected.increment(HttpReject::Framing);
        let cluster = registry.http_cluster("reviews", shard);
        cluster.requests.increment(CodeClass::of(200));
        cluster.retries.increment();
        cluster.pool.add(PoolState::Idle, 3);
        cluster.pool.add(PoolState::Idle, -1);
    }
    let series = Series::of(&registry);
    series.assert("evenkeel_http_rejected_total{listener=web,reason=framing}", 2.0);
    series.assert("evenkeel_http_rejected_total{listener=web,reason=head_timeout}", 0.0);
    series.assert("evenkeel_upstream_requests_total{cluster=reviews,shard=1,code=2xx}", 1.0);
    series.assert("evenkeel_upstream_requests_total{cluster=reviews,shard=1,code=none}", 0.0);
    series.assert("evenkeel_upstream_retries_total{cluster=reviews,shard=0}", 1.0);
    let pool = "evenkeel_upstream_pool_connections{cluster=reviews,shard=0,state";
    series.assert(&format!("{pool}=idle}}"), 2.0);
    series.assert(&format!("{pool}=active}}"), 0.0);
    series.assert("evenkeel_access_log_dropped_total{shard=0}", 0.0);
}

struct Breakers(AtomicBool);

impl ClusterState for Breakers {
    fn is_open(&self, limit: CircuitLimit) -> bool {
        limit == CircuitLimit::Pending && self.0.load(Relaxed)
    }

    fn ejected_endpoints(&self) -> usize {
        2
    }
}

#[test]
fn a_cluster_is_asked_for_as_long_as_it_lives() {
    let registry = Registry::new(1);
    let old: Arc<dyn ClusterState> = Arc::new(Breakers(AtomicBool::new(false)));
    let new = Arc::new(Breakers(AtomicBool::new(true)));
    let as_state: Arc<dyn ClusterState> = new.clone();
    registry.set_cluster_state("reviews", Arc::downgrade(&old));
    registry.set_cluster_state("reviews", Arc::downgrade(&as_state));
    let pending = "evenkeel_circuit_breaker_open{cluster=reviews,limit=pending}";
    let series = Series::of(&registry);
    series.assert(pending, 1.0);
    series.assert("evenkeel_circuit_breaker_open{cluster=reviews,limit=retries}", 0.0);
    series.assert("evenkeel_upstream_ejected_endpoints{cluster=reviews}", 2.0);
    new.0.store(false, Relaxed);
    Series::of(&registry).assert(pending, 0.0);
    new.0.store(true, Relaxed);
    drop((new, as_state));
    let series = Series::of(&registry);
    series.assert(pending, 0.0);
    series.assert("evenkeel_upstream_ejected_endpoints{cluster=reviews}", 0.0);
}
