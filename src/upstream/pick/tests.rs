use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use fastrand::Rng;
use proptest::prelude::*;

use crate::upstream::{
    cluster::Cluster,
    endpoint::{EndpointId, Tried},
    settings::{ClusterSettings, Policy},
    view::ClusterView,
};

/// The policies that spread by weight.
const BY_WEIGHT: [Policy; 3] = [Policy::LeastRequest, Policy::RoundRobin, Policy::Random];

fn hash() -> Policy {
    Policy::Hash { header: "x-user".into() }
}

/// Endpoint `n` is 10.0.0.`n`, and weighs what stands at `n`; 0: it is not there.
fn settings(policy: Policy, weights: &[u32]) -> ClusterSettings {
    let mut builder = ClusterSettings::builder("reviews").policy(policy);
    for (index, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight != 0) {
        builder = builder.weighted_endpoint(&format!("10.0.0.{index}:80"), weight);
    }
    builder.build().unwrap()
}

struct Fixture {
    cluster: Arc<Cluster>,
    view: ClusterView,
    now: Instant,
}

impl Fixture {
    fn new(policy: Policy, weights: &[u32], seed: u64) -> Fixture {
        let now = Instant::now();
        let cluster = Cluster::new(settings(policy, weights), now, seed);
        Fixture { view: ClusterView::new(Arc::clone(&cluster), seed), cluster, now }
    }

    fn pick(&mut self, key: Option<&[u8]>, tried: &Tried) -> Option<usize> {
        let target = self.view.pick(key, tried, self.now)?;
        let std::net::IpAddr::V4(ip) = target.address().ip() else { panic!("IPv4 only") };
        Some(ip.octets()[3].into())
    }

    fn counts(&mut self, picks: usize, tried: &Tried) -> HashMap<usize, usize> {
        let mut counts = HashMap::new();
        for _ in 0..picks {
            if let Some(index) = self.pick(None, tried) {
                *counts.entry(index).or_default() += 1;
            }
        }
        counts
    }

    fn ids(&self) -> Vec<EndpointId> {
        self.cluster.snapshot().endpoints().iter().map(|endpoint| endpoint.id()).collect()
    }

    fn make_unavailable(&self, endpoints: impl IntoIterator<Item = usize>) {
        let ids = self.ids();
        for index in endpoints {
            self.cluster.set_healthy(ids[index], false, self.now);
        }
    }
}

fn weights() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(1_u32..20, 1..12)
}

