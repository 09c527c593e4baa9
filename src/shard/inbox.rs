//! The queue through which a shard is given its connections.
//!
//! *In:* items from acceptors, and from whoever deals out the queue of a shard that has died.
//! *Out:* the same items, in order, on the shard. *Owns:* what is queued. *Never:* wakes anyone: the
//! doorbell differs from one kind of shard to another (a ring message, an eventfd), the queue does
//! not, and one ring is enough for a batch.
//!
//! A lock guards the queue. It is taken once for a batch of connections and held for a few moves of
//! memory, and it makes closing and pushing atomic to one another, which is what a connection's
//! safety hangs on: an item is pushed, and then popped or handed out by [`Inbox::close`], or it is
//! refused and handed back. None is lost and none comes out twice.
//!
//! # Threads
//! Any thread may push, and any may close: the shard as it ends, or the one that finds it dead. The
//! shard alone pops, by convention; nothing breaks otherwise.

use crate::sync::{Mutex, lock};
use std::{collections::VecDeque, mem};

/// A bounded queue of `T` with many producers and one consumer.
#[derive(Debug)]
pub struct Inbox<T> {
    capacity: usize,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    queue: VecDeque<T>,
    closed: bool,
}

/// An item that the inbox did not take.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused<T> {
    /// The item, for another shard.
    pub item: T,
    /// Why it was not taken.
    pub why: Refusal,
}

/// Why an inbox takes no item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It holds as many as it may; the shard is behind. It may take one a moment later.
    Full,
    /// The shard has ended or is ending. It will never take one again.
    Closed,
}

impl<T> Inbox<T> {
    /// An empty inbox for at most `capacity` items; with 0 it refuses all as full. Memory is taken
    /// as it fills, and kept.
    pub fn new(capacity: usize) -> Self {
        let state = State { queue: VecDeque::new(), closed: false };
        Self { capacity, state: Mutex::new(state) }
    }

    /// Adds `item` at the end. The caller rings the shard's doorbell afterwards.
    ///
    /// # Errors
    /// Hands the item back when the inbox is full or closed.
    pub fn push(&self, item: T) -> Result<(), Refused<T>> {
        let mut state = lock(&self.state);
        match state.refusal(self.capacity) {
            Some(why) => Err(Refused { item, why }),
            None => {
                state.queue.push_back(item);
                Ok(())
            }
        }
    }

    /// Moves items from the front of `items` until all are in or one is refused; those that are not
    /// taken stay in `items`. No other producer's items come in between.
    ///
    /// # Errors
    /// Says why when some, or all, were not taken.
    pub fn push_batch(&self, items: &mut VecDeque<T>) -> Result<(), Refusal> {
        let mut state = lock(&self.state);
        while let Some(item) = items.pop_front() {
            if let Some(why) = state.refusal(self.capacity) {
                items.push_front(item);
                return Err(why);
            }
            state.queue.push_back(item);
        }
        Ok(())
    }

    /// Takes the item that has waited longest.
    pub fn pop(&self) -> Option<T> {
        lock(&self.state).queue.pop_front()
    }

    /// Takes all items, behind those that are in `into` already, and says how many there were.
    ///
    /// An `into` that is empty is exchanged for the queue, so that the lock is held for a moment
    /// however many there are, and the two buffers serve by turns without an allocation.
    pub fn drain(&self, into: &mut VecDeque<T>) -> usize {
        let mut state = lock(&self.state);
        let drained = state.queue.len();
        if into.is_empty() {
            mem::swap(&mut state.queue, into);
        } else {
            into.append(&mut state.queue);
        }
        drained
    }

