use super::*;
use proptest::{collection::vec, prelude::*};
use std::collections::BTreeMap;

const HOUR: u64 = 60 * 60 * 1000;
const YEAR: u64 = 365 * 24 * HOUR;

fn expired<T>(wheel: &mut TimerWheel<T>, now: u64) -> Vec<T> {
    std::iter::from_fn(|| wheel.expire(now)).collect()
}

#[test]
fn timers_come_in_order_when_due_and_not_before() {
    let mut wheel = TimerWheel::new();
    wheel.insert(70, "third");
    wheel.insert(5, "first");
    wheel.insert(5, "second");
    wheel.insert(HOUR, "last");
    assert_eq!(expired(&mut wheel, 4), [""; 0]);
    assert_eq!(expired(&mut wheel, 5), ["first", "second"]);
    assert_eq!(expired(&mut wheel, 69), [""; 0]);
    assert_eq!(expired(&mut wheel, 2 * HOUR), ["third", "last"]);
    assert!(wheel.is_empty());
}

#[test]
fn a_deadline_that_has_passed_is_due_at_once() {
    let mut wheel = TimerWheel::new();
    assert_eq!(wheel.expire(1000), None);
    wheel.insert(3, ());
    assert_eq!(wheel.next_deadline(), Some(1000));
    assert_eq!(wheel.expire(1000), Some(()));
}

#[test]
fn time_that_goes_back_gives_out_nothing_early() {
    let mut wheel = TimerWheel::new();
    wheel.insert(200, ());
    assert_eq!(wheel.expire(150), None);
    assert_eq!(wheel.expire(10), None);
    assert_eq!(wheel.next_deadline(), Some(192));
    assert_eq!(wheel.expire(200), Some(()));
}

#[test]
fn a_stale_key_cancels_nothing() {
    let mut wheel = TimerWheel::new();
    let fired = wheel.insert(1, "fired");
    assert_eq!(wheel.expire(1), Some("fired"));
    let cancelled = wheel.insert(9, "cancelled");
    assert_eq!(cancelled.index, fired.index, "the entry serves again");
    assert_eq!(wheel.cancel(fired), None);
    assert_eq!(wheel.cancel(cancelled), Some("cancelled"));
    assert_eq!(wheel.cancel(cancelled), None);
    let kept = wheel.insert(9, "kept");
    assert_eq!((wheel.cancel(fired), wheel.cancel(cancelled)), (None, None));
    assert_eq!(wheel.cancel(kept), Some("kept"));
}

#[test]
fn an_entry_whose_generations_are_used_up_is_retired() {
    let mut wheel = TimerWheel::new();
    let first = wheel.insert(1, ());
    wheel.cancel(first);
    wheel.entries[0].generation = u32::MAX;
    let last = wheel.insert(1, ());
    assert_eq!(last.index, first.index);
    assert_eq!(wheel.cancel(last), Some(()));
    let next = wheel.insert(1, ());
    assert_ne!(next.index, last.index);
    assert_eq!(wheel.cancel(last), None);
    assert_eq!(wheel.cancel(next), Some(()));
}

#[test]
fn a_new_timer_set_by_one_that_was_given_out_is_part_of_the_round() {
    let mut wheel = TimerWheel::new();
    wheel.insert(10, 1);
    wheel.insert(20, 3);
    assert_eq!(wheel.expire(20), Some(1));
    wheel.insert(15, 2);
    assert_eq!(expired(&mut wheel, 20), [2, 3]);
}

#[test]
fn far_deadlines_are_reached_in_few_wakes() {
    for deadline in [63, 64, 4096, HOUR, YEAR, 1000 * YEAR, u64::MAX - 1, u64::MAX] {
        let mut wheel = TimerWheel::new();
        wheel.expire(12_345.min(deadline));
        wheel.insert(deadline, deadline);
        let mut wakes = 0;
        loop {
            let wake = wheel.next_deadline().unwrap();
            wakes += 1;
            if let Some(value) = wheel.expire(wake) {
                assert_eq!((value, wake), (deadline, deadline), "exact in the end");
                break;
            }
        }
        assert!(wakes <= LEVELS, "{wakes} wakes for {deadline}");
    }
}

#[test]
fn a_warm_wheel_does_not_grow_and_entries_are_small() {
    let mut wheel = TimerWheel::new();
    for round in 0..100 {
        let keys: Vec<_> = (0..50).map(|i| wheel.insert(round * 10 + i * 100, i)).collect();
        keys.into_iter().skip(25).for_each(|key| assert!(wheel.cancel(key).is_some()));
        while wheel.expire(round * 10 + 5000).is_some() {}
    }
    assert_eq!(wheel.entries.len(), 50);
    assert!(size_of::<Entry<std::task::Waker>>() <= 40);
    assert!(size_of::<TimerWheel<u32>>() <= 3 * 1024);
}

