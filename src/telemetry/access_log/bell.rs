//! The one word between the shards that log and the thread that writes.
//!
//! *In:* from a shard, that its queue has got something. *Out:* for that shard, whether it has to
//! wake the writer. *Owns:* one atomic word. *Never:* sleeps or wakes by itself.
//!
//! The writer is awake, lingering or asleep. Awake it looks at all queues by itself. It lingers for a
//! moment after it has written, and is woken then only for a queue that fills up: so a busy proxy
//! pays one wake-up for very many lines. Asleep it is woken for any line. Wake-ups are a system call,
//! and the word is what saves them.
//!
//! # Memory ordering
//! A shard fills its queue, then looks at the word; the writer sets the word, then looks at the
//! queues. If neither saw the other, a line would lie until the next one. A sequentially consistent
//! fence between the two steps on both sides makes that impossible: whichever fence comes first,
//! what came before it is seen behind the other. The word is read by every line of every shard and
//! written a few times a second, so its cache line is mostly shared; a read-modify-write for each
//! line, which would need no fence, would pull it from shard to shard.

use crate::sync::atomic::{
    AtomicU32,
    Ordering::{Relaxed, SeqCst},
    fence,
};

const AWAKE: u32 = 0;
const LINGERING: u32 = 1;
const ASLEEP: u32 = 2;

/// See the [module](self).
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Bell {
    word: AtomicU32,
}

impl Bell {
    /// The word of a writer that is awake.
    pub(super) fn new() -> Bell {
        Bell { word: AtomicU32::new(AWAKE) }
    }

    /// A queue has got something, *before* this call. True: the caller must wake the writer. One
    /// caller for each rest is told so. `urgent` says that the queue fills up.
    #[must_use = "true: the writer rests until the caller wakes it"]
    pub(super) fn ring(&self, urgent: bool) -> bool {
        fence(SeqCst);
        let state = self.word.load(Relaxed);
        if state == AWAKE || (state == LINGERING && !urgent) {
            return false;
        }
        // Another shard, or the writer itself, may have been faster.
        self.word.compare_exchange(state, AWAKE, Relaxed, Relaxed).is_ok()
    }

    /// The writer has got something to do other than lines, *before* this call: it rests no longer.
    /// The caller must wake it.
    pub(super) fn end_rest(&self) {
        self.word.swap(AWAKE, SeqCst);
    }

    /// The writer is about to linger: it must look once more at what is urgent, *after* this call,
    /// and rests while [`is_resting`](Self::is_resting).
    pub(super) fn linger(&self) {
        self.word.store(LINGERING, Relaxed);
        fence(SeqCst);
    }

    /// The writer is about to sleep: it must look once more at all queues, *after* this call, and
    /// rests while [`is_resting`](Self::is_resting).
    pub(super) fn sleep(&self) {
        self.word.store(ASLEEP, Relaxed);
        fence(SeqCst);
    }

    /// Whether nobody has woken the writer since.
    pub(super) fn is_resting(&self) -> bool {
        self.word.load(Relaxed) != AWAKE
    }

    /// The writer looks at the queues by itself again.
    pub(super) fn awake(&self) {
        self.word.store(AWAKE, Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_is_awake_is_not_woken() {
        let bell = Bell::new();
        assert!(!bell.ring(false) && !bell.ring(true));
    }

    #[test]
    fn one_line_wakes_a_sleeping_writer() {
        let bell = Bell::new();
        bell.sleep();
        assert!(bell.is_resting());
        assert!(bell.ring(false));
        assert!(!bell.is_resting());
        assert!(!bell.ring(true), "the next one finds it awake");
    }

    #[test]
    fn a_lingering_writer_is_woken_for_what_is_urgent_only() {
        let bell = Bell::new();
        bell.linger();
        assert!(!bell.ring(false) && bell.is_resting());
        assert!(bell.ring(true));
        bell.linger();
        bell.end_rest();
        assert!(!bell.is_resting());
        bell.linger();
        bell.awake();
        assert!(!bell.ring(true));
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use crate::sync::Arc;
    use loom::{sync::Notify, thread};

    struct Writer {
        bell: Bell,
        queue: AtomicU32,
        doorbell: Notify,
    }

    /// A lost wake-up is a writer that rests for ever, which loom reports as a deadlock.
    fn no_wake_up_is_lost(urgent: bool) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(move || {
            let (bell, queue, doorbell) = (Bell::new(), AtomicU32::new(0), Notify::new());
            let writer = Arc::new(Writer { bell, queue, doorbell });
            for _ in 0..2 {
                let writer = writer.clone();
                thread::spawn(move || {
                    writer.queue.fetch_add(1, Relaxed);
                    if writer.bell.ring(urgent) {
                        writer.doorbell.notify();
                    }
                });
            }
            while writer.queue.load(Relaxed) < 2 {
                if urgent {
                    writer.bell.linger()
                } else {
                    writer.bell.sleep()
                }
                while writer.queue.load(Relaxed) < 2 && writer.bell.is_resting() {
                    writer.doorbell.wait();
                }
                writer.bell.awake();
            }
        });
    }

    #[test]
    fn a_sleeping_writer_hears_of_every_line() {
        no_wake_up_is_lost(false);
    }

    #[test]
    fn a_lingering_writer_hears_of_every_urgent_line() {
        no_wake_up_is_lost(true);
    }
}
