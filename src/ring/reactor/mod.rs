//! A shard's side of its driver, between the tasks that want something of the kernel and the driver
//! that carries it out.
//!
//! Flows in: what tasks ask of their streams (`streams.rs`), listening sockets (`listeners.rs`) and
//! operations of their own (`custom.rs`), each answered at once or by registering a waker; and what
//! the driver has completed (`completions.rs`). Flows out: operations (`start.rs`), wake-ups,
//! chunks, descriptors. It owns the slots, the driver and the receive pools, and belongs to one
//! thread. It never calls a future: wakers are collected while a batch of completions is taken in,
//! and woken after it.

mod completions;
mod custom;
mod listeners;
mod start;
mod streams;

pub(crate) use self::streams::CREDIT;

use std::{
    cell::{Cell, RefCell},
    io,
    mem::ManuallyDrop,
    rc::Rc,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use self::completions::Starved;
use super::{
    buffers::Pool,
    doorbells::Doorbells,
    driver::{Completion, Doorbell, Driver, Key, Nanoseconds, Wait, nanoseconds},
    output::{Output, Outputs},
    slots::{Entry, Slot, Slots},
};

/// The pool of small receive buffers, for most traffic.
pub(crate) const SMALL: u16 = 0;
/// The pool of large receive buffers, for bulk.
pub(crate) const LARGE: u16 = 1;

pub(crate) struct Reactor {
    inner: RefCell<Inner>,
    pools: Vec<Rc<Pool>>,
    outputs: Rc<Outputs>,
    completions: Cell<Vec<Completion>>,
    wakes: Cell<Vec<Waker>>,
    now: Cell<Nanoseconds>,
    completed: Cell<u64>,
}

struct Inner {
    /// Both are dropped only when nothing is in flight.
    slots: ManuallyDrop<Slots>,
    driver: ManuallyDrop<Box<dyn Driver>>,
    doorbells: Doorbells,
    starved: Starved,
    /// What operations of embedders owned: their code, to be dropped when nothing is borrowed.
    ended: Vec<Box<dyn std::any::Any>>,
}

/// A released or unknown key. The handles that hold keys release them when they are dropped, so
/// nobody can meet this but by a mistake in this crate.
fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl Reactor {
    pub(crate) fn new(driver: Box<dyn Driver>, pools: Vec<Rc<Pool>>) -> Reactor {
        let now = driver.now();
        Reactor {
            inner: RefCell::new(Inner {
                slots: ManuallyDrop::new(Slots::new()),
                driver: ManuallyDrop::new(driver),
                doorbells: Doorbells::new(),
                starved: Starved::default(),
                ended: Vec::new(),
            }),
            pools,
            outputs: Rc::default(),
            completions: Cell::default(),
            wakes: Cell::default(),
            now: Cell::new(now),
            completed: Cell::new(0),
        }
    }

    /// The time at which the last turn ended.
    pub(crate) fn now(&self) -> Nanoseconds {
        self.now.get()
    }

    /// The time that the driver's clock shows.
    pub(crate) fn clock(&self) -> Nanoseconds {
        self.inner.borrow().driver.now()
    }

    pub(crate) fn doorbell(&self) -> Arc<dyn Doorbell> {
        self.inner.borrow().driver.doorbell()
    }

    /// An empty buffer to write what is to be sent.
    pub(crate) fn output(&self) -> Output {
        self.outputs.take()
    }

    /// Rings another thread's doorbell with the next turn.
    pub(crate) fn ring(&self, doorbell: &Arc<dyn Doorbell>) {
        let inner = &mut *self.inner.borrow_mut();
        let token = inner.doorbells.token(doorbell);
        if inner.driver.ring(token, &**doorbell).is_err() {
            inner.doorbells.failed(token);
        }
    }

    /// Small receive buffers that hold nothing.
    pub(crate) fn free_buffers(&self) -> usize {
        self.pools.first().map_or(0, |pool| pool.available())
    }

    pub(crate) fn overflows(&self) -> u64 {
        self.inner.borrow().driver.overflows()
    }

    /// Completions taken in by all turns so far.
    pub(crate) fn completed(&self) -> u64 {
        self.completed.get()
    }

    /// Slots that own a descriptor or memory.
    pub(crate) fn occupied(&self) -> usize {
        self.inner.borrow().slots.occupied()
    }

    /// One turn: starts what was asked for, waits, takes in what completed, wakes who waited.
    pub(crate) fn turn(&self, wait: Wait) -> io::Result<()> {
        let mut completions = self.completions.take();
        let mut wakes = self.wakes.take();
        let (result, ended) = {
            let inner = &mut *self.inner.borrow_mut();
            // Before the driver sleeps: buffers may have come back since the last turn.
            let more_wait = inner.feed_starved(&self.pools);
            let wait = if more_wait { Wait::No } else { wait };
            let wait = inner.doorbells.before_turn(wait, || inner.driver.now());
            let result = inner.driver.turn(wait, &mut completions);
            self.now.set(inner.driver.now());
            self.completed.set(self.completed.get() + completions.len() as u64);
            for completion in completions.drain(..) {
                inner.complete(completion, &self.pools, &mut wakes);
            }
            (result, std::mem::take(&mut inner.ended))
        };
        drop(ended);
        for waker in wakes.drain(..) {
            waker.wake();
        }
        self.completions.set(completions);
        self.wakes.set(wakes);
        result
    }

    /// Cancels everything, whoever holds it, and turns until nothing is in flight or `bound` has
    /// passed. Returns how many slots are left.
    pub(crate) fn wind_down(&self, bound: Duration) -> usize {
        let held = self.inner.borrow().slots.held();
        for key in held {
            self.release(key);
        }
        let deadline = self.clock().saturating_add(nanoseconds(bound));
        while self.occupied() > 0 && self.clock() < deadline {
            if self.turn(Wait::Until(deadline)).is_err() {
                break;
            }
        }
        // One more, for closes that were asked for last.
        let _ = self.turn(Wait::No);
        self.occupied()
    }

    /// The handle of a slot is gone: cancels what is in flight, and closes the descriptor when the
    /// last of it has completed.
    pub(crate) fn release(&self, key: Key) {
        let ended = {
            let inner = &mut *self.inner.borrow_mut();
            inner.release(key);
            std::mem::take(&mut inner.ended)
        };
        drop(ended);
    }
}

impl Inner {
    fn entry(&mut self, key: Key) -> Option<(&mut Entry, &mut dyn Driver)> {
        Some((self.slots.entry(key)?, &mut **self.driver))
    }

    fn release(&mut self, key: Key) {
        // A peer that is not sent everything, which a failed send is as well, must not take what it
        // got for the whole.
        if let Some((entry, driver)) = self.entry(key)
            && let Slot::Stream(stream) = &entry.slot
            && stream.send.queued().map_or(true, |queued| queued > 0)
            && let Some(fd) = entry.fd()
        {
            let _ = driver.reset_on_close(fd);
        }
        for token in self.slots.release(key) {
            self.driver.cancel(token);
            // The slot is free at its end.
            self.driver.await_sends();
        }
        self.reclaim(key);
    }

    fn reclaim(&mut self, key: Key) {
        let Some((fd, slot)) = self.slots.reclaim(key) else { return };
        if let Some(fd) = fd {
            self.driver.close(fd);
        }
        if let Slot::Custom(custom) = slot {
            self.ended.push(custom.owned);
        }
    }
}

impl Drop for Inner {
    /// Leaks slots and driver where something is in flight: where an executor ended without
    /// [`Reactor::wind_down`] (its own code panicked), or the kernel took too long over it. Better
    /// memory and descriptors that nobody has any more than a kernel that writes to somebody else's.
    fn drop(&mut self) {
        if self.slots.occupied() > 0 {
            return;
        }
        // SAFETY: neither is used after this, nor dropped elsewhere: this runs once, at the end.
        unsafe { ManuallyDrop::drop(&mut self.slots) };
        // SAFETY: the same.
        unsafe { ManuallyDrop::drop(&mut self.driver) };
    }
}

fn register(slot: &mut Option<Waker>, cx: &mut Context<'_>) {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *slot = Some(cx.waker().clone()),
    }
}
