use std::{collections::HashMap, sync::Barrier, thread};

use super::*;
use crate::upstream::{
    endpoint::Tried,
    outlier::Outlier,
    settings::{ClusterBuilder, Policy},
    view::ClusterView,
};

const SECOND: Duration = Duration::from_secs(1);

fn reviews(endpoints: &[&str]) -> ClusterBuilder {
    let add = |builder: ClusterBuilder, address: &&str| builder.endpoint(address);
    endpoints.iter().fold(ClusterSettings::builder("reviews").policy(Policy::RoundRobin), add)
}

fn outlier(most_percent: u32) -> Option<Outlier> {
    Some(Outlier { consecutive_failures: 3, most_percent, ..Outlier::default() })
}

fn cluster(builder: ClusterBuilder, now: Instant) -> (Arc<Cluster>, ClusterView) {
    let cluster = Cluster::new(builder.build().unwrap(), now, 1);
    (Arc::clone(&cluster), ClusterView::new(cluster, 1))
}

/// How often each endpoint is chosen in `picks` choices, by address.
fn chosen(view: &mut ClusterView, picks: usize, now: Instant) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for _ in 0..picks {
        if let Some(target) = view.pick(None, &Tried::none(), now) {
            *counts.entry(target.address().to_string()).or_default() += 1;
        }
    }
    counts
}

fn fail(view: &mut ClusterView, endpoint: usize, times: usize, now: Instant) {
    let endpoint = Arc::clone(&view.cluster().snapshot().endpoints[endpoint]);
    (0..times).for_each(|_| view.report(&endpoint, Outcome::ConnectFailed, now));
}

fn addresses(cluster: &Cluster) -> Vec<String> {
    cluster.snapshot().endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
}

#[test]
fn an_endpoint_that_fails_in_a_row_is_left_out_and_comes_back_by_time() {
    let now = Instant::now();
    let three = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"];
    let (cluster, mut view) = cluster(reviews(&three).outlier(outlier(10)), now);
    fail(&mut view, 1, 2, now);
    let second = Arc::clone(&cluster.snapshot().endpoints[1]);
    view.report(&second, Outcome::Answered(200), now);
    fail(&mut view, 1, 2, now);
    assert_eq!((cluster.ejected(), chosen(&mut view, 30, now).len()), (0, 3), "not in a row");
    fail(&mut view, 1, 1, now);
    assert_eq!(cluster.ejected(), 1);
    let counts = chosen(&mut view, 30, now);
    assert_eq!((counts.len(), counts.get("10.0.0.2:80")), (2, None));
    let left = cluster.status(now)[1].ejected_for.unwrap();
    assert!((30 * SECOND..=33 * SECOND).contains(&left), "{left:?}");
    assert_eq!(chosen(&mut view, 30, now + left - SECOND).len(), 2);
    assert_eq!(chosen(&mut view, 30, now + left), three.map(|it| (it.to_owned(), 10)).into());
    assert_eq!(cluster.ejected(), 0);
}

#[test]
fn without_settings_nothing_is_ejected() {
    let now = Instant::now();
    let (cluster, mut view) = cluster(reviews(&["10.0.0.1:80", "10.0.0.2:80"]), now);
    fail(&mut view, 0, 1000, now);
    assert_eq!((cluster.ejected(), chosen(&mut view, 10, now).len()), (0, 2));
}

#[test]
fn the_share_and_the_last_endpoint_hold() {
    let now = Instant::now();
    let three = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"];
    let (one_only, mut view) = cluster(reviews(&three).outlier(outlier(10)), now);
    (0..3).for_each(|endpoint| fail(&mut view, endpoint, 9, now));
    assert_eq!(one_only.ejected(), 1);
    let (all_but_one, mut view) = cluster(reviews(&three).outlier(outlier(100)), now);
    (0..3).for_each(|endpoint| fail(&mut view, endpoint, 9, now));
    assert_eq!(all_but_one.ejected(), 2);
    let (single, mut view) = cluster(reviews(&["10.0.0.1:80"]).outlier(outlier(100)), now);
    fail(&mut view, 0, 100, now);
    assert_eq!((single.ejected(), chosen(&mut view, 3, now).len()), (0, 1));
}

