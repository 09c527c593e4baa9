use std::{cell::RefCell, rc::Rc};

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);
const TIMEOUT: Option<Duration> = Some(Duration::from_secs(4));

/// A connection with a number; it notes its end.
#[derive(Debug)]
struct Connection {
    number: usize,
    alive: bool,
    closed: Rc<RefCell<Vec<usize>>>,
}

impl Idle for Connection {
    fn is_alive(&mut self) -> bool {
        self.alive
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.closed.borrow_mut().push(self.number);
    }
}

struct Fixture {
    pool: Pool<Connection>,
    closed: Rc<RefCell<Vec<usize>>>,
    start: Instant,
}

impl Fixture {
    fn new(limits: PoolLimits) -> Fixture {
        Fixture { pool: Pool::new(limits), closed: Rc::default(), start: Instant::now() }
    }

    fn at(&self, milliseconds: u64) -> Instant {
        self.start + Duration::from_millis(milliseconds)
    }

    fn put(&mut self, key: PoolKey, number: usize, now: u64) {
        self.put_with(key, number, TIMEOUT, true, now);
    }

    fn put_with(
        &mut self,
        key: PoolKey,
        number: usize,
        timeout: Option<Duration>,
        alive: bool,
        now: u64,
    ) {
        let connection = Connection { number, alive, closed: Rc::clone(&self.closed) };
        self.pool.put(key, connection, timeout, self.at(now));
    }

    fn get(&mut self, key: PoolKey, now: u64) -> Option<usize> {
        let connection = self.pool.get(&key, self.at(now))?;
        let number = connection.number;
        drop(connection);
        assert_eq!(self.closed.borrow_mut().pop(), Some(number));
        Some(number)
    }

    /// What was closed since the last time, in order.
    fn closed(&self) -> Vec<usize> {
        std::mem::take(&mut self.closed.borrow_mut())
    }
}

fn endpoint() -> PoolKey {
    PoolKey::Endpoint(EndpointId::next())
}

fn destination(cluster: EndpointId, port: u16) -> PoolKey {
    PoolKey::Destination { cluster, address: ([10, 0, 0, 1], port).into() }
}

#[test]
fn the_most_recently_used_comes_first_and_keys_are_apart() {
    let mut fixture = Fixture::new(PoolLimits::default());
    let (one, other) = (endpoint(), endpoint());
    (1..=3).for_each(|number| fixture.put(one, number, 0));
    fixture.put(other, 9, 0);
    assert_eq!((fixture.pool.len(), fixture.pool.len_of(&one)), (4, 3));
    assert_eq!(fixture.get(one, 1), Some(3));
    fixture.put(one, 3, 2);
    assert_eq!(
        [fixture.get(one, 3), fixture.get(one, 3), fixture.get(one, 3)],
        [Some(3), Some(2), Some(1)]
    );
    assert_eq!((fixture.get(one, 3), fixture.get(other, 3)), (None, Some(9)));
    assert_eq!(fixture.pool.counts().reused, 5);
    assert!(fixture.pool.is_empty() && fixture.closed().is_empty());
}

#[test]
fn a_dead_connection_is_passed_over_and_closed() {
    let mut fixture = Fixture::new(PoolLimits::default());
    let key = endpoint();
    fixture.put(key, 1, 0);
    fixture.put_with(key, 2, TIMEOUT, false, 0);
    fixture.put_with(key, 3, TIMEOUT, false, 0);
    let taken = fixture.pool.get(&key, fixture.at(1)).unwrap();
    assert_eq!((taken.number, fixture.closed()), (1, vec![3, 2]));
    fixture.put_with(key, 4, TIMEOUT, false, 1);
    assert_eq!(fixture.get(key, 2), None);
    assert_eq!((fixture.closed(), fixture.pool.counts().dead), (vec![4], 3));
}