/// Endpoints, and which of them are left out.
fn some_left_out() -> impl Strategy<Value = (Vec<u32>, HashSet<usize>)> {
    weights().prop_flat_map(|weights| {
        let indices = 0..weights.len();
        (Just(weights), prop::collection::hash_set(indices, 0..12))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A share is what the weight says, within five standard deviations of what chance allows.
    #[test]
    fn weights_are_respected((weights, out) in some_left_out(), seed: u64) {
        const PICKS: usize = 4_000;
        for policy in BY_WEIGHT {
            let mut fixture = Fixture::new(policy.clone(), &weights, seed);
            fixture.make_unavailable(out.iter().copied());
            let in_use = |index: &usize| !out.contains(index);
            let total: u32 = (0..weights.len()).filter(in_use).map(|index| weights[index]).sum();
            let counts = fixture.counts(PICKS, &Tried::none());
            for (index, &weight) in weights.iter().enumerate() {
                let count = counts.get(&index).copied().unwrap_or(0) as f64;
                if !in_use(&index) {
                    prop_assert_eq!(count, 0.0, "{:?} chose one that is left out", policy);
                    continue;
                }
                let share = f64::from(weight) / f64::from(total);
                let expected = share * PICKS as f64;
                let allowed = 5.0 * (expected * (1.0 - share)).sqrt() + 1.0;
                prop_assert!(
                    (count - expected).abs() <= allowed,
                    "{policy:?}: {index} of {weights:?} without {out:?} was chosen {count} times, not {expected}"
                );
            }
        }
    }

    /// Round robin is exact: in any stretch as long as all weights together, each endpoint is chosen
    /// as often as it weighs, give or take two.
    #[test]
    fn turns_are_exact(weights in weights(), seed: u64) {
        let total = weights.iter().sum::<u32>() as usize;
        let mut fixture = Fixture::new(Policy::RoundRobin, &weights, seed);
        let picks: Vec<_> = (0..3 * total).map(|_| fixture.pick(None, &Tried::none()).unwrap()).collect();
        for stretch in picks.windows(total) {
            for (index, &weight) in weights.iter().enumerate() {
                let count = stretch.iter().filter(|&&pick| pick == index).count();
                prop_assert!(count.abs_diff(weight as usize) <= 2, "{index} of {weights:?}: {count}");
            }
        }
    }

    /// Equal weights: every round robin cycle has every endpoint once.
    #[test]
    fn equal_turns_have_each_once(endpoints in 1_usize..30, seed: u64) {
        let mut fixture = Fixture::new(Policy::RoundRobin, &vec![3; endpoints], seed);
        for _ in 0..3 {
            let cycle: HashSet<_> = (0..endpoints).map(|_| fixture.pick(None, &Tried::none())).collect();
            prop_assert_eq!(cycle.len(), endpoints);
        }
    }

    /// Whoever may be chosen is found, even where it is the only one, and nobody else is.
    #[test]
    fn the_only_one_is_found(endpoints in 1_usize..100, only: prop::sample::Index, seed: u64) {
        let only = only.index(endpoints);
        for policy in [BY_WEIGHT.as_slice(), &[hash()]].concat() {
            let mut fixture = Fixture::new(policy, &vec![1; endpoints], seed);
            fixture.make_unavailable((0..endpoints).filter(|&index| index != only));
            for key in [None, Some(&b"anna"[..])] {
                prop_assert_eq!(fixture.pick(key, &Tried::none()), Some(only));
            }
            let mut tried = Tried::none();
            tried.add(fixture.ids()[only]);
            prop_assert_eq!(fixture.pick(Some(b"anna"), &tried), None);
        }
    }

    #[test]
    fn what_was_tried_is_passed_over(endpoints in 1_usize..8, seed: u64) {
        for policy in [BY_WEIGHT.as_slice(), &[hash()]].concat() {
            let mut fixture = Fixture::new(policy, &vec![1; endpoints], seed);
            let ids = fixture.ids();
            let mut tried = Tried::none();
            let mut order = HashSet::new();
            while let Some(index) = fixture.pick(Some(b"anna"), &tried) {
                prop_assert!(order.insert(index), "twice");
                tried.add(ids[index]);
            }
            prop_assert_eq!(order.len(), endpoints, "all are tried in the end");
        }
    }

    /// Of 2,000 keys about their share goes to a new endpoint, and no other key moves.
    #[test]
    fn a_new_endpoint_takes_its_share_of_keys_and_no_other_moves(
        before in weights(), weight in 1_u32..20,
    ) {
        const KEYS: u32 = 2_000;
        let mut after = before.clone();
        after.push(weight);
        let mut without = Fixture::new(hash(), &before, 1);
        let mut with = Fixture::new(hash(), &after, 2);
        let mut moved = 0;
        for key in 0..KEYS {
            let key = key.to_le_bytes();
            let (old, new) = (without.pick(Some(&key), &Tried::none()), with.pick(Some(&key), &Tried::none()));
            if old != new {
                prop_assert_eq!(new, Some(before.len()));
                moved += 1;
            }
        }
        let share = f64::from(weight) / f64::from(after.iter().sum::<u32>());
        let expected = share * f64::from(KEYS);
        let allowed = 5.0 * (expected * (1.0 - share)).sqrt() + 1.0;
        prop_assert!((f64::from(moved) - expected).abs() <= allowed, "{moved}, not {expected}");
    }

    /// The keys of an ejected endpoint are spread over the others; theirs stay.
    #[test]
    fn an_unavailable_endpoint_moves_its_own_keys_only(weights in weights(), out: prop::sample::Index) {
        prop_assume!(weights.len() > 1);
        let out = out.index(weights.len());
        let mut fixture = Fixture::new(hash(), &weights, 1);
        let keys: Vec<_> = (0..500_u32).map(u32::to_le_bytes).collect();
        let mut all = || keys.iter().map(|key| fixture.pick(Some(key), &Tried::none()).unwrap()).collect::<Vec<_>>();
        let before = all();
        fixture.make_unavailable([out]);
        let mut all = || keys.iter().map(|key| fixture.pick(Some(key), &Tried::none()).unwrap()).collect::<Vec<_>>();
        for (old, new) in before.into_iter().zip(all()) {
            prop_assert!(new != out && (old == out || old == new));
        }
    }
}

#[test]
fn the_same_key_goes_to_the_same_endpoint_in_every_process() {
    let mut fixture = Fixture::new(hash(), &[1; 10], 1);
    let picks = ["anna", "bert", "clara", "dora"]
        .map(|key| fixture.pick(Some(key.as_bytes()), &Tried::none()));
    // What it was once is what it stays: other values would move keys when a fleet is upgraded.
    assert_eq!(picks.map(Option::unwrap), [5, 6, 0, 8]);
}

/// The busier of two is not chosen while both are looked at, and an idle cluster is not herded.
#[test]
fn requests_go_to_where_fewer_are_in_flight() {
    let mut fixture = Fixture::new(Policy::LeastRequest, &[1, 1], 1);
    let busy = fixture.view.pick(None, &Tried::none(), fixture.now).unwrap();
    let requests: Vec<_> = (0..5).map(|_| busy.begin_request()).collect();
    for _ in 0..100 {
        let chosen = fixture.view.pick(None, &Tried::none(), fixture.now).unwrap();
        assert_ne!(chosen.id(), busy.id());
    }
    assert_eq!(busy.in_flight(), 5);
    drop(requests);
    assert_eq!(busy.in_flight(), 0);
    assert_eq!(fixture.counts(100, &Tried::none()).len(), 2);
}

/// Requests that stay are levelled by weight, over the views of several shards.
#[test]
fn least_request_levels_what_is_in_flight() {
    let mut fixture = Fixture::new(Policy::LeastRequest, &[1, 1, 2, 4], 1);
    let mut other = ClusterView::new(Arc::clone(&fixture.cluster), 2);
    let mut requests = Vec::new();
    for _ in 0..400 {
        for view in [&mut fixture.view, &mut other] {
            requests.push(view.pick(None, &Tried::none(), fixture.now).unwrap().begin_request());
        }
    }
    let status = fixture.cluster.status(fixture.now);
    let levels = status.iter().map(|status| status.in_flight / status.weight);
    assert!(levels.clone().all(|level| (95..=105).contains(&level)), "{status:?}");
}

#[test]
fn shards_begin_at_different_places() {
    let first = |seed| Fixture::new(Policy::RoundRobin, &[1; 10], seed).pick(None, &Tried::none());
    let firsts: HashSet<_> = (0..40).map(first).collect();
    assert!(firsts.len() > 6, "{firsts:?}");
}

#[test]
fn a_cluster_without_endpoints_has_none_to_choose() {
    let now = Instant::now();
    for policy in [BY_WEIGHT.as_slice(), &[hash()]].concat() {
        let settings = ClusterSettings::original_destination("passthrough").policy(policy);
        let cluster = Cluster::new(settings.build().unwrap(), now, 1);
        let mut view = ClusterView::new(cluster, 1);
        assert!(view.pick(Some(b"anna"), &Tried::none(), now).is_none());
    }
}

/// What is prepared for drawing by weight has the weights in it, to a few parts in 2^32.
#[test]
fn columns_hold_the_weights() {
    let mut random = Rng::with_seed(1);
    for _ in 0..100 {
        let weights: Vec<u32> = (0..random.usize(1..50)).map(|_| random.u32(1..1000)).collect();
        let sampler = super::Sampler::new(weights.iter().copied());
        let mean = f64::from(weights.iter().sum::<u32>()) / weights.len() as f64;
        for (held, &weight) in sampler.held().into_iter().zip(&weights) {
            assert!((held * mean - f64::from(weight)).abs() < 1e-3, "{weights:?}");
        }
    }
}