#[test]
fn shards_that_eject_together_leave_one() {
    let four = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"];
    for _ in 0..200 {
        let now = Instant::now();
        let (cluster, _) = cluster(reviews(&four).outlier(outlier(100)), now);
        let start = Barrier::new(four.len());
        thread::scope(|scope| {
            for endpoint in 0..four.len() {
                let (cluster, start) = (&cluster, &start);
                scope.spawn(move || {
                    let mut view = ClusterView::new(Arc::clone(cluster), endpoint as u64);
                    start.wait();
                    for _ in 0..6 {
                        fail(&mut view, endpoint, 1, now);
                        assert!(view.pick(None, &Tried::none(), now).is_some());
                    }
                });
            }
        });
        assert_eq!((cluster.ejected(), cluster.snapshot().available.count()), (3, 1));
    }
}

#[test]
fn ejected_endpoints_are_better_than_none() {
    let now = Instant::now();
    let two = ["10.0.0.1:80", "10.0.0.2:80"];
    let (unwell, mut view) = cluster(reviews(&two).outlier(outlier(100)), now);
    fail(&mut view, 0, 3, now);
    let ids: Vec<_> = unwell.snapshot().endpoints.iter().map(|endpoint| endpoint.id).collect();
    unwell.set_healthy(ids[1], false, now);
    assert_eq!(chosen(&mut view, 3, now), HashMap::from([("10.0.0.1:80".to_owned(), 3)]));
    unwell.set_healthy(ids[0], false, now);
    assert!(chosen(&mut view, 3, now).is_empty(), "none is well");

    let (gone, mut view) = cluster(reviews(&two).outlier(outlier(100)), now);
    fail(&mut view, 0, 3, now);
    gone.apply(reviews(&two[..1]).outlier(outlier(100)).build().unwrap(), now);
    assert_eq!((gone.ejected(), chosen(&mut view, 3, now).len()), (0, 1));
}

#[test]
fn a_reload_keeps_what_is_known_of_endpoints_that_stay() {
    let now = Instant::now();
    let two = ["10.0.0.1:80", "10.0.0.2:80"];
    let build = |endpoints| {
        let limits = crate::upstream::limits::Limits { connections: Some(2), ..Default::default() };
        reviews(endpoints).policy(Policy::LeastRequest).limits(limits).outlier(outlier(50))
    };
    let (cluster, mut view) = cluster(build(&two), now);
    fail(&mut view, 0, 3, now);
    let request = view.pick(None, &Tried::none(), now).unwrap().begin_request();
    let _connection = view.claim_connection().unwrap();
    let id = request.target().id();
    let elsewhere = view.destination_key(([10, 0, 0, 8], 80).into());
    let reordered = ["10.0.0.3:80", "10.0.0.2:80", "10.0.0.1:80"];
    cluster.apply(build(&reordered).build().unwrap(), now);
    let status = cluster.status(now);
    assert_eq!(addresses(&cluster), reordered);
    let of = |f: fn(&EndpointStatus) -> u32| status.iter().map(f).collect::<Vec<_>>();
    assert_eq!(of(|status| status.in_flight), [0, 1, 0]);
    assert_eq!(of(|status| status.ejected_for.is_some().into()), [0, 0, 1]);
    assert_eq!((cluster.snapshot().endpoints[1].id, cluster.in_use(Limit::Connections)), (id, 1));

    assert_eq!(view.destination_key(([10, 0, 0, 8], 80).into()), elsewhere);

    // Connections that are made differently must not be taken from the pool; all else stays.
    cluster.apply(build(&reordered).mark(7).build().unwrap(), now);
    assert_ne!(cluster.snapshot().endpoints[1].id, id);
    assert_ne!(view.destination_key(([10, 0, 0, 8], 80).into()), elsewhere);
    assert_eq!((cluster.status(now)[1].in_flight, cluster.ejected()), (1, 1));
    drop(request);
    assert_eq!(cluster.status(now)[1].in_flight, 0);
    // Without outlier settings nothing stays ejected.
    cluster.apply(reviews(&reordered).build().unwrap(), now);
    assert_eq!((cluster.ejected(), chosen(&mut view, 9, now).len()), (0, 3));
}

