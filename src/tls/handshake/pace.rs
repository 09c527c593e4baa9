//! How fast a shard takes handshakes on.
//!
//! A step of a handshake is up to a millisecond of signatures and key exchanges. A hundred of them
//! that are ready in the same turn would hold up everybody else on the shard for as long as all of
//! them take. So a turn runs one, and whoever comes meanwhile stands in line: connections that are
//! established wait for at most one step, and those that are not are served in the order in which
//! they came. It is the steps that are limited, not the handshakes under way: these wait for their
//! peers most of the time, and a few slow peers must not keep the others out.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use crate::runtime::Executor;

thread_local! {
    /// That of the shard on this thread.
    static PACE: Rc<Pace> = Rc::default();
}

/// Waits for one's turn to run one step of a handshake.
///
/// # Cancel safety
///
/// Dropping the future gives the place in the line up.
pub(super) async fn step() {
    let pace = PACE.with(Rc::clone);
    pace.step().await;
}

/// The line in front of a shard's handshakes.
#[derive(Default)]
struct Pace {
    /// By the order of coming. The first of them is woken in the next turn.
    line: RefCell<BTreeMap<u64, Option<Waker>>>,
    last: Cell<u64>,
    /// The turn in which the last step was run.
    stepped: Cell<Option<u64>>,
}

impl Pace {
    async fn step(&self) {
        let executor = Executor::current();
        if self.line.borrow().is_empty() && self.take(&executor) {
            return;
        }
        self.last.set(self.last.get() + 1);
        let place = Place { pace: self, number: self.last.get() };
        self.line.borrow_mut().insert(place.number, None);
        poll_fn(|cx| place.poll(&executor, cx)).await;
    }

    /// Takes the step of this turn, if there is one left.
    fn take(&self, executor: &Executor) -> bool {
        let turn = Some(executor.turn());
        self.stepped.replace(turn) != turn
    }

    fn wake_first(&self) {
        let line = self.line.borrow();
        if let Some((_, Some(waker))) = line.first_key_value() {
            waker.wake_by_ref();
        }
    }
}

struct Place<'p> {
    pace: &'p Pace,
    number: u64,
}

impl Place<'_> {
    fn poll(&self, executor: &Executor, cx: &mut Context<'_>) -> Poll<()> {
        let mut line = self.pace.line.borrow_mut();
        let is_first = line.first_key_value().is_some_and(|(number, _)| *number == self.number);
        if is_first && self.pace.take(executor) {
            return Poll::Ready(());
        }
        if is_first {
            executor.wake_next_turn(cx.waker().clone());
        }
        line.insert(self.number, Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.pace.line.borrow_mut().remove(&self.number);
        self.pace.wake_first();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::runtime::{block_on, sleep, spawn};

    #[test]
    fn a_turn_runs_one_step_and_the_order_is_that_of_coming() {
        block_on(async {
            let pace = Rc::new(Pace::default());
            let order = Rc::new(RefCell::new(Vec::new()));
            let tasks: Vec<_> = (0..50)
                .map(|number| {
                    let (pace, order) = (Rc::clone(&pace), Rc::clone(&order));
                    spawn(async move {
                        pace.step().await;
                        order.borrow_mut().push((number, Executor::current().turn()));
                    })
                })
                .collect();
            for (number, task) in tasks.into_iter().enumerate() {
                // One that goes away does not stop the line.
                if number % 7 != 3 {
                    task.await.unwrap();
                }
            }
            let order = order.borrow();
            assert!(order.is_sorted());
            let mut turns: Vec<_> = order.iter().map(|(_, turn)| *turn).collect();
            turns.dedup();
            assert_eq!(turns.len(), order.len(), "a turn each");
            assert!(pace.line.borrow().is_empty());
        })
        .unwrap();
    }

    #[test]
    fn others_run_between_two_steps() {
        block_on(async {
            let pace = Rc::new(Pace::default());
            let steps = Rc::new(Cell::new(0));
            for _ in 0..1000 {
                let (pace, steps) = (Rc::clone(&pace), Rc::clone(&steps));
                spawn(async move {
                    pace.step().await;
                    std::thread::sleep(Duration::from_millis(1));
                    steps.set(steps.get() + 1);
                })
                .detach();
            }
            sleep(Duration::from_millis(20)).await;
            assert!(steps.get() < 200, "{} steps before a timer of 20 ms", steps.get());
        })
        .unwrap();
    }
}
