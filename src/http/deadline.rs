//! The time by which whatever a connection is doing must be done.
//!
//! A connection goes through phases, each with a limit of its own, many times a second. So setting
//! a limit is a store: the one timer of the connection is touched where a limit is nearer than what
//! the timer is set for, and when it fires it is set anew for what is left.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    ring::{Nanoseconds, nanoseconds},
    runtime::{Sleep, sleep_until},
};

/// No limit.
const NEVER: Nanoseconds = Nanoseconds::MAX;

/// The limit of the present phase.
pub(super) struct Deadline {
    at: Cell<Nanoseconds>,
    timer: RefCell<Option<Timer>>,
}

struct Timer {
    sleep: Sleep,
    set_for: Nanoseconds,
}

/// Time ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expired;

impl Deadline {
    /// Without a limit.
    pub(super) fn new() -> Deadline {
        Deadline { at: Cell::new(NEVER), timer: RefCell::new(None) }
    }

    /// The present phase may last until `limit` after `since`; `None`: for ever.
    pub(super) fn set(&self, since: Nanoseconds, limit: Option<Duration>) {
        self.at.set(limit.map_or(NEVER, |limit| since.saturating_add(nanoseconds(limit))));
    }

    /// Runs `future` for as long as the limit, which it may change meanwhile, allows.
    pub(super) async fn guard<T>(&self, future: impl Future<Output = T>) -> Result<T, Expired> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll_expired(cx).map(Err),
        })
        .await
    }

    fn poll_expired(&self, cx: &mut Context<'_>) -> Poll<Expired> {
        let at = self.at.get();
        if at == NEVER {
            return Poll::Pending;
        }
        let mut slot = self.timer.borrow_mut();
        let timer = slot.get_or_insert_with(|| Timer { sleep: sleep_until(at), set_for: at });
        if at < timer.set_for {
            timer.set(at);
        }
        while Pin::new(&mut timer.sleep).poll(cx).is_ready() {
            if at <= timer.sleep.now() {
                return Poll::Ready(Expired);
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
    use crate::runtime::{Executor, block_on, sleep};
    use std::time::Instant;

    fn now() -> Nanoseconds {
        Executor::current().reactor().now()
    }

    #[test]
    fn a_limit_may_come_nearer_and_go_further_away() {
        const SHORT: Duration = Duration::from_millis(20);
        block_on(async {
            let deadline = Deadline::new();
            deadline.set(now(), Some(Duration::from_secs(60)));
            let began = Instant::now();
            let nearer = async {
                deadline.set(now(), Some(SHORT));
                std::future::pending::<()>().await;
            };
            assert_eq!(deadline.guard(nearer).await, Err(Expired));
            assert!(began.elapsed() >= SHORT && began.elapsed() < Duration::from_secs(30));
            let further = async {
                deadline.set(now(), Some(Duration::from_secs(60)));
                sleep(SHORT * 2).await;
                7
            };
            deadline.set(now(), Some(SHORT));
            assert_eq!(deadline.guard(further).await, Ok(7));
            deadline.set(now(), None);
            assert_eq!(deadline.guard(sleep(SHORT)).await, Ok(()));
        })
        .unwrap();
    }
}
