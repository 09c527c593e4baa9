//! The slots against a map of what is in use.

use std::{
    collections::{BTreeSet, HashMap},
    os::fd::AsRawFd,
};

use proptest::prelude::*;
use rustix::event::{EventfdFlags, eventfd};

use crate::ring::{
    driver::{Key, Kind, Token},
    slots::{Slot, Slots, StreamSlot},
};

const KINDS: [Kind; 4] = [Kind::Connect, Kind::Receive, Kind::Send, Kind::Poll];

/// What happens, to the slot of that number among those that are not reclaimed.
#[derive(Clone, Debug)]
enum Step {
    Insert,
    Release(usize),
    Start(usize, usize),
    End(usize, usize),
    Reclaim(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (which, kind) = (any::<usize>(), 0..KINDS.len());
    prop_oneof![
        Just(Step::Insert),
        which.prop_map(Step::Release),
        (any::<usize>(), kind.clone()).prop_map(|(which, kind)| Step::Start(which, kind)),
        (any::<usize>(), kind).prop_map(|(which, kind)| Step::End(which, kind)),
        which.prop_map(Step::Reclaim),
    ]
}

#[derive(Default)]
struct Use {
    descriptor: i32,
    in_flight: BTreeSet<usize>,
    released: bool,
}

fn check(steps: Vec<Step>) {
    let mut slots = Slots::new();
    let mut uses: HashMap<Key, Use> = HashMap::new();
    let mut order: Vec<Key> = Vec::new();
    let mut reclaimed: Vec<Key> = Vec::new();
    let pick = |order: &[Key], which: usize| match order.len() {
        0 => None,
        length => Some(order[which % length]),
    };
    for step in steps {
        match step {
            Step::Insert => {
                let fd = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
                let descriptor = fd.as_raw_fd();
                let key = slots.insert(Some(fd), Slot::Stream(StreamSlot::new(1, false)));
                assert!(!reclaimed.contains(&key), "a key of an earlier use");
                let used = Use { descriptor, ..Use::default() };
                assert!(uses.insert(key, used).is_none(), "a key in use");
                order.push(key);
            }
            Step::Release(which) => {
                let Some(key) = pick(&order, which) else { continue };
                let used = uses.get_mut(&key).unwrap();
                let tokens: Vec<Token> = slots.release(key).collect();
                let expected: Vec<_> =
                    used.in_flight.iter().map(|kind| Token::new(key, KINDS[*kind])).collect();
                assert_eq!(tokens, expected, "what is to be cancelled");
                used.released = true;
            }
            Step::Start(which, kind) => {
                let Some(key) = pick(&order, which) else { continue };
                let used = uses.get_mut(&key).unwrap();
                if !used.released && used.in_flight.insert(kind) {
                    slots.entry(key).unwrap().started(KINDS[kind]);
                }
            }
            Step::End(which, kind) => {
                let Some(key) = pick(&order, which) else { continue };
                if uses.get_mut(&key).unwrap().in_flight.remove(&kind) {
                    slots.entry(key).unwrap().ended(KINDS[kind]);
                }
            }
            Step::Reclaim(which) => {
                let Some(key) = pick(&order, which) else { continue };
                let used = &uses[&key];
                let due = used.released && used.in_flight.is_empty();
                let fd = slots
                    .reclaim(key)
                    .map(|(fd, _)| fd.expect("a stream has a descriptor").as_raw_fd());
                assert_eq!(fd, due.then_some(used.descriptor), "the descriptor, when it is due");
                if due {
                    uses.remove(&key);
                    order.retain(|other| *other != key);
                    reclaimed.push(key);
                }
            }
        }
        assert_eq!(slots.occupied(), uses.len());
        for key in &reclaimed {
            assert!(slots.entry(*key).is_none(), "a stale key reaches a slot");
        }
        for (key, used) in &uses {
            let entry = slots.entry(*key).expect("it is in use");
            assert_eq!(entry.is_released(), used.released);
            assert_eq!(entry.fd().map(|fd| fd.as_raw_fd()), Some(used.descriptor));
            for (kind, name) in KINDS.iter().enumerate() {
                assert_eq!(entry.in_flight(*name), used.in_flight.contains(&kind));
            }
        }
        let held = uses.values().filter(|used| !used.released).count();
        assert_eq!(slots.held().len(), held);
    }
}

proptest! {
    #[test]
    fn a_slot_is_freed_when_its_handle_and_its_operations_are_gone(
        inserts in 0..130_usize,
        steps in proptest::collection::vec(step(), 0..150),
    ) {
        check(std::iter::repeat_n(Step::Insert, inserts).chain(steps).collect());
    }
}
