//! Tells the connections of a shard that the proxy drains.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    task::{Poll, Waker},
};

use slab::Slab;

/// Whether the drain has begun, and who waits for it.
#[derive(Default)]
pub(super) struct Draining {
    begun: Cell<bool>,
    waiting: RefCell<Slab<Waker>>,
}

impl Draining {
    pub(super) fn has_begun(&self) -> bool {
        self.begun.get()
    }

    pub(super) fn begin(&self) {
        self.begun.set(true);
        let waiting =
            self.waiting.borrow().iter().map(|(_, waker)| waker.clone()).collect::<Vec<_>>();
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(super) async fn begun(&self) {
        let mut place = Place { draining: self, key: None };
        poll_fn(|cx| {
            if self.begun.get() {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            match place.key {
                Some(key) if waiting[key].will_wake(cx.waker()) => {}
                Some(key) => waiting[key] = cx.waker().clone(),
                None => place.key = Some(waiting.insert(cx.waker().clone())),
            }
            Poll::Pending
        })
        .await;
    }
}

/// A waker's place, given up when its future is dropped.
struct Place<'a> {
    draining: &'a Draining,
    key: Option<usize>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.draining.waiting.borrow_mut().remove(key);
        }
    }
}