#[test]
fn names_become_the_endpoints_that_they_stand_for() {
    let now = Instant::now();
    let settings = ClusterSettings::builder("reviews")
        .policy(Policy::RoundRobin)
        .weighted_endpoint("a.example:80", 2)
        .endpoint("10.0.0.9:80");
    let (cluster, mut view) = cluster(settings, now);
    let a: Arc<str> = "a.example".into();
    assert_eq!((cluster.unresolved(), cluster.has_names()), (vec![Arc::clone(&a)], true));
    assert_eq!(chosen(&mut view, 4, now).len(), 1);
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    cluster.set_addresses(&a, &[ip("10.0.0.1"), ip("10.0.0.2"), ip("10.0.0.1")], now);
    assert_eq!(addresses(&cluster), ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.9:80"]);
    let counts = chosen(&mut view, 50, now);
    assert_eq!((counts["10.0.0.1:80"], counts["10.0.0.9:80"]), (20, 10), "each as the name");
    assert!(cluster.unresolved().is_empty());
    let kept = cluster.snapshot().endpoints[1].id;
    cluster.set_addresses(&a, &[ip("10.0.0.2"), ip("fd00::1")], now);
    assert_eq!(addresses(&cluster), ["10.0.0.2:80", "[fd00::1]:80", "10.0.0.9:80"]);
    assert_eq!(cluster.snapshot().endpoints[0].id, kept);
    assert_eq!(&*cluster.snapshot().endpoints[0].authority, "a.example:80");
    let same = cluster.snapshot();
    cluster.set_addresses(&a, &[ip("10.0.0.2"), ip("fd00::1")], now);
    cluster.set_addresses(&"other.example".into(), &[ip("10.0.0.7")], now);
    assert!(Arc::ptr_eq(&same, &cluster.snapshot()), "nothing has changed");
}

#[test]
fn limits_hold_over_views_and_follow_a_reload() {
    let now = Instant::now();
    let build = |requests| {
        let limits = crate::upstream::limits::Limits { requests, ..Default::default() };
        reviews(&["10.0.0.1:80"]).limits(limits)
    };
    let (cluster, mut one) = cluster(build(Some(2)), now);
    let mut other = ClusterView::new(Arc::clone(&cluster), 2);
    let held = (one.begin_request().unwrap(), other.begin_request().unwrap());
    assert!(one.begin_request().is_err() && other.begin_request().is_err());
    assert!(cluster.is_open(Limit::Requests) && !cluster.is_open(Limit::Retries));
    cluster.apply(build(Some(3)).build().unwrap(), now);
    assert!(!cluster.is_open(Limit::Requests));
    let third = other.begin_request().unwrap();
    assert!(one.begin_request().is_err());
    drop((held, third));
    assert_eq!(cluster.in_use(Limit::Requests), 0);
}

#[test]
fn the_limit_and_the_budget_of_retries_hold_both() {
    let now = Instant::now();
    let build = |retries, budget| {
        let limits = crate::upstream::limits::Limits { retries, ..Default::default() };
        reviews(&["10.0.0.1:80"]).limits(limits).retry_budget(budget)
    };
    let most = |retries, budget| {
        let (_, mut view) = cluster(build(retries, budget), now);
        let _requests: Vec<_> = (0..100).map(|_| view.begin_request().unwrap()).collect();
        let retries = (0..200).map_while(|_| view.claim_retry().ok());
        retries.collect::<Vec<_>>().len()
    };
    let budget = Some(crate::upstream::retry::RetryBudget { percent: 20, least: 3 });
    assert_eq!(most(None, None), 200);
    assert_eq!(most(Some(7), None), 7);
    assert_eq!(most(None, budget), 20);
    assert_eq!((most(Some(7), budget), most(Some(50), budget)), (7, 20));
}
