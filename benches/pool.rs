//! What it costs a request to find its way: a choice among the endpoints of a cluster, and an idle
//! connection out of the pool and back.
//!
//! All of it is one shard's work on one core. Where shards choose at the same time, least-request
//! and limits share cache lines, and the misses come on top.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use evenkeel::upstream::{
    cluster::Cluster,
    endpoint::Tried,
    limits::Limits,
    pool::{Idle, Pool, PoolKey, PoolLimits},
    settings::{ClusterSettings, Policy},
    view::ClusterView,
};

struct Connection(u64);

impl Idle for Connection {
    fn is_alive(&mut self) -> bool {
        self.0 != u64::MAX
    }
}

fn view(policy: Policy, endpoints: usize, is_weighted: bool, limits: Limits) -> ClusterView {
    let mut builder = ClusterSettings::builder("reviews").policy(policy).limits(limits);
    for endpoint in 0..endpoints {
        let address = format!("10.0.0.{endpoint}:80");
        let weight = if is_weighted { 1 + endpoint as u32 % 3 } else { 1 };
        builder = builder.weighted_endpoint(&address, weight);
    }
    let settings = builder.build().expect("the settings are right");
    ClusterView::new(Cluster::new(settings, Instant::now(), 1), 1)
}

fn choosing_an_endpoint(c: &mut Criterion) {
    let policies = [
        ("least_request", Policy::LeastRequest),
        ("round_robin", Policy::RoundRobin),
        ("random", Policy::Random),
        ("hash", Policy::Hash { header: "x-user".into() }),
    ];
    let (now, tried) = (Instant::now(), Tried::none());
    for (name, policy) in policies {
        let mut group = c.benchmark_group(format!("pick/{name}"));
        for (endpoints, is_weighted) in [(3, false), (100, false), (100, true)] {
            let mut view = view(policy.clone(), endpoints, is_weighted, Limits::default());
            let kind = if is_weighted { "weighted" } else { "equal" };
            group.bench_function(BenchmarkId::new(kind, endpoints), |b| {
                let mut user = 0_u64;
                b.iter(|| {
                    user += 1;
                    let key = user.to_le_bytes();
                    let target = view.pick(Some(black_box(&key)), &tried, now);
                    // As a request does: counted in flight where the policy looks at that.
                    target.map(|target| target.begin_request())
                });
            });
        }
    }
}

fn claiming(c: &mut Criterion) {
    let mut group = c.benchmark_group("claim_request");
    let limited = Limits { requests: Some(1024), ..Limits::default() };
    for (name, limits) in [("no_limit", Limits::default()), ("limit", limited)] {
        let mut view = view(Policy::Random, 3, false, limits);
        group.bench_function(name, |b| b.iter(|| view.begin_request().is_ok()));
    }
}

fn pooling(c: &mut Criterion) {
    let now = Instant::now();
    let idle = Some(Duration::from_secs(4));
    let mut group = c.benchmark_group("pool/get_put");
    for endpoints in [3_usize, 100] {
        let mut view = view(Policy::RoundRobin, endpoints, false, Limits::default());
        let targets = (0..endpoints).filter_map(|_| view.pick(None, &Tried::none(), now));
        let to_endpoints: Vec<_> = targets.map(|target| target.pool_key()).collect();
        let address = |port| ([10, 0, 0, 1], 1 + port as u16).into();
        let to_destinations: Vec<_> =
            (0..endpoints).map(|port| view.destination_key(address(port))).collect();
        for (kind, keys) in [("endpoint", to_endpoints), ("destination", to_destinations)] {
            for each in [1, 4] {
                let mut pool = filled(&keys, each, now);
                let name = format!("{kind}/{each}_idle");
                group.bench_function(BenchmarkId::new(name, endpoints), |b| {
                    let mut next = 0;
                    b.iter(|| {
                        next = (next + 1) % keys.len();
                        if let Some(connection) = pool.get(&keys[next], now) {
                            pool.put(keys[next], connection, idle, now);
                        }
                    });
                });
            }
        }
    }
}

fn filled(keys: &[PoolKey], each: u64, now: Instant) -> Pool<Connection> {
    let mut pool = Pool::new(PoolLimits::default());
    for &key in keys {
        (0..each).for_each(|n| pool.put(key, Connection(n), Some(Duration::from_secs(4)), now));
    }
    pool
}

criterion_group!(benches, choosing_an_endpoint, claiming, pooling);
criterion_main!(benches);
