//! The one word between a shard that may be asleep and the threads that have something for it.
//!
//! *In:* notices from other threads. *Out:* for one notifier a sleep, the duty to ring the shard's
//! doorbell. *Owns:* one atomic word. *Never:* sleeps or rings by itself, and holds no work: that is
//! in a queue beside it.
//!
//! # The protocol
//! ```text
//!   producer                      shard
//!   push to the queue             loop {
//!   if notify() { ring }              drain the queue, run
//!                                     if prepare_sleep() {
//!                                         sleep until the doorbell, a completion, a timer
//!                                         woke()
//!                                     }
//!                                 }
//! ```
//! The word is awake, asleep, or notified, and a notice *sticks* until the shard takes it. Whichever
//! of `notify` and `prepare_sleep` comes first, the other one sees it: notified first, the shard does
//! not go to sleep; asleep first, the notifier rings.
//!
//! # Memory ordering
//! "Queue first, word second" on one side and "word first, queue second" on the other is the pattern
//! in which a plain store and a load after it may swap, even with release and acquire: the shard
//! misses the item, the producer misses the sleep, and both wait for ever. Here every step is a
//! read-modify-write of the *same* word, with `AcqRel`. Those are totally ordered, each reads what
//! the one before it wrote, and so each sees all that came before it in the other thread. No SeqCst
//! fence is needed, and none of these operations may be made a plain load or store, not even where
//! the word "is known" to be notified already: that knowledge can be old.
//!
//! So after `prepare_sleep`, whatever it returned, the shard sees every item that was pushed before
//! a `notify` that came earlier; and one that comes later rings.
//!
//! # Threads
//! Any thread may call [`WakeWord::notify`]; the rest belongs to the shard's own thread.

use crate::sync::atomic::{
    AtomicU32,
    Ordering::{AcqRel, Relaxed},
};

/// Running; nobody has notified it since it last looked.
const AWAKE: u32 = 0;
/// Asleep, or about to be: the next to notify rings.
const ASLEEP: u32 = 1;
/// There is something that the shard has not looked at yet.
const NOTIFIED: u32 = 2;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct WakeWord {
    word: AtomicU32,
}

impl WakeWord {
    /// The word of a shard that is running.
    pub(crate) fn new() -> Self {
        Self { word: AtomicU32::new(AWAKE) }
    }

    /// Says that there is something new, which the caller has put in its place *before*.
    ///
    /// True where the shard was asleep: the caller must ring the doorbell now. One caller for each
    /// sleep is told so. The shard may have woken for another reason by the time the bell rings, and
    /// has to bear a ring that it did not need.
    #[must_use = "true: the shard sleeps until the caller rings its doorbell"]
    pub(crate) fn notify(&self) -> bool {
        self.word.swap(NOTIFIED, AcqRel) == ASLEEP
    }

    /// Before the shard sleeps. False: something was notified since it last looked (the notice is
    /// taken by this call); look at the queues again instead of sleeping. True: notifiers ring from
    /// now on, until [`woke`](Self::woke).
    #[must_use = "false: there is something to do, and nobody will ring for it"]
    pub(crate) fn prepare_sleep(&self) -> bool {
        if self.word.compare_exchange(AWAKE, ASLEEP, AcqRel, Relaxed).is_ok() {
            return true;
        }
        // Not awake and not asleep (only this thread sets that), so notified: take the notice. The
        // swap reads the newest notice, so it sees what came with it.
        self.word.swap(AWAKE, AcqRel);
        false
    }

    /// After sleep, or instead of it where the shard thought better of it after
    /// [`prepare_sleep`](Self::prepare_sleep): nobody rings any more. True where something was
    /// notified meanwhile (the notice is taken by this call); the queues are to be looked at *after*
    /// this.
    pub(crate) fn woke(&self) -> bool {
        self.word.swap(AWAKE, AcqRel) == NOTIFIED
    }

