//! Time, as tasks see it.

use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::{executor::Executor, timer::TimerKey};
use crate::ring::{Nanoseconds, nanoseconds};

/// Waits for at least `duration`, counted from the beginning of the executor's turn.
///
/// Timers have a resolution of one millisecond and are never early.
///
/// # Panics
///
/// Outside of a shard, where there is no executor.
#[track_caller]
pub fn sleep(duration: Duration) -> Sleep {
    let executor = Executor::current();
    let deadline = deadline(&executor, duration);
    Sleep { executor, deadline, timer: None }
}

/// Waits for a time of the executor's clock.
pub(crate) fn sleep_until(time: Nanoseconds) -> Sleep {
    Sleep { executor: Executor::current(), deadline: time.div_ceil(1_000_000), timer: None }
}

fn deadline(executor: &Executor, duration: Duration) -> u64 {
    executor.reactor().now().saturating_add(nanoseconds(duration)).div_ceil(1_000_000)
}

/// The future of [`sleep`]. Dropping it takes its timer back.
pub struct Sleep {
    executor: Rc<Executor>,
    /// In milliseconds of the executor's clock.
    deadline: u64,
    timer: Option<(TimerKey, Waker)>,
}

impl Sleep {
    /// Starts over, for `duration` from now.
    pub fn reset(&mut self, duration: Duration) {
        self.deadline = deadline(&self.executor, duration);
        self.disarm();
    }

    pub(crate) fn reset_until(&mut self, time: Nanoseconds) {
        self.deadline = time.div_ceil(1_000_000);
        self.disarm();
    }

    /// The time of the executor's clock at its last turn.
    pub(crate) fn now(&self) -> Nanoseconds {
        self.executor.reactor().now()
    }

    fn disarm(&mut self) {
        if let Some((key, _)) = self.timer.take() {
            let waker = self.executor.timers.borrow_mut().cancel(key);
            drop(waker);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.executor.now_ms() >= self.deadline {
            self.disarm();
            return Poll::Ready(());
        }
        match &self.timer {
            Some((_, waker)) if waker.will_wake(cx.waker()) => {}
            _ => {
                self.disarm();
                let waker = cx.waker().clone();
                let key = self.executor.timers.borrow_mut().insert(self.deadline, waker.clone());
                self.timer = Some((key, waker));
            }
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.disarm();
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").field("deadline_ms", &self.deadline).finish_non_exhaustive()
    }
}

/// Time ran out first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("time ran out")
    }
}

impl std::error::Error for Elapsed {}

/// Runs `future` for at most as long as `limit`; without one, for as long as it takes. One that is
/// done at the very deadline has won.
///
/// Dropping this, or running out of time, drops `future`; what that means is said where `future`
/// comes from.
///
/// # Panics
///
/// With a limit, outside of a shard, where there is no executor.
pub async fn timeout<T>(
    limit: impl Into<Option<Duration>>,
    future: impl Future<Output = T>,
) -> Result<T, Elapsed> {
    let mut limit = pin!(limit.into().map(sleep));
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        match limit.as_mut().as_pin_mut() {
            Some(sleep) => sleep.poll(cx).map(|()| Err(Elapsed)),
            None => Poll::Pending,
        }
    })
    .await
}

/// Lets every other ready task run first, and the driver have its turn if that is due.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