#[derive(Clone, Debug)]
enum Step {
    Set { after: u64 },
    SetPast { before: u64 },
    Cancel { which: usize },
    Pass { time: u64 },
    PassToNext,
    GiveOutOne { time: u64 },
}

/// Durations of every magnitude, and those at the edges between levels.
fn duration() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..70_u64,
        3 => 0..5000_u64,
        2 => 0..10 * HOUR,
        1 => 0..50 * YEAR,
        1 => (0..11_u32, 0..3_u64).prop_map(|(level, off)| (1 << (6 * level)) - 1 + off),
        1 => Just(u64::MAX),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    // Time passes in smaller steps than timers are set for, or it would be at its end soon.
    let time = || prop_oneof![4 => 0..70_u64, 3 => 0..5000_u64, 1 => 0..10 * HOUR];
    prop_oneof![
        8 => duration().prop_map(|after| Step::Set { after }),
        1 => duration().prop_map(|before| Step::SetPast { before }),
        4 => any::<usize>().prop_map(|which| Step::Cancel { which }),
        4 => time().prop_map(|time| Step::Pass { time }),
        3 => Just(Step::PassToNext),
        1 => time().prop_map(|time| Step::GiveOutOne { time }),
    ]
}

/// The same timers in a sorted map: by deadline, then by the order in which they were set.
#[derive(Default)]
struct Model {
    /// The time of the last timer given out, or of the last complete round.
    time: u64,
    timers: BTreeMap<(u64, usize), ()>,
}

impl Model {
    fn expire(&mut self, now: u64) -> Option<usize> {
        match self.timers.first_key_value() {
            Some((&(deadline, number), ())) if deadline <= now => {
                self.timers.pop_first();
                self.time = deadline;
                Some(number)
            }
            _ => {
                self.time = self.time.max(now);
                None
            }
        }
    }
}

proptest! {
    #[test]
    fn a_wheel_behaves_like_a_sorted_map(steps in vec(step(), 1..200)) {
        let mut wheel = TimerWheel::new();
        let mut model = Model::default();
        let mut keys = Vec::new();
        let mut now = 0_u64;
        for step in steps {
            match step {
                Step::Set { .. } | Step::SetPast { .. } => {
                    let deadline = match step {
                        Step::Set { after } => now.saturating_add(after),
                        Step::SetPast { before } => now.saturating_sub(before),
                        _ => unreachable!(),
                    };
                    let number = keys.len();
                    let deadline_kept = deadline.max(model.time);
                    keys.push((wheel.insert(deadline, number), deadline_kept));
                    model.timers.insert((deadline_kept, number), ());
                }
                Step::Cancel { which } => {
                    if !keys.is_empty() {
                        let number = which % keys.len();
                        let (key, deadline) = keys[number];
                        let was_pending = model.timers.remove(&(deadline, number)).is_some();
                        prop_assert_eq!(wheel.cancel(key), was_pending.then_some(number));
                    }
                }
                Step::GiveOutOne { time } => {
                    now = now.saturating_add(time);
                    prop_assert_eq!(wheel.expire(now), model.expire(now));
                }
                Step::Pass { .. } | Step::PassToNext => {
                    now = match step {
                        Step::Pass { time } => now.saturating_add(time),
                        // A shard that sleeps until exactly then, unless that is years away.
                        _ => wheel.next_deadline().map_or(now, |next| now.max(next.min(now.saturating_add(HOUR)))),
                    };
                    loop {
                        let given = wheel.expire(now);
                        prop_assert_eq!(given, model.expire(now));
                        if given.is_none() {
                            break;
                        }
                    }
                }
            }
            prop_assert_eq!(wheel.len(), model.timers.len());
            let first = model.timers.keys().next().map(|&(deadline, _)| deadline);
            let wake = wheel.next_deadline();
            prop_assert_eq!(wake.is_some(), first.is_some());
            prop_assert!(wake <= first, "would sleep until {:?} past {:?}", wake, first);
            if wake.is_some_and(|wake| wake >> 6 == model.time >> 6) {
                prop_assert_eq!(wake, first, "exact within the span of 64 ms");
            }
        }
        // Nothing is forgotten: sleeping from wake to wake gives out all the rest, without spinning.
        let (mut wakes, rest) = (0, model.timers.len());
        while let Some(wake) = wheel.next_deadline() {
            wakes += 1;
            now = now.max(wake);
            while let Some(number) = wheel.expire(now) {
                prop_assert_eq!(Some(number), model.expire(now));
            }
        }
        prop_assert!(model.timers.is_empty());
        prop_assert!(wakes <= rest * LEVELS, "{} wakes for {} timers", wakes, rest);
    }
}
