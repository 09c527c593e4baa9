use super::*;

#[test]
fn a_guard_counts_once_up_and_once_down() {
    let loads = Loads::new(3);
    let guard = loads.claim(2).unwrap();
    assert_eq!(guard.shard(), 2);
    assert_eq!(loads.read(2).unwrap().connections, 1);
    assert_eq!(loads.total(), 1);
    std::thread::spawn(move || drop(guard)).join().unwrap();
    assert_eq!(loads.read(2), Some(ShardLoad::idle(2)));
}

#[test]
fn weight_has_a_life_of_its_own() {
    let loads = Loads::new(1);
    let connection = loads.claim(0).unwrap();
    let request = connection.add_weight(1);
    let streams = connection.add_weight(7);
    assert_eq!(loads.read(0).unwrap().weight, 8);
    drop(request);
    drop(connection);
    assert_eq!((loads.read(0).unwrap().weight, streams.weight()), (7, 7));
    drop(streams);
    assert_eq!(loads.read(0), Some(ShardLoad::idle(0)));
}

#[test]
fn a_claim_from_a_stale_count_is_refused() {
    let loads = Loads::new(2);
    let first = loads.try_claim(0, 0).unwrap();
    assert!(loads.try_claim(0, 0).is_none(), "it has one by now");
    let second = loads.try_claim(0, 1).unwrap();
    drop(first);
    assert!(loads.try_claim(0, 2).is_none(), "one has closed");
    drop(second);
    assert_eq!(loads.total(), 0);
}

#[test]
fn an_unavailable_shard_keeps_its_connections_and_gets_no_others() {
    let loads = Loads::new(2);
    let kept = loads.claim(1).unwrap();
    loads.set_available(1, false);
    assert!(loads.try_claim(1, 1).is_none());
    let left = loads.read(1).unwrap();
    assert_eq!((left.connections, left.available), (1, false));
    let already_there = loads.claim(1).unwrap();
    assert_eq!(loads.total(), 2);
    drop((kept, already_there));
    loads.set_available(1, true);
    assert_eq!(loads.read(1), Some(ShardLoad::idle(1)));
}

#[test]
fn a_snapshot_has_every_shard_in_order_and_replaces_the_last_one() {
    let loads = Loads::new(3);
    let _guard = loads.claim(1).unwrap();
    loads.report_busy(0, 250);
    loads.report_busy(2, 5000);
    let mut seen = vec![ShardLoad::idle(9); 8];
    loads.snapshot(&mut seen);
    assert_eq!(seen.iter().map(|load| load.shard).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(seen.iter().map(|load| load.connections).collect::<Vec<_>>(), [0, 1, 0]);
    assert_eq!(seen.iter().map(|load| load.busy_permille).collect::<Vec<_>>(), [250, 0, 1000]);
}

#[test]
fn shards_that_do_not_exist_are_nothing() {
    let loads = Loads::new(1);
    assert!(loads.claim(1).is_none() && loads.try_claim(1, 0).is_none());
    assert_eq!(loads.read(1), None);
    loads.set_available(1, false);
    loads.report_busy(1, 10);
    assert_eq!(loads.read(0), Some(ShardLoad::idle(0)));
    assert!(Loads::new(0).is_empty());
}

#[test]
fn shards_share_no_cache_line_and_a_guard_is_one_pointer() {
    assert_eq!(align_of::<Load>(), 128);
    assert_eq!(size_of::<Load>(), 128);
    assert_eq!(size_of::<Option<LoadGuard>>(), size_of::<usize>());
}
