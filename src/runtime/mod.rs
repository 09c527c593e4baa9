//! The executor of a shard: tasks, timers and wake-ups on one thread, over one driver.
//!
//! Flows in: futures, and wake-ups from this thread and others. Flows out: their results. It owns
//! the tasks, the timers and the reactor (`ring`). It never moves a task to
//! another thread, so futures need not be `Send`.
//!
//! **A turn of the loop**: take what other threads left, fire timers, run tasks until none is
//! ready or the turn's budget is spent, then one turn of the driver, which sleeps only where
//! nothing is left to do.
//!
//! **Panics.** A task that panics ends alone: its future is dropped, who joins it gets
//! [`TaskEnded`], the panic is counted, and the loop goes on.
//!
//! **The end.** All tasks are dropped, which cancels their operations; the driver turns until
//! nothing is in flight, within a bound; what is in flight after it is leaked rather than freed,
//! since the kernel may still write to it.

mod executor;
mod remote;
mod sleep;
mod task;
pub(crate) mod timer;
mod wake;

pub(crate) use self::executor::{Executor, Turns};
pub(crate) use self::sleep::sleep_until;
pub use self::{
    executor::{block_on, submit},
    sleep::{Elapsed, Sleep, sleep, timeout, yield_now},
    task::{JoinHandle, TaskEnded, spawn},
};
