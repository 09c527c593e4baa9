//! How other threads reach an executor: a queue of what they leave, the wake word, the doorbell.

use std::{collections::VecDeque, sync::Arc, thread, time::Duration};

use async_task::Runnable;

use super::{executor::Executor, wake::WakeWord};
use crate::{
    ring::Doorbell,
    sync::{Mutex, lock},
};

/// How often a thread without a reactor tries to ring, and how long it waits between two tries.
const RING_TRIES: u32 = 1000;
const RING_PAUSE: Duration = Duration::from_millis(1);

/// An executor, as other threads see it.
pub(crate) struct Remote {
    /// Tasks that were woken from elsewhere; `None` once the executor has ended.
    left: Mutex<Option<Vec<Runnable>>>,
    word: WakeWord,
    doorbell: Arc<dyn Doorbell>,
}

impl Remote {
    pub(super) fn new(doorbell: Arc<dyn Doorbell>) -> Arc<Remote> {
        Arc::new(Remote { left: Mutex::new(Some(Vec::new())), word: WakeWord::new(), doorbell })
    }

    /// Schedules a task of this executor, from any thread.
    pub(super) fn schedule(self: &Arc<Remote>, runnable: Runnable) {
        match Executor::try_current() {
            Some(executor) if Arc::ptr_eq(executor.remote(), self) => executor.make_ready(runnable),
            current => {
                match &mut *lock(&self.left) {
                    Some(left) => left.push(runnable),
                    None => {
                        // Its future was dropped when the executor ended, and what is left of the
                        // task may be touched by that thread alone.
                        std::mem::forget(runnable);
                        return;
                    }
                }
                self.notify_from(current.as_deref());
            }
        }
    }

    fn notify_from(&self, current: Option<&Executor>) {
        if self.word.notify() {
            match current {
                Some(executor) => executor.reactor().ring(&self.doorbell),
                None => self.ring_patiently(),
            }
        }
    }

    /// Rings from a thread that has no reactor to try again later: waits until the bell has rung.
    fn ring_patiently(&self) {
        for _ in 0..RING_TRIES {
            if self.doorbell.ring().is_ok() {
                return;
            }
            thread::sleep(RING_PAUSE);
        }
        tracing::error!("a sleeping shard could not be woken; it goes on with its next event");
    }

    /// Moves what other threads left into the executor's own queue, if the word says that there is
    /// something, or `noticed` that it said so.
    pub(super) fn take(&self, ready: &mut VecDeque<Runnable>, noticed: bool) {
        if (noticed || self.word.take_notice())
            && let Some(left) = &mut *lock(&self.left)
        {
            ready.extend(left.drain(..));
        }
    }

    /// Whether the executor may sleep; others ring from then on. If not, something was left.
    pub(super) fn prepare_sleep(&self) -> bool {
        self.word.prepare_sleep()
    }

    /// After a sleep: whether something was left meanwhile.
    pub(super) fn woke(&self) -> bool {
        self.word.woke()
    }

    /// Takes nothing more.
    pub(super) fn close(&self) -> Vec<Runnable> {
        lock(&self.left).take().unwrap_or_default()
    }
}