    /// Lets nothing in from now on, and hands out what was in, once: to be dealt to other shards.
    pub fn close(&self) -> VecDeque<T> {
        let mut state = lock(&self.state);
        state.closed = true;
        mem::take(&mut state.queue)
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    /// How many items wait.
    pub fn len(&self) -> usize {
        lock(&self.state).queue.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> State<T> {
    fn refusal(&self, capacity: usize) -> Option<Refusal> {
        if self.closed {
            Some(Refusal::Closed)
        } else if self.queue.len() >= capacity {
            Some(Refusal::Full)
        } else {
            None
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, sync::Arc, thread};

    #[test]
    fn items_come_out_in_the_order_they_went_in() {
        let inbox = Inbox::new(8);
        inbox.push(1).unwrap();
        inbox.push_batch(&mut VecDeque::from([2, 3, 4])).unwrap();
        assert_eq!(inbox.len(), 4);
        assert_eq!(inbox.pop(), Some(1));
        let mut taken = VecDeque::from([0]);
        assert_eq!(inbox.drain(&mut taken), 3);
        assert_eq!(taken, [0, 2, 3, 4]);
        assert!(inbox.is_empty());
        assert_eq!((inbox.pop(), inbox.drain(&mut taken)), (None, 0));
    }

    #[test]
    fn a_full_inbox_hands_the_item_back_and_takes_the_next_once_there_is_room() {
        let inbox = Inbox::new(2);
        inbox.push("a").unwrap();
        inbox.push("b").unwrap();
        assert_eq!(inbox.push("c"), Err(Refused { item: "c", why: Refusal::Full }));
        inbox.pop().unwrap();
        inbox.push("c").unwrap();
        assert_eq!(inbox.drain(&mut VecDeque::new()), 2);
    }

    #[test]
    fn a_batch_goes_in_as_far_as_there_is_room() {
        let inbox = Inbox::new(3);
        let mut batch = VecDeque::from([1, 2, 3, 4, 5]);
        assert_eq!(inbox.push_batch(&mut batch), Err(Refusal::Full));
        assert_eq!(batch, [4, 5]);
        assert_eq!(inbox.close(), [1, 2, 3]);
        assert_eq!(inbox.push_batch(&mut batch), Err(Refusal::Closed));
        assert_eq!(batch, [4, 5]);
    }

    #[test]
    fn a_closed_inbox_hands_out_what_it_had_once() {
        let inbox = Inbox::new(4);
        inbox.push(1).unwrap();
        inbox.push(2).unwrap();
        assert_eq!(inbox.close(), [1, 2]);
        assert_eq!(inbox.push(3), Err(Refused { item: 3, why: Refusal::Closed }));
        assert!(inbox.is_closed() && inbox.close().is_empty() && inbox.pop().is_none());
    }

    #[test]
    fn draining_by_turns_allocates_nothing_once_warm() {
        let inbox = Inbox::new(64);
        let mut taken = VecDeque::new();
        let mut capacities = BTreeSet::new();
        for turn in 0..8 {
            for item in 0..64 {
                inbox.push(item).unwrap();
            }
            taken.clear();
            assert_eq!(inbox.drain(&mut taken), 64);
            if turn >= 2 {
                capacities.insert(taken.capacity());
            }
        }
        assert_eq!(capacities.len(), 1, "the same two buffers, by turns");
    }

    #[test]
    fn nothing_is_lost_among_threads_when_the_shard_goes_away() {
        let inbox = Arc::new(Inbox::new(16));
        let producers: Vec<_> = (0..4)
            .map(|producer| {
                let inbox = Arc::clone(&inbox);
                thread::spawn(move || {
                    let mut refused = Vec::new();
                    for item in 0..500 {
                        if let Err(back) = inbox.push(producer * 1000 + item) {
                            refused.push(back.item);
                        }
                    }
                    refused
                })
            })
            .collect();
        let mut seen = Vec::new();
        let mut taken = VecDeque::new();
        while seen.len() < 200 && !producers.iter().all(|thread| thread.is_finished()) {
            inbox.drain(&mut taken);
            seen.extend(taken.drain(..));
            thread::yield_now();
        }
        seen.extend(inbox.close());
        seen.extend(producers.into_iter().flat_map(|thread| thread.join().unwrap()));
        assert!(inbox.is_empty());
        assert_eq!(seen.len(), 2000);
        assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 2000);
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use crate::sync::Arc;
    use loom::thread;

    #[test]
    fn push_pop_and_close_lose_nothing_and_give_nothing_twice() {
        loom::model(|| {
            let inbox = Arc::new(Inbox::new(1));
            let producers: Vec<_> = (0..2)
                .map(|item| {
                    let inbox = inbox.clone();
                    thread::spawn(move || inbox.push(item).err())
                })
                .collect();
            let mut out = Vec::from_iter(inbox.pop());
            out.extend(inbox.close());
            for producer in producers {
                out.extend(producer.join().unwrap().map(|refused| refused.item));
            }
            assert!(inbox.is_empty(), "nothing got in after closing");
            out.sort_unstable();
            assert_eq!(out, [0, 1]);
        });
    }

    #[test]
    fn two_that_close_share_out_what_was_in() {
        loom::model(|| {
            let inbox = Arc::new(Inbox::new(2));
            inbox.push(0).unwrap();
            let closer = {
                let inbox = inbox.clone();
                thread::spawn(move || inbox.close())
            };
            let mut out = Vec::from_iter(inbox.push(1).err().map(|refused| refused.item));
            out.extend(inbox.close());
            out.extend(closer.join().unwrap());
            out.sort_unstable();
            assert_eq!(out, [0, 1]);
        });
    }
}
