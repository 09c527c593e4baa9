//! An inbox that a task can wait for.
//!
//! Pushing and waking are two steps, so that a batch wakes once: whoever pushes calls
//! [`Mailbox::wake`] after the last item. The wake-up is a [`Waker`]'s, so it finds its way to any
//! executor: to a shard of ours it is a ring message, or nothing at all while that is awake.
//!
//! A producer can wait, too, until what it left was taken. Each wake-up is for one wait, and what is
//! waited for is looked at again after the waker was left, so neither side can miss the other.

use std::{
    collections::VecDeque,
    future::poll_fn,
    mem,
    ops::Deref,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::inbox::{Inbox, Refused};
use crate::sync::{Mutex, lock};

pub(crate) struct Mailbox<T> {
    inbox: Inbox<T>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// Until there is something.
    receiver: Option<Waker>,
    /// Until there is nothing.
    producers: Vec<Waker>,
}

impl<T> Mailbox<T> {
    pub(crate) fn new(capacity: usize) -> Mailbox<T> {
        Mailbox { inbox: Inbox::new(capacity), waiting: Mutex::default() }
    }

    /// Adds an item; [`wake`](Self::wake) after the last one of a batch.
    pub(crate) fn push(&self, item: T) -> Result<(), Refused<T>> {
        self.inbox.push(item)
    }

    /// Wakes the receiver, if it waits.
    pub(crate) fn wake(&self) {
        let receiver = lock(&self.waiting).receiver.take();
        if let Some(receiver) = receiver {
            receiver.wake();
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
        let waits = Waiting { receiver: Some(cx.waker().clone()), producers: Vec::new() };
        let waited = mem::replace(&mut *lock(&self.waiting), waits);
        waited.producers.into_iter().for_each(Waker::wake);
        take().map_or(Poll::Pending, Poll::Ready)
    }

    /// Whether nothing waits here: the receiver has taken it, or is gone.
    pub(crate) fn is_taken(&self) -> bool {
        self.inbox.is_empty()
    }

    /// As [`is_taken`](Self::is_taken); where something waits, the task is woken once the receiver
    /// looks for more.
    pub(crate) fn poll_taken(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_taken() {
            return Poll::Ready(());
        }
        let mut waiting = lock(&self.waiting);
        if !waiting.producers.iter().any(|producer| producer.will_wake(cx.waker())) {
            waiting.producers.push(cx.waker().clone());
        }
        drop(waiting);
        // The receiver may have looked in between.
        if self.is_taken() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The end of a mailbox that its thread holds, if it is to close when that goes.
    pub(crate) fn receiver(self: &Arc<Self>) -> Receiver<T> {
        Receiver(Arc::clone(self))
    }

    /// Lets nothing in from now on; gives what was in.
    pub(crate) fn close(&self) -> VecDeque<T> {
        let left = self.inbox.close();
        let waited = mem::take(&mut *lock(&self.waiting));
        waited.producers.into_iter().for_each(Waker::wake);
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

#[cfg(test)]
mod flags {
    use std::{
        sync::{Arc, atomic::AtomicBool, atomic::Ordering::SeqCst},
        task::{Wake, Waker},
    };

    /// Whether a waker was called.
    #[derive(Default)]
    pub(super) struct Flag(AtomicBool);

    impl Flag {
        pub(super) fn new() -> (Arc<Flag>, Waker) {
            let flag = Arc::<Flag>::default();
            (Arc::clone(&flag), Waker::from(flag))
        }

        pub(super) fn take(&self) -> bool {
            self.0.swap(false, SeqCst)
        }
    }

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, SeqCst);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{flags::Flag, *};

    #[test]
    fn a_producer_is_woken_when_the_receiver_looks_for_more() {
        let mailbox = Mailbox::new(8);
        let (producer, waker) = Flag::new();
        let producer_cx = Context::from_waker(&waker);
        let receiver_cx = Context::from_waker(Waker::noop());
        assert!(mailbox.poll_taken(&producer_cx).is_ready(), "nothing was ever in it");
        for item in 0..2 {
            mailbox.push(item).unwrap();
        }
        assert!(!mailbox.is_taken());
        assert!(mailbox.poll_taken(&producer_cx).is_pending());
        for item in 0..2 {
            assert_eq!(mailbox.poll_pop(&receiver_cx), Poll::Ready(item));
            assert!(!producer.take(), "it has not looked whether there is more");
        }
        assert!(mailbox.poll_pop(&receiver_cx).is_pending());
        assert!(producer.take());
        assert!(mailbox.poll_taken(&producer_cx).is_ready());
        assert!(mailbox.poll_pop(&receiver_cx).is_pending());
        assert!(!producer.take(), "once");
    }

    #[test]
    fn producers_wait_no_longer_than_the_mailbox_is_open() {
        let mailbox = Mailbox::new(8);
        let [(one, one_waker), (other, other_waker)] = [(); 2].map(|()| Flag::new());
        mailbox.push(()).unwrap();
        for waker in [&one_waker, &other_waker, &one_waker] {
            assert!(mailbox.poll_taken(&Context::from_waker(waker)).is_pending());
        }
        assert_eq!(mailbox.close().len(), 1);
        assert!(one.take() && other.take());
        assert!(mailbox.poll_taken(&Context::from_waker(&one_waker)).is_ready());
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use super::{flags::Flag, *};
    use loom::thread;

    #[test]
    fn a_producer_that_waits_is_woken() {
        loom::model(|| {
            let mailbox = std::sync::Arc::new(Mailbox::new(1));
            mailbox.push(()).unwrap();
            let receiver = {
                let mailbox = mailbox.clone();
                thread::spawn(move || {
                    let cx = Context::from_waker(Waker::noop());
                    assert!(mailbox.poll_pop(&cx).is_ready());
                    assert!(mailbox.poll_pop(&cx).is_pending());
                })
            };
            let (flag, waker) = Flag::new();
            let taken = mailbox.poll_taken(&Context::from_waker(&waker));
            receiver.join().unwrap();
            assert!(taken.is_ready() || flag.take());
            assert!(mailbox.is_taken());
        });
    }

    #[test]
    fn a_receiver_that_waits_is_woken() {
        loom::model(|| {
            let mailbox = std::sync::Arc::new(Mailbox::new(1));
            let producer = {
                let mailbox = mailbox.clone();
                thread::spawn(move || mailbox.send(()).unwrap())
            };
            let (flag, waker) = Flag::new();
            let popped = mailbox.poll_pop(&Context::from_waker(&waker));
            producer.join().unwrap();
            assert!(popped.is_ready() || flag.take());
        });
    }
}
