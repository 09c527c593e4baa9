//! An inbox that a task can wait for.
//!
//! Pushing and waking are two steps, so that a batch wakes once: whoever pushes calls
//! [`Mailbox::wake`] after the last item. The wake-up is a [`Waker`]'s, so it finds its way to any
//! executor: to a shard of ours it is a ring message, or nothing at all while that is awake.

use std::{
    collections::VecDeque,
    future::poll_fn,
    ops::Deref,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::inbox::{Inbox, Refused};
use crate::sync::{Mutex, lock};

pub(crate) struct Mailbox<T> {
    inbox: Inbox<T>,
    waker: Mutex<Option<Waker>>,
}

impl<T> Mailbox<T> {
    pub(crate) fn new(capacity: usize) -> Mailbox<T> {
        Mailbox { inbox: Inbox::new(capacity), waker: Mutex::new(None) }
    }

    /// Adds an item; [`wake`](Self::wake) after the last one of a batch.
    pub(crate) fn push(&self, item: T) -> Result<(), Refused<T>> {
        self.inbox.push(item)
    }

    /// Wakes the receiver, if it waits.
    pub(crate) fn wake(&self) {
        let waker = lock(&self.waker).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Adds an item and wakes the receiver.
    pub(crate) fn send(&self, item: T) -> Result<(), Refused<T>> {
        let pushed = self.push(item);
        self.wake();
        pushed
    }

    /// Waits until something is there, and takes all of it into `items`, which is empty. Only one
    /// task receives. Dropping the future loses nothing.
    pub(crate) async fn receive(&self, items: &mut VecDeque<T>) {
        let take = |items: &mut VecDeque<T>| (self.inbox.drain(items) > 0).then_some(());
        poll_fn(|cx| self.poll_for(cx, || take(items))).await;
    }

    /// Takes the item that has waited longest, if one waits.
    pub(crate) fn pop(&self) -> Option<T> {
        self.inbox.pop()
    }

    /// How many items wait.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn len(&self) -> usize {
        self.inbox.len()
    }

    /// As [`pop`](Self::pop); where nothing waits, the next [`wake`](Self::wake) wakes the task.
    pub(crate) fn poll_pop(&self, cx: &Context<'_>) -> Poll<T> {
        self.poll_for(cx, || self.inbox.pop())
    }

    fn poll_for<R>(&self, cx: &Context<'_>, mut take: impl FnMut() -> Option<R>) -> Poll<R> {
        if let Some(taken) = take() {
            return Poll::Ready(taken);
        }
        // Registered before the second look, so that what is pushed after it wakes.
        *lock(&self.waker) = Some(cx.waker().clone());
        take().map_or(Poll::Pending, Poll::Ready)
    }

    /// The end of a mailbox that its thread holds, if it is to close when that goes.
    pub(crate) fn receiver(self: &Arc<Self>) -> Receiver<T> {
        Receiver(Arc::clone(self))
    }

    /// Lets nothing in from now on; gives what was in.
    pub(crate) fn close(&self) -> VecDeque<T> {
        let left = self.inbox.close();
        drop(lock(&self.waker).take());
        left
    }
}

/// Closes its mailbox when it is dropped, and drops what was in: what waits for an answer learns that
/// none will come.
pub(crate) struct Receiver<T>(Arc<Mailbox<T>>);

impl<T> Deref for Receiver<T> {
    type Target = Mailbox<T>;

    fn deref(&self) -> &Mailbox<T> {
        &self.0
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        drop(self.0.close());
    }
}
