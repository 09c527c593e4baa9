mod mixed_shards;

use super::*;
use proptest::{collection::vec, prelude::*};
use std::{collections::VecDeque, sync::Barrier, thread};

fn least_connections(loads: &Loads) -> Balancer {
    Balancer::new(loads.clone(), Box::new(LeastConnections::default()))
}

fn connections(loads: &Loads) -> Vec<u32> {
    let mut seen = Vec::new();
    loads.snapshot(&mut seen);
    seen.iter().map(|load| load.connections).collect()
}

fn spread(loads: &Loads) -> u32 {
    let connections = connections(loads);
    connections.iter().max().unwrap() - connections.iter().min().unwrap()
}

/// Loads for a policy: connections, busy permille and availability of each shard.
fn loads_of(shards: &[(u32, u32, bool)]) -> Vec<ShardLoad> {
    let load = |(shard, &(connections, busy_permille, available))| ShardLoad {
        connections,
        busy_permille,
        available,
        ..ShardLoad::idle(shard)
    };
    shards.iter().enumerate().map(load).collect()
}

fn choices(policy: &mut dyn Policy, loads: &[ShardLoad], times: usize) -> Vec<usize> {
    (0..times).map(|_| policy.choose(loads).unwrap()).collect()
}

#[test]
fn ties_rotate_over_the_shards_that_tie() {
    let loads = loads_of(&[(4, 0, true), (2, 0, true), (2, 0, false), (2, 0, true), (2, 0, true)]);
    assert_eq!(choices(&mut LeastConnections::default(), &loads, 7), [1, 3, 4, 1, 3, 4, 1]);
}

#[test]
fn connections_too_short_to_count_are_spread_all_the_same() {
    let loads = Loads::new(8);
    let mut balancer = least_connections(&loads);
    let mut carried = [0; 8];
    for _ in 0..800 {
        carried[balancer.assign().unwrap().shard()] += 1;
    }
    assert_eq!(carried, [100; 8]);
}

#[test]
fn a_busy_shard_is_avoided_though_it_has_fewer_connections() {
    let mut policy = LeastBusy::default();
    assert_eq!(policy.choose(&loads_of(&[(1, 900, true), (50, 300, true)])), Some(1));
}

#[test]
fn noise_in_the_busy_share_does_not_decide() {
    let mut policy = LeastBusy::default();
    // 0 and 2 differ by less than the margin: the fewest connections of the two; 1 is too busy.
    let loads = loads_of(&[(9, 501, true), (0, 650, true), (8, 599, true), (0, 0, false)]);
    assert_eq!(policy.choose(&loads), Some(2));
    let even = loads_of(&[(3, 40, true), (3, 0, true), (3, 99, true)]);
    assert_eq!(choices(&mut LeastBusy::default(), &even, 4), [0, 1, 2, 0]);
}

#[test]
fn round_robin_passes_over_shards_that_have_left() {
    let loads = loads_of(&[(9, 0, true), (0, 0, false), (0, 0, true)]);
    assert_eq!(choices(&mut RoundRobin::default(), &loads, 4), [0, 2, 0, 2]);
}

#[test]
fn policies_bear_any_slice() {
    let policies: [Box<dyn Policy>; 3] = [
        Balance::LeastConnections.policy().unwrap(),
        Balance::LeastBusy.policy().unwrap(),
        Balance::RoundRobin.policy().unwrap(),
    ];
    for mut policy in policies {
        assert_eq!(policy.choose(&[]), None);
        assert_eq!(policy.choose(&loads_of(&[(0, 0, false)])), None);
        assert_eq!(choices(&mut *policy, &loads_of(&[(0, 0, true); 3]), 3), [0, 1, 2]);
        assert_eq!(policy.choose(&loads_of(&[(7, 1000, true)])), Some(0), "fewer than before");
    }
}

#[test]
fn names_are_read_as_they_are_written() {
    for name in ["least-connections", "least-busy", "round-robin", "kernel"] {
        assert_eq!(name.parse::<Balance>().unwrap().to_string(), name);
    }
    assert!(Balance::Kernel.policy().is_none());
    let error = "least-conn".parse::<Balance>().unwrap_err().to_string();
    assert!(error.contains("\"least-conn\"") && error.contains("least-connections"), "{error}");
    assert!("custom".parse::<Balance>().is_err());
}

#[test]
fn a_policy_of_ones_own_decides() {
    let loads = Loads::new(4);
    let balance = Balance::custom(|| |loads: &[ShardLoad]| Some(loads.len() - 1));
    let mut balancer = Balancer::new(loads.clone(), balance.policy().unwrap());
    let _guards: Vec<_> = (0..5).map(|_| balancer.assign().unwrap()).collect();
    assert_eq!(connections(&loads), [0, 0, 0, 5]);
    assert_eq!((loads.overruled_choices(), balance.to_string().as_str()), (0, "custom"));
}

