//! The time by which whatever a connection is doing must be done.
//!
//! A connection goes through phases, each with limits of its own, many times a second. So setting a
//! limit is a store: the one timer of the connection is touched where a limit is nearer than what the
//! timer is set for, and when it fires it is set anew for what is left.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    ring::{Nanoseconds, nanoseconds},
    runtime::{Executor, Sleep, sleep_until},
};

/// No limit.
const NEVER: Nanoseconds = Nanoseconds::MAX;

/// The limits of the present phase: one for the whole of it, and one for the time in which nothing
/// moves.
pub(super) struct Deadline {
    executor: Rc<Executor>,
    end: Cell<Nanoseconds>,
    idle: Cell<Option<Duration>>,
    moved: Cell<bool>,
    moved_at: Cell<Nanoseconds>,
    timer: RefCell<Option<Timer>>,
}

struct Timer {
    sleep: Sleep,
    set_for: Nanoseconds,
}

/// Time ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expired {
    /// For the phase as a whole.
    End,
    /// With nothing moving.
    Idle,
}

impl Deadline {
    /// Without limits.
    pub(super) fn new() -> Deadline {
        Deadline {
            executor: Executor::current(),
            end: Cell::new(NEVER),
            idle: Cell::new(None),
            moved: Cell::new(false),
            moved_at: Cell::new(0),
            timer: RefCell::new(None),
        }
    }

    /// The time at the beginning of this turn.
    pub(super) fn now(&self) -> Nanoseconds {
        self.executor.reactor().now()
    }

    /// A phase begins, which may last so long from now and be idle for so long; `None`: for ever.
    pub(super) fn begin(&self, limit: Option<Duration>, idle: Option<Duration>) {
        let now = self.now();
        self.end.set(limit.map_or(NEVER, |limit| now.saturating_add(nanoseconds(limit))));
        self.idle.set(idle);
        self.moved.set(false);
        self.moved_at.set(now);
    }

    /// Something has moved.
    pub(super) fn moved(&self) {
        self.moved.set(true);
    }

    /// Runs `future` for as long as the limits, which it may change meanwhile, allow.
    ///
    /// It is pinned by the caller: a future that is handed over takes up its room twice.
    pub(super) async fn guard<T>(
        &self,
        mut future: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, Expired> {
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll_expired(cx).map(Err),
        })
        .await
    }

    /// When the first of the limits is reached.
    fn at(&self) -> Nanoseconds {
        if self.moved.take() {
            self.moved_at.set(self.now());
        }
        let idle = self.idle.get().map(nanoseconds);
        let idle_at = idle.map_or(NEVER, |idle| self.moved_at.get().saturating_add(idle));
        self.end.get().min(idle_at)
    }

    fn poll_expired(&self, cx: &mut Context<'_>) -> Poll<Expired> {
        let at = self.at();
        if at == NEVER {
            return Poll::Pending;
        }
        let mut slot = self.timer.borrow_mut();
        let timer = slot.get_or_insert_with(|| Timer { sleep: sleep_until(at), set_for: at });
        if at < timer.set_for {
            timer.set(at);
        }
        while Pin::new(&mut timer.sleep).poll(cx).is_ready() {
            let now = timer.sleep.now();
            if at <= now {
                let ended = self.end.get() <= now;
                return Poll::Ready(if ended { Expired::End } else { Expired::Idle });
            }
            timer.set(at);
        }
        Poll::Pending
    }
}

impl Timer {
    fn set(&mut self, at: Nanoseconds) {
        self.sleep.reset_until(at);
        self.set_for = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{block_on, sleep};
    use std::{pin::pin, time::Instant};

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Option<Duration> = Some(Duration::from_secs(60));

    #[test]
    fn a_limit_may_come_nearer_and_go_further_away() {
        // Before the shard's clock, which stands still between turns.
        let began = Instant::now();
        block_on(async move {
            let deadline = Deadline::new();
            deadline.begin(LONG, None);
            let nearer = async {
                deadline.begin(Some(SHORT), None);
                std::future::pending::<()>().await;
            };
            assert_eq!(deadline.guard(pin!(nearer)).await, Err(Expired::End));
            assert!(began.elapsed() >= SHORT && began.elapsed() < Duration::from_secs(30));
            let further = async {
                deadline.begin(LONG, LONG);
                sleep(SHORT * 2).await;
                7
            };
            deadline.begin(Some(SHORT), None);
            assert_eq!(deadline.guard(pin!(further)).await, Ok(7));
            deadline.begin(None, None);
            assert_eq!(deadline.guard(pin!(sleep(SHORT))).await, Ok(()));
        })
        .unwrap();
    }

    #[test]
    fn what_moves_is_not_idle() {
        block_on(async {
            let deadline = Deadline::new();
            deadline.begin(None, Some(SHORT * 4));
            let moving = async {
                for _ in 0..8 {
                    sleep(SHORT).await;
                    deadline.moved();
                }
            };
            assert_eq!(deadline.guard(pin!(moving)).await, Ok(()));
            assert_eq!(
                deadline.guard(pin!(std::future::pending::<()>())).await,
                Err(Expired::Idle)
            );
        })
        .unwrap();
    }
}
