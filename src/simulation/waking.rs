//! Wake-ups from other threads, at any moment: before the executor sleeps, in its sleep, with the
//! doorbell late or for nothing. One that is lost is a sleep for ever, which the driver reports.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex},
    task::{Poll, Waker},
};

use super::{milliseconds, simulate};
use crate::{
    ring::simulated::World,
    runtime::{sleep, spawn, yield_now},
};

/// What other threads have left for a task, and how to wake that.
#[derive(Default)]
struct Mailbox {
    left: Vec<u64>,
    waker: Option<Waker>,
}

/// Other threads leave these, each at a time of its own and in any order.
fn leave(world: &World, mailbox: &Arc<Mutex<Mailbox>>, letters: std::ops::Range<u64>, until: u64) {
    let mut random = world.random();
    for letter in letters {
        let mailbox = Arc::clone(mailbox);
        // Some at the same time, and some on a tick, when timers fire.
        let at = world.now() + random.below(until) / 1000 * random.pick(&[0, 1, 500, 1000]);
        world.elsewhere(at, move || {
            let waker = {
                let mut mailbox = mailbox.lock().unwrap();
                mailbox.left.push(letter);
                mailbox.waker.take()
            };
            waker.inspect(Waker::wake_by_ref);
        });
    }
}

async fn take(mailbox: Arc<Mutex<Mailbox>>, count: usize) -> Vec<u64> {
    let mut taken = Vec::new();
    poll_fn(|cx| {
        let mut mailbox = mailbox.lock().unwrap();
        taken.append(&mut mailbox.left);
        mailbox.waker = Some(cx.waker().clone());
        if taken.len() == count { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    taken.sort_unstable();
    taken
}

#[test]
fn no_wake_up_from_another_thread_is_lost() {
    simulate(|world| async move {
        const LETTERS: u64 = 8;
        let mut random = world.random();
        let until = 1000 + random.scale(20_000_000);
        let tasks: Vec<_> = (0..1 + random.below(3))
            .map(|task| {
                let mailbox = Arc::default();
                let letters = task * LETTERS..(task + 1) * LETTERS;
                leave(&world, &mailbox, letters.clone(), until);
                (letters, spawn(take(mailbox, LETTERS as usize)))
            })
            .collect();
        // The executor sleeps for ever, has a timer, or is busy.
        match random.below(3) {
            0 => {}
            1 => sleep(milliseconds(random.below(25))).await,
            _ => {
                for _ in 0..random.scale(200) {
                    yield_now().await;
                }
            }
        }
        for (letters, task) in tasks {
            assert_eq!(task.await.unwrap(), letters.collect::<Vec<_>>());
        }
    });
}

#[test]
fn a_wake_up_of_a_task_that_has_ended_does_nothing() {
    simulate(|world| async move {
        let mailbox: Arc<Mutex<Mailbox>> = Arc::default();
        let cancelled = spawn(take(Arc::clone(&mailbox), 2));
        yield_now().await;
        leave(&world, &mailbox, 0..1, 5_000_000);
        drop(cancelled);
        sleep(milliseconds(world.random().below(10))).await;
    });
}