#[test]
fn a_policy_that_is_wrong_is_overruled_and_counted_and_loses_nothing() {
    type Choice = fn(&[ShardLoad]) -> Option<usize>;
    let wrong: [Choice; 4] = [
        |loads| Some(loads.len()),
        |_| Some(1),
        |_| None,
        |loads| {
            loads
                .get(usize::MAX)
                .map_or_else(|| panic!("a bug in a policy"), |load| Some(load.shard))
        },
    ];
    for policy in wrong {
        let loads = Loads::new(3);
        loads.set_available(1, false);
        let mut balancer = Balancer::new(loads.clone(), Box::new(policy));
        let guards: Vec<_> = (0..4).map(|_| balancer.assign().unwrap()).collect();
        assert_eq!(connections(&loads), [2, 0, 2]);
        assert_eq!(loads.overruled_choices(), 4);
        drop(guards);
        assert_eq!(loads.total(), 0);
    }
}

#[test]
fn a_full_inbox_sends_the_connection_to_the_next_shard() {
    let loads = Loads::new(3);
    let mut balancer = least_connections(&loads);
    assert_eq!(balancer.assign_excluding(&[0]).unwrap().shard(), 1);
    assert_eq!(balancer.assign_excluding(&[0, 1]).unwrap().shard(), 2);
    assert_eq!(balancer.assign_excluding(&[0, 1, 2, 2]).unwrap_err(), NoShard::Excluded);
    assert_eq!(balancer.assign_excluding(&[99]).unwrap().shard(), 0);
    assert_eq!((loads.total(), loads.overruled_choices()), (0, 0));
}

#[test]
fn no_shard_gets_more_than_its_cap() {
    let loads = Loads::new(2);
    // Round robin does not look at counts, so it is the cap that holds.
    let mut balancer = Balancer::new(loads.clone(), Balance::RoundRobin.policy().unwrap());
    balancer.cap_connections_per_shard(2);
    let already_there = loads.claim(1).unwrap();
    let mut guards: VecDeque<_> = (0..3).map(|_| balancer.assign().unwrap()).collect();
    assert_eq!(connections(&loads), [2, 2]);
    assert_eq!(balancer.assign().unwrap_err(), NoShard::AtCap);
    assert_eq!(loads.total(), 4, "a refused connection is not counted");

    drop(already_there);
    assert_eq!(balancer.assign_excluding(&[1]).unwrap_err(), NoShard::Excluded);
    guards.push_back(balancer.assign().unwrap());
    assert_eq!(guards.back().unwrap().shard(), 1);

    balancer.cap_connections_per_shard(0);
    guards.push_back(balancer.assign().unwrap());
    assert_eq!(loads.total(), 5);
}

#[test]
fn without_an_available_shard_there_is_an_error() {
    assert_eq!(least_connections(&Loads::new(0)).assign().unwrap_err(), NoShard::Unavailable);
    let loads = Loads::new(2);
    let mut balancer = least_connections(&loads);
    loads.set_available(0, false);
    assert_eq!(balancer.assign().unwrap().shard(), 1);
    loads.set_available(1, false);
    assert_eq!(balancer.assign_excluding(&[1]).unwrap_err(), NoShard::Unavailable);
    loads.set_available(0, true);
    assert_eq!(balancer.assign().unwrap().shard(), 0);
}

#[test]
fn a_count_that_never_holds_still_does_not_hold_up_the_connection() {
    let loads = Loads::new(1);
    // Between every look and the claim that follows, another acceptor takes the shard.
    let rival = |loads: Loads| {
        let mut guards = Vec::new();
        move |_: &[ShardLoad]| {
            guards.extend(loads.claim(0));
            Some(0)
        }
    };
    let mut balancer = Balancer::new(loads.clone(), Box::new(rival(loads.clone())));
    let guard = balancer.assign().unwrap();
    assert_eq!(connections(&loads), [CLAIM_TRIES as u32 + 2]);
    drop((guard, balancer));
    assert_eq!(loads.total(), 0);

    let cap = CLAIM_TRIES as u32 + 1;
    let mut balancer = Balancer::new(loads.clone(), Box::new(rival(loads.clone())));
    balancer.cap_connections_per_shard(cap);
    assert_eq!(balancer.assign().unwrap_err(), NoShard::AtCap);
    assert_eq!(connections(&loads), [cap], "the rival's; ours was taken back");
}

