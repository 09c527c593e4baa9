//! An inbox that a task can wait for.
//!
//! Pushing and waking are two steps, so that a batch wakes once: whoever pushes calls
//! [`Mailbox::wake`] after the last item. The wake-up is a [`Waker`]'s, so it finds its way to any
//! executor: to a shard of ours it is a ring message, or nothing at all while that is awake.
//!
//! A producer can wait, too, until the receiver has taken everything and looks for more.

use std::{
    collections::VecDeque,
    future::poll_fn,
    ops::Deref,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::{
    inbox::{Inbox, Refused},
    waiting_acceptors::WaitingAcceptors,
};
use crate::sync::{Mutex, lock};

pub(crate) struct Mailbox<T> {
    inbox: Inbox<T>,
    waker: Mutex<Option<Waker>>,
    /// Told whenever the receiver finds nothing.
    producers: Arc<WaitingAcceptors>,
}

impl<T> Mailbox<T> {
    pub(crate) fn new(capacity: usize) -> Mailbox<T> {
        Mailbox::telling(capacity, Arc::default())
    }

    /// A mailbox whose producers may wait until the receiver looks for more.
    pub(crate) fn telling(capacity: usize, producers: Arc<WaitingAcceptors>) -> Mailbox<T> {
        Mailbox { inbox: Inbox::new(capacity), waker: Mutex::new(None), producers }
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
        if let Some(taken) = take() {
            return Poll::Ready(taken);
        }
        self.producers.wake();
        Poll::Pending
    }

    /// Whether nothing waits here: the receiver has taken it, or is gone.
    pub(crate) fn is_taken(&self) -> bool {
        self.inbox.is_empty()
    }

    /// The end of a mailbox that its thread holds, if it is to close when that goes.
    pub(crate) fn receiver(self: &Arc<Self>) -> Receiver<T> {
        Receiver(Arc::clone(self))
    }

    /// Lets nothing in from now on; gives what was in.
    pub(crate) fn close(&self) -> VecDeque<T> {
        let left = self.inbox.close();
        drop(lock(&self.waker).take());
        self.producers.wake();
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
    fn producers_are_told_when_the_receiver_looks_for_more() {
        let producers = Arc::<WaitingAcceptors>::default();
        let mailbox = Mailbox::telling(8, Arc::clone(&producers));
        let cx = Context::from_waker(Waker::noop());
        let [(one, one_waker), (other, other_waker)] = [(); 2].map(|()| Flag::new());
        for item in 0..2 {
            mailbox.push(item).unwrap();
        }
        for waker in [&one_waker, &other_waker, &one_waker] {
            producers.wait(waker);
        }
        for item in 0..2 {
            assert!(!mailbox.is_taken());
            assert_eq!(mailbox.poll_pop(&cx), Poll::Ready(item));
            assert!(!one.take(), "it has not looked whether there is more");
        }
        assert!(mailbox.is_taken());
        assert!(mailbox.poll_pop(&cx).is_pending());
        assert!(one.take() && other.take());
        assert!(mailbox.poll_pop(&cx).is_pending());
        assert!(!one.take() && !other.take(), "once");
    }

    #[test]
    fn producers_are_told_that_nothing_will_be_taken_any_more() {
        let producers = Arc::<WaitingAcceptors>::default();
        let mailbox = Mailbox::telling(8, Arc::clone(&producers));
        let (producer, waker) = Flag::new();
        mailbox.push(()).unwrap();
        producers.wait(&waker);
        assert_eq!(mailbox.close().len(), 1);
        assert!(producer.take() && mailbox.is_taken());
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use super::{flags::Flag, *};
    use loom::thread;

    #[test]
    fn a_producer_that_waits_is_woken() {
        loom::model(|| {
            let producers = Arc::<WaitingAcceptors>::default();
            let mailbox = Arc::new(Mailbox::telling(1, Arc::clone(&producers)));
            mailbox.push(()).unwrap();
            let receiver = {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || {
                    let cx = Context::from_waker(Waker::noop());
                    assert!(mailbox.poll_pop(&cx).is_ready());
                    assert!(mailbox.poll_pop(&cx).is_pending());
                })
            };
            let (woken, waker) = Flag::new();
            producers.wait(&waker);
            let taken = mailbox.is_taken();
            receiver.join().unwrap();
            assert!(taken || woken.take());
        });
    }

    #[test]
    fn a_receiver_that_waits_is_woken() {
        loom::model(|| {
            let mailbox = Arc::new(Mailbox::new(1));
            let producer = {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || mailbox.send(()).unwrap())
            };
            let (woken, waker) = Flag::new();
            let popped = mailbox.poll_pop(&Context::from_waker(&waker));
            producer.join().unwrap();
            assert!(popped.is_ready() || woken.take());
        });
    }
}
