//! The loop that runs a shard.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
    task::Waker,
    time::Duration,
};

use async_task::Runnable;
use slab::Slab;

use super::{
    remote::Remote,
    task::{JoinHandle, spawn_on},
    timer::TimerWheel,
};
use crate::ring::{
    Capabilities, CustomOperation, EpollDriver, Nanoseconds, Pool, Reactor, Restrictions,
    RingDriver, Submitted, Wait,
};

/// Task polls after which the driver gets its turn, though tasks are ready.
const TURN_BUDGET: usize = 256;

/// How long the end of an executor waits for operations in flight.
const WIND_DOWN: Duration = Duration::from_secs(1);

thread_local! {
    static CURRENT: RefCell<Option<Rc<Executor>>> = const { RefCell::new(None) };
}

/// Told about every turn of a loop; called on its thread, before the loop sleeps.
pub(crate) trait Turns {
    /// The loop was at work for `busy` nanoseconds since it last slept or was told so, and has
    /// slept for `idle` before that.
    fn turned(&self, executor: &Executor, busy: Nanoseconds, idle: Nanoseconds);

    /// For how long the loop may sleep now, where nothing wakes it; `None`, for ever.
    fn sleep_limit(&self) -> Option<Nanoseconds> {
        None
    }

    /// A task has panicked. Told at once, since the loop may sleep for long after this turn.
    fn panicked(&self) {}
}

/// One thread's executor.
pub(crate) struct Executor {
    reactor: Reactor,
    ready: RefCell<VecDeque<Runnable>>,
    /// Turns that are over.
    turn: Cell<u64>,
    /// Who goes on in the next turn.
    next_turn: RefCell<Vec<Waker>>,
    pub(super) timers: RefCell<TimerWheel<Waker>>,
    /// A waker for each task that lives, to reach them all at the end.
    pub(super) tasks: RefCell<Slab<Waker>>,
    remote: Arc<Remote>,
    #[cfg(any(test, fuzzing))]
    panics: Cell<u64>,
    turns: RefCell<Vec<Box<dyn Turns>>>,
}

impl Executor {
    pub(crate) fn new(reactor: Reactor) -> Rc<Executor> {
        let remote = Remote::new(reactor.doorbell());
        Rc::new(Executor {
            reactor,
            ready: RefCell::default(),
            turn: Cell::new(0),
            next_turn: RefCell::default(),
            timers: RefCell::new(TimerWheel::new()),
            tasks: RefCell::default(),
            remote,
            #[cfg(any(test, fuzzing))]
            panics: Cell::new(0),
            turns: RefCell::default(),
        })
    }

    /// The executor that runs on this thread.
    pub(crate) fn try_current() -> Option<Rc<Executor>> {
        CURRENT.try_with(|current| current.try_borrow().ok()?.clone()).ok()?
    }

    /// The executor that runs on this thread.
    ///
    /// # Panics
    ///
    /// If there is none: what calls this may be used on a shard only.
    #[track_caller]
    pub(crate) fn current() -> Rc<Executor> {
        Executor::try_current().expect("called outside of a shard: there is no executor here")
    }

    pub(crate) fn reactor(&self) -> &Reactor {
        &self.reactor
    }

    pub(crate) fn remote(&self) -> &Arc<Remote> {
        &self.remote
    }

