//! What choosing an endpoint and pooling a connection may allocate: nothing, once they have run for
//! a while.

#![cfg(feature = "http")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use allocation_counter::measure;
use evenkeel::upstream::{
    cluster::Cluster,
    endpoint::Tried,
    limits::{Limit, Limits},
    outlier::{Outcome, Outlier},
    pool::{Idle, Pool, PoolKey, PoolLimits},
    retry::{RetryBudget, RetryPolicy},
    settings::{ClusterSettings, Policy},
    view::ClusterView,
};

struct Connection;

impl Idle for Connection {
    fn is_alive(&mut self) -> bool {
        true
    }
}

fn view(policy: Policy, endpoints: usize) -> ClusterView {
    let limits = Limits { requests: Some(100), connections: Some(100), ..Limits::default() };
    let mut builder = ClusterSettings::builder("reviews")
        .policy(policy)
        .limits(limits)
        .retry_budget(Some(RetryBudget::default()))
        .outlier(Some(Outlier::default()));
    for endpoint in 0..endpoints {
        let address = format!("10.0.{}.{}:80", endpoint / 250, endpoint % 250);
        builder = builder.weighted_endpoint(&address, 1 + endpoint as u32 % 3);
    }
    let cluster = Cluster::new(builder.build().unwrap(), Instant::now(), 1);
    ClusterView::new(cluster, 1)
}

#[test]
fn a_request_allocates_nothing_to_find_its_endpoint() {
    let now = Instant::now();
    let hash = Policy::Hash { header: "x-user".into() };
    for policy in [Policy::LeastRequest, Policy::RoundRobin, Policy::Random, hash] {
        let mut view = view(policy.clone(), 100);
        let allocated = measure(|| {
            for key in 0..1000_u32 {
                let _request = view.begin_request().unwrap();
                let mut tried = Tried::none();
                let first = view.pick(Some(&key.to_le_bytes()), &tried, now).unwrap();
                let in_flight = first.begin_request();
                view.report(&first, Outcome::Reset, now);
                tried.add(first.id());
                drop(in_flight);
                let _retry = view.claim_retry().unwrap();
                view.pause(&RetryPolicy::default(), 1);
                let second = view.pick(Some(&key.to_le_bytes()), &tried, now).unwrap();
                let _connection = view.claim_connection().unwrap();
                view.report(&second, Outcome::Answered(200), now);
            }
        });
        assert_eq!(allocated.count_total, 0, "{policy:?}");
    }
}

#[test]
fn a_pool_that_has_been_full_allocates_nothing() {
    let start = Instant::now();
    let idle = Some(Duration::from_secs(4));
    let mut view = view(Policy::RoundRobin, 30);
    let targets: Vec<_> = (0..30).filter_map(|_| view.pick(None, &Tried::none(), start)).collect();
    let mut keys: Vec<PoolKey> = targets.iter().map(|target| target.pool_key()).collect();
    keys.extend((0..30).map(|port| view.destination_key(([10, 9, 0, 1], 1 + port).into())));
    let limits = PoolLimits { each: 4, all: 60, destinations: 20 };
    let mut pool = Pool::new(limits);
    let run = |pool: &mut Pool<Connection>, from: Instant| {
        let mut reused = 0;
        for turn in 0..5000_u32 {
            let now = from + Duration::from_millis(turn.into());
            let key = keys[turn as usize * 7919 % keys.len()];
            reused += usize::from(pool.get(&key, now).is_some());
            (0..turn % 3).for_each(|_| pool.put(key, Connection, idle, now));
            pool.expire(now);
        }
        reused
    };
    run(&mut pool, start);
    let mut reused = 0;
    let allocated = measure(|| reused = run(&mut pool, start + Duration::from_secs(5)));
    assert_eq!(allocated.count_total, 0);
    assert!(reused > 1000, "it was used at all: {reused}");
}

/// Views on several threads, with a reload in between: what is claimed is given back, and every
/// shard sees the new endpoints.
#[test]
fn shards_share_a_cluster_and_notice_a_reload() {
    let endpoints = |names: &[&str]| {
        let limits = Limits { requests: Some(8), ..Limits::default() };
        let builder = ClusterSettings::builder("reviews").limits(limits);
        names.iter().fold(builder, |it, name| it.endpoint(name)).build().unwrap()
    };
    let now = Instant::now();
    let cluster = Cluster::new(endpoints(&["10.0.0.1:80", "10.0.0.2:80"]), now, 1);
    std::thread::scope(|scope| {
        for shard in 0..4 {
            let cluster = Arc::clone(&cluster);
            scope.spawn(move || {
                let mut view = ClusterView::new(cluster, shard);
                loop {
                    let _request = view.begin_request().unwrap();
                    let target = view.pick(None, &Tried::none(), now).unwrap();
                    let _in_flight = target.begin_request();
                    if target.address().port() == 81 {
                        return;
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_millis(20));
        cluster.apply(endpoints(&["10.0.0.1:81"]), now);
    });
    assert_eq!((cluster.in_use(Limit::Requests), cluster.status(now)[0].in_flight), (0, 0));
}