    /// For a shard that is too busy to sleep: whether there is something new, at the price of one
    /// load. True takes the notice; false may be a little late, never for good.
    pub(crate) fn take_notice(&self) -> bool {
        self.word.load(Relaxed) == NOTIFIED && self.woke()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_notifier_a_sleep_rings() {
        let word = WakeWord::new();
        for _ in 0..3 {
            assert!(word.prepare_sleep());
            assert!(word.notify(), "the first one finds it asleep");
            assert!(!word.notify() && !word.notify(), "the others need not ring");
            assert!(word.woke());
        }
    }

    #[test]
    fn a_notice_to_a_running_shard_keeps_it_from_sleeping_once() {
        let word = WakeWord::new();
        assert!(!word.notify());
        assert!(!word.prepare_sleep());
        assert!(word.prepare_sleep(), "the notice was taken");
    }

    #[test]
    fn a_shard_that_woke_by_itself_is_not_rung_for() {
        let word = WakeWord::new();
        assert!(word.prepare_sleep());
        assert!(!word.woke());
        assert!(!word.notify());
    }

    #[test]
    fn a_busy_shard_sees_each_notice_once() {
        let word = WakeWord::new();
        assert!(!word.take_notice());
        assert!(!word.notify());
        assert!(word.take_notice() && !word.take_notice());
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use crate::{shard::inbox::Inbox, sync::Arc};
    use loom::{sync::Notify, thread};

    /// All interleavings of one producer with the shard.
    fn every_interleaving(model: impl Fn() + Send + Sync + 'static) {
        loom::model(model);
    }

    /// Those of two producers in which threads are interrupted twice at most, besides where they
    /// block: all of them would take hours.
    fn bounded_interleavings(model: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(2);
        builder.check(model);
    }

    struct Shard {
        word: WakeWord,
        doorbell: Notify,
        rings: AtomicU32,
    }

    impl Shard {
        fn new() -> Arc<Self> {
            let (word, doorbell) = (WakeWord::new(), Notify::new());
            Arc::new(Self { word, doorbell, rings: AtomicU32::new(0) })
        }

        fn notify(&self) {
            if self.word.notify() {
                self.rings.fetch_add(1, Relaxed);
                self.doorbell.notify();
            }
        }
    }

    /// A lost wake-up is a shard that waits for ever, which loom reports as a deadlock.
    fn take_from_a_queue(producers: u32) {
        let shard = Shard::new();
        let inbox = Arc::new(Inbox::new(2));
        for item in 0..producers {
            let (shard, inbox) = (shard.clone(), inbox.clone());
            thread::spawn(move || {
                inbox.push(item).unwrap();
                shard.notify();
            });
        }
        let (mut taken, mut sleeps) = (0, 0);
        loop {
            while inbox.pop().is_some() {
                taken += 1;
            }
            if taken == producers {
                break;
            }
            if shard.word.prepare_sleep() {
                sleeps += 1;
                shard.doorbell.wait();
                shard.word.woke();
            }
        }
        assert!(shard.rings.load(Relaxed) <= sleeps, "one ring a sleep at most");
    }

    /// The word alone must publish what came before a notice: here nothing else synchronises. The
    /// shard looks once more before it sleeps and thinks better of it, which must lose nothing.
    fn take_from_a_counter(producers: u32) {
        let shard = Shard::new();
        let items = Arc::new(AtomicU32::new(0));
        for _ in 0..producers {
            let (shard, items) = (shard.clone(), items.clone());
            thread::spawn(move || {
                items.fetch_add(1, Relaxed);
                shard.notify();
            });
        }
        while items.load(Relaxed) < producers {
            if shard.word.take_notice() || !shard.word.prepare_sleep() {
                continue;
            }
            if items.load(Relaxed) < producers {
                shard.doorbell.wait();
            }
            shard.word.woke();
        }
    }

    #[test]
    fn no_wake_up_is_lost_with_a_queue_beside_the_word() {
        every_interleaving(|| take_from_a_queue(1));
        bounded_interleavings(|| take_from_a_queue(2));
    }

    #[test]
    fn what_came_before_a_notice_is_seen_after_it() {
        every_interleaving(|| take_from_a_counter(1));
        bounded_interleavings(|| take_from_a_counter(2));
    }
}