#[test]
fn idle_connections_expire_each_at_its_time() {
    let mut fixture = Fixture::new(PoolLimits::default());
    let (soon, late, never) = (endpoint(), endpoint(), endpoint());
    assert_eq!(fixture.pool.next_expiry(), None);
    fixture.put_with(never, 9, None, true, 0);
    assert_eq!(fixture.pool.next_expiry(), None);
    fixture.put_with(late, 1, Some(1000 * MS), true, 0);
    fixture.put_with(soon, 2, Some(100 * MS), true, 500);
    fixture.put_with(soon, 3, Some(100 * MS), true, 550);
    assert_eq!(fixture.pool.next_expiry(), Some(fixture.at(600)));
    assert_eq!(fixture.pool.expire(fixture.at(599)), 0);
    assert_eq!((fixture.pool.expire(fixture.at(600)), fixture.closed()), (1, vec![2]));
    // Not asked in time: it is not given out all the same.
    assert_eq!((fixture.get(soon, 650), fixture.closed()), (None, vec![3]));
    assert_eq!(fixture.pool.next_expiry(), Some(fixture.at(1000)));
    assert_eq!((fixture.pool.expire(fixture.at(9999)), fixture.closed()), (1, vec![1]));
    assert_eq!((fixture.pool.next_expiry(), fixture.get(never, 99_999)), (None, Some(9)));
    assert_eq!(fixture.pool.counts().expired, 3);
}

#[test]
fn of_too_many_the_longest_idle_goes() {
    let mut fixture = Fixture::new(PoolLimits { each: 2, all: 4, destinations: 9 });
    let keys = [endpoint(), endpoint(), endpoint()];
    fixture.put_with(keys[0], 0, None, true, 0);
    (1..=3).for_each(|number| fixture.put(keys[1], number, number as u64));
    assert_eq!((fixture.closed(), fixture.pool.len()), (vec![1], 3), "of that endpoint");
    fixture.put(keys[2], 4, 4);
    fixture.put(keys[2], 5, 5);
    assert_eq!((fixture.closed(), fixture.pool.len()), (vec![0], 4), "of the shard");
    assert_eq!(fixture.pool.counts().evicted, 2);
    fixture.pool.clear(&keys[2]);
    assert_eq!((fixture.closed(), fixture.pool.len()), (vec![4, 5], 2));
    fixture.pool.clear_all();
    assert!(fixture.pool.is_empty());
}

#[test]
fn original_destinations_are_bounded_and_do_not_push_out_clusters() {
    let mut fixture = Fixture::new(PoolLimits { destinations: 2, ..PoolLimits::default() });
    let (cluster, passthrough) = (endpoint(), EndpointId::next());
    let to = |port| destination(passthrough, port);
    fixture.put(cluster, 0, 0);
    fixture.put(to(1), 1, 1);
    fixture.put(to(2), 2, 2);
    fixture.put(to(1), 11, 3);
    fixture.put(to(3), 3, 4);
    assert_eq!(fixture.closed(), [2], "the least recently used one");
    fixture.put(to(4), 4, 5);
    assert_eq!(fixture.closed(), [1, 11], "with all its connections");
    assert_eq!((fixture.get(to(3), 6), fixture.get(to(4), 6)), (Some(3), Some(4)));
    assert_eq!(fixture.get(cluster, 6), Some(0));
    // Whoever is gone leaves its place.
    fixture.put(to(5), 5, 7);
    fixture.put(to(6), 6, 7);
    assert!(fixture.closed().is_empty());
    let elsewhere = destination(EndpointId::next(), 5);
    assert_eq!(fixture.get(elsewhere, 8), None, "another cluster's, to the same address");
}