/// The guards of what `acceptors` threads open, `each` as many.
fn open_at_once(loads: &Loads, acceptors: usize, each: usize, cap: u32) -> Vec<LoadGuard> {
    let start = Barrier::new(acceptors);
    let open = || {
        let mut balancer = least_connections(loads);
        balancer.cap_connections_per_shard(cap);
        start.wait();
        (0..each).filter_map(|_| balancer.assign().ok()).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..acceptors).map(|_| scope.spawn(open)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn acceptors_on_threads_of_their_own_stay_even() {
    let loads = Loads::new(8);
    let guards = open_at_once(&loads, 4, 500, 0);
    assert_eq!(connections(&loads), [250; 8]);
    thread::scope(|scope| {
        let mut guards = guards.into_iter();
        while guards.len() > 0 {
            let some: Vec<_> = guards.by_ref().take(500).collect();
            scope.spawn(move || drop(some));
        }
    });
    assert_eq!(connections(&loads), [0; 8]);
}

#[test]
fn acceptors_on_threads_of_their_own_fill_the_shards_up_to_the_cap() {
    let loads = Loads::new(8);
    let guards = open_at_once(&loads, 4, 600, 250);
    assert_eq!((connections(&loads), guards.len()), (vec![250; 8], 2000));
}

#[derive(Clone, Debug)]
enum Step {
    Open { acceptor: usize },
    Close { which: usize },
    Leave { shard: usize },
    Join { shard: usize },
}

proptest! {
    #[test]
    fn opening_keeps_the_spread_within_one(
        shards in 1..80_usize,
        acceptors in vec(0..3_usize, 1..400),
    ) {
        let loads = Loads::new(shards);
        let mut balancers: Vec<_> = (0..3).map(|_| least_connections(&loads)).collect();
        let mut guards = Vec::new();
        for acceptor in acceptors {
            guards.push(balancers[acceptor].assign().unwrap());
            prop_assert!(spread(&loads) <= 1, "{:?}", loads);
        }
        drop(guards);
        prop_assert_eq!(loads.total(), 0);
    }

    #[test]
    fn a_rival_between_look_and_claim_does_not_widen_the_spread(
        shards in 1..9_usize,
        rival_opens in vec(0..4_usize, 1..200),
    ) {
        let loads = Loads::new(shards);
        let mut policy = LeastConnections::default();
        let mut rival = least_connections(&loads);
        let (mut opens, mut rivals_guards) = (rival_opens.clone().into_iter(), Vec::new());
        let interrupted = move |seen: &[ShardLoad]| {
            let chosen = policy.choose(seen);
            for _ in 0..opens.next().unwrap_or(0) {
                rivals_guards.push(rival.assign().unwrap());
            }
            chosen
        };
        let mut balancer = Balancer::new(loads.clone(), Box::new(interrupted));
        let mut guards = Vec::new();
        for _ in &rival_opens {
            guards.push(balancer.assign().unwrap());
            prop_assert!(spread(&loads) <= 1, "{:?}", loads);
        }
        prop_assert_eq!(loads.overruled_choices(), 0);
        drop((guards, balancer));
        prop_assert_eq!(loads.total(), 0);
    }

    #[test]
    fn each_connection_goes_to_a_shard_with_the_fewest(
        shards in 1..20_usize,
        steps in vec(
            prop_oneof![
                6 => (0..3_usize).prop_map(|acceptor| Step::Open { acceptor }),
                4 => any::<usize>().prop_map(|which| Step::Close { which }),
                1 => any::<usize>().prop_map(|shard| Step::Leave { shard }),
                1 => any::<usize>().prop_map(|shard| Step::Join { shard }),
            ],
            1..300,
        ),
    ) {
        let loads = Loads::new(shards);
        let mut balancers: Vec<_> = (0..3).map(|_| least_connections(&loads)).collect();
        let mut guards: Vec<LoadGuard> = Vec::new();
        let mut expected = vec![0; shards];
        let mut available = vec![true; shards];
        for step in steps {
            match step {
                Step::Open { acceptor } => {
                    let fewest = (0..shards).filter(|&i| available[i]).map(|i| expected[i]).min();
                    let assigned = balancers[acceptor].assign();
                    prop_assert_eq!(assigned.is_ok(), fewest.is_some());
                    if let Ok(guard) = assigned {
                        prop_assert!(available[guard.shard()]);
                        prop_assert_eq!(Some(expected[guard.shard()]), fewest);
                        expected[guard.shard()] += 1;
                        guards.push(guard);
                    }
                }
                Step::Close { which } => {
                    if !guards.is_empty() {
                        let guard = guards.swap_remove(which % guards.len());
                        expected[guard.shard()] -= 1;
                    }
                }
                Step::Leave { shard } => {
                    available[shard % shards] = false;
                    loads.set_available(shard % shards, false);
                }
                Step::Join { shard } => {
                    available[shard % shards] = true;
                    loads.set_available(shard % shards, true);
                }
            }
            prop_assert_eq!(&connections(&loads), &expected);
        }
        drop(guards);
        prop_assert_eq!(loads.total(), 0);
    }
}