    /// Tasks that panicked.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn panics(&self) -> u64 {
        self.panics.get()
    }

    /// Tasks that live.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn tasks(&self) -> usize {
        self.tasks.borrow().len()
    }

    /// Tells `turns` about this loop from now on. Not from inside of a [`Turns`].
    pub(crate) fn observe_turns(&self, turns: Box<dyn Turns>) {
        self.turns.borrow_mut().push(turns);
    }

    pub(super) fn make_ready(&self, runnable: Runnable) {
        self.ready.borrow_mut().push_back(runnable);
    }

    /// The number of this turn. The clock does not tell turns apart: a virtual one may stand still.
    #[cfg(feature = "__tls")]
    pub(crate) fn turn(&self) -> u64 {
        self.turn.get()
    }

    /// Wakes `waker` when the driver has had its turn, which does not sleep then.
    #[cfg(feature = "__tls")]
    pub(crate) fn wake_next_turn(&self, waker: Waker) {
        self.next_turn.borrow_mut().push(waker);
    }

    /// Milliseconds on the reactor's clock at the last turn; what timers count in.
    pub(super) fn now_ms(&self) -> u64 {
        self.reactor.now() / 1_000_000
    }

    /// Runs until `main` is done; then ends every other task and all operations.
    ///
    /// # Errors
    ///
    /// When the driver becomes unusable. `main` is dropped then, like every other task.
    pub(crate) fn run<T: 'static>(
        self: &Rc<Executor>,
        main: impl Future<Output = T> + 'static,
    ) -> io::Result<T> {
        let _entered = Entered::new(self);
        let result = Rc::new(RefCell::new(None));
        let slot = Rc::clone(&result);
        let main: JoinHandle<()> =
            spawn_on(self, async move { *slot.borrow_mut() = Some(main.await) });
        let turned = self.turn_until(|| main.is_finished());
        drop(main);
        self.end();
        turned?;
        let result = result.borrow_mut().take();
        result.ok_or_else(|| io::Error::other("the main task panicked"))
    }

    fn turn_until(&self, done: impl Fn() -> bool) -> io::Result<()> {
        let mut noticed = false;
        let mut idle = 0;
        loop {
            self.remote.take(&mut self.ready.borrow_mut(), noticed);
            self.fire_timers();
            self.run_ready();
            if done() {
                return Ok(());
            }
            let next_turn = std::mem::take(&mut *self.next_turn.borrow_mut());
            let started = self.reactor.now();
            let is_idle = self.ready.borrow().is_empty() && next_turn.is_empty();
            if is_idle && self.remote.prepare_sleep() {
                let worked = self.reactor.clock();
                self.tell_turned(worked - started, std::mem::take(&mut idle));
                let slept = self.reactor.turn(self.sleep_from(worked));
                noticed = self.remote.woke();
                slept?;
                idle = self.reactor.now() - worked;
            } else {
                self.reactor.turn(Wait::No)?;
                noticed = true;
                self.tell_turned(self.reactor.now() - started, std::mem::take(&mut idle));
            }
            self.turn.set(self.turn.get() + 1);
            next_turn.into_iter().for_each(Waker::wake);
        }
    }

    fn tell_turned(&self, busy: Nanoseconds, idle: Nanoseconds) {
        for turns in &*self.turns.borrow() {
            turns.turned(self, busy, idle);
        }
    }

    /// How long to sleep from `now` on: until the next timer, or as whoever is told of turns wants.
    fn sleep_from(&self, now: Nanoseconds) -> Wait {
        let timer = self.timers.borrow().next_deadline().map(|at| at.saturating_mul(1_000_000));
        let limits = self.turns.borrow();
        let limits = limits.iter().filter_map(|turns| turns.sleep_limit()).map(|limit| now + limit);
        limits.chain(timer).min().map_or(Wait::Forever, Wait::Until)
    }

    fn fire_timers(&self) {
        let now = self.now_ms();
        loop {
            let expired = self.timers.borrow_mut().expire(now);
            let Some(waker) = expired else { break };
            waker.wake();
        }
    }

    fn run_ready(&self) {
        for _ in 0..TURN_BUDGET {
            let runnable = self.ready.borrow_mut().pop_front();
            let Some(runnable) = runnable else { break };
            self.run_one(runnable);
        }
    }

    fn run_one(&self, runnable: Runnable) {
        // The task's state is dropped by the unwinding; what it shares with others is this
        // executor's, which calls no task while it is borrowed.
        if catch_unwind(AssertUnwindSafe(|| runnable.run())).is_err() {
            #[cfg(any(test, fuzzing))]
            self.panics.set(self.panics.get() + 1);
            self.turns.borrow().iter().for_each(|turns| turns.panicked());
            tracing::error!("a task panicked; its connection is closed, the shard goes on");
        }
    }

    /// Drops all tasks and ends all operations.
    fn end(&self) {
        // A task's destructor may wake or spawn others, so go on until none is left; one that
        // spawns for ever is not waited for.
        for _ in 0..1000 {
            self.remote.take(&mut self.ready.borrow_mut(), true);
            let wakers: Vec<Waker> =
                self.tasks.borrow().iter().map(|(_, waker)| waker.clone()).collect();
            wakers.into_iter().for_each(Waker::wake);
            let ready = std::mem::take(&mut *self.ready.borrow_mut());
            if ready.is_empty() {
                break;
            }
            for runnable in ready {
                let _ = catch_unwind(AssertUnwindSafe(|| drop(runnable)));
            }
        }
        drop(self.remote.close());
        let left = self.reactor.wind_down(WIND_DOWN);
        if left > 0 {
            tracing::error!(left, "operations did not end in time; their memory is leaked");
            // Whoever holds this executor holds the slots; one reference that nobody drops keeps
            // them for ever.
            if let Some(executor) = Executor::try_current() {
                std::mem::forget(executor);
            }
        }
    }
}

/// Makes an executor the current one of its thread.
struct Entered(Option<Rc<Executor>>);

impl Entered {
    fn new(executor: &Rc<Executor>) -> Entered {
        Entered(CURRENT.with(|current| current.replace(Some(Rc::clone(executor)))))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let executor = CURRENT.with(|current| current.replace(self.0.take()));
        drop(executor);
    }
}

/// Runs a future on the calling thread, on an executor of its own, until it is done. What it spawned
/// is cancelled then. It is an io_uring executor, or one over epoll where io_uring is refused.
///
/// For programs and tests that need no proxy around it.
///
/// # Errors
///
/// When the executor's descriptors or buffers cannot be had, or its driver became unusable.
pub fn block_on<T: 'static>(main: impl Future<Output = T> + 'static) -> io::Result<T> {
    #[cfg(not(test))]
    let mask = Capabilities::ALL;
    #[cfg(test)]
    let mask = Capabilities::of_this_test_run();
    let pools = vec![Pool::new(256, 4096)?, Pool::new(4, 1 << 20)?];
    let ring = Capabilities::probe().and_then(|capabilities| {
        RingDriver::new(capabilities.masked(mask), &Restrictions::default(), &pools)
    });
    let reactor = match ring {
        Ok(driver) => Reactor::new(Box::new(driver), pools),
        Err(refused) => {
            tracing::debug!("on epoll, since {refused}");
            Reactor::new(Box::new(EpollDriver::new(&pools)?), pools)
        }
    };
    Executor::new(reactor).run(main)
}

/// Starts an operation of your own on this thread's ring. The future gives its result, a negative
/// error number where it failed, and the operation back.
///
/// # Errors
///
/// `Unsupported` where this thread's driver is epoll; `InvalidInput` for an entry with a flag that
/// [`CustomOperation`] forbids. What the kernel refuses, an operation that
/// the ring's restrictions forbid for instance (EACCES), is in the result.
///
/// # Cancel safety
///
/// Dropping the future cancels the operation. What it uses is kept until its completion.
///
/// # Panics
///
/// Outside of a shard, where there is no executor.
pub fn submit<O: CustomOperation + Unpin>(
    operation: O,
) -> io::Result<impl Future<Output = io::Result<(i32, O)>>> {
    Submitted::start(Executor::current(), |executor: &Executor| executor.reactor(), operation)
}