#[test]
fn a_pool_without_room_keeps_nothing() {
    for limits in [
        PoolLimits { each: 0, ..PoolLimits::default() },
        PoolLimits { all: 0, ..PoolLimits::default() },
        PoolLimits { destinations: 0, ..PoolLimits::default() },
    ] {
        let mut fixture = Fixture::new(limits);
        let key = destination(EndpointId::next(), 1);
        fixture.put(key, 1, 0);
        assert_eq!((fixture.closed(), fixture.get(key, 0)), (vec![1], None), "{limits:?}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put { key: usize, timeout: usize, alive: bool },
    Get { key: usize },
    Clear { key: usize },
    Expire,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..6_usize, 0..3_usize, prop::bool::weighted(0.8))
            .prop_map(|(key, timeout, alive)| Step::Put { key, timeout, alive }),
        4 => (0..6_usize).prop_map(|key| Step::Get { key }),
        1 => (0..6_usize).prop_map(|key| Step::Clear { key }),
        2 => Just(Step::Expire),
        3 => (1..500_u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..200)
}

/// The same pool, as a list that is searched: what stands at the end was put there last.
#[derive(Default)]
struct Model {
    entries: Vec<(usize, usize, u64, Option<u64>, bool)>,
    /// Keys of destinations, the most recently used last.
    recent: Vec<usize>,
    closed: Vec<usize>,
}

impl Model {
    fn remove(&mut self, position: usize) -> usize {
        let (key, number, ..) = self.entries.remove(position);
        if self.entries.iter().all(|entry| entry.0 != key) {
            self.recent.retain(|recent| *recent != key);
        }
        number
    }

    fn close_all(&mut self, which: impl Fn(&(usize, usize, u64, Option<u64>, bool)) -> bool) {
        while let Some(position) = self.entries.iter().position(&which) {
            let number = self.remove(position);
            self.closed.push(number);
        }
    }

    fn put(&mut self, limits: PoolLimits, entry: (usize, usize, u64, Option<u64>, bool)) {
        let (key, is_destination) = (entry.0, entry.0 >= 3);
        let of_key = self.entries.iter().filter(|it| it.0 == key).count();
        if of_key >= limits.each {
            let oldest = self.entries.iter().find(|it| it.0 == key).unwrap().1;
            self.close_all(|it| it.1 == oldest);
        } else if is_destination && of_key == 0 && self.recent.len() >= limits.destinations {
            let least = self.recent[0];
            self.close_all(|it| it.0 == least);
        }
        if self.entries.len() >= limits.all {
            // Of those put at the same time any may go: the pool's order is by lane.
            let oldest = self.entries[0].1;
            self.close_all(|it| it.1 == oldest);
        }
        self.entries.push(entry);
        if is_destination {
            self.recent.retain(|recent| *recent != key);
            self.recent.push(key);
        }
    }
}

proptest! {
    /// Whatever is done to it, the pool gives out and closes what a simple list would.
    #[test]
    fn it_is_a_list_that_is_not_searched(steps in steps()) {
        const TIMEOUTS: [Option<u64>; 3] = [Some(300), Some(1000), None];
        let limits = PoolLimits { each: 3, all: 8, destinations: 2 };
        let mut fixture = Fixture::new(limits);
        let mut model = Model::default();
        let passthrough = EndpointId::next();
        let keys: Vec<_> = (0..6).map(|key| match key {
            0..3 => endpoint(),
            port => destination(passthrough, port),
        }).collect();
        let mut now = 0;
        for (number, step) in steps.into_iter().enumerate() {
            // No two connections are put there at the same time, so the longest idle is one.
            now += 1;
            let over = |entry: &(usize, usize, u64, Option<u64>, bool)| entry.3.is_some_and(|it| now - entry.2 >= it);
            match step {
                Step::Put { key, timeout, alive } => {
                    let timeout = TIMEOUTS[timeout];
                    fixture.put_with(keys[key], number, timeout.map(Duration::from_millis), alive, now);
                    model.put(limits, (key, number, now, timeout, alive));
                }
                Step::Get { key } => {
                    let got = fixture.get(keys[key], now);
                    let mut expected = None;
                    while let Some(position) = model.entries.iter().rposition(|it| it.0 == key) {
                        let entry = model.entries[position];
                        if over(&entry) {
                            model.close_all(|it| it.0 == key);
                            break;
                        }
                        model.remove(position);
                        if entry.4 {
                            expected = Some(entry.1);
                            break;
                        }
                        model.closed.push(entry.1);
                    }
                    prop_assert_eq!(got, expected);
                }
                Step::Clear { key } => {
                    fixture.pool.clear(&keys[key]);
                    model.close_all(|it| it.0 == key);
                }
                Step::Expire => {
                    fixture.pool.expire(fixture.at(now));
                    model.close_all(over);
                }
                Step::Wait(time) => now += time,
            }
            let ends = model.entries.iter().filter_map(|it| Some(it.2 + it.3?));
            prop_assert_eq!(fixture.pool.next_expiry(), ends.min().map(|end| fixture.at(end)));
            prop_assert_eq!(fixture.pool.len(), model.entries.len());
            let (mut closed, mut expected) = (fixture.closed(), std::mem::take(&mut model.closed));
            closed.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(closed, expected);
        }
        // Nothing is left behind that would grow.
        fixture.pool.clear_all();
        prop_assert!(fixture.pool.buckets.is_empty() && fixture.pool.by_key.is_empty());
        prop_assert!(fixture.pool.lanes.len() <= 3 && fixture.pool.destination_count == 0);
    }
}
