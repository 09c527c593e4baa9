//! Acceptors that wait for something that any shard may bring about.
//!
//! *In:* the wakers of those that wait; word that it has come about. *Out:* their wake-up, once.
//! *Owns:* the wakers. *Never:* costs a shard more than one load while nobody waits.

use std::task::Waker;

use crate::sync::{
    Mutex,
    atomic::{
        AtomicBool,
        Ordering::{Relaxed, SeqCst},
    },
    lock,
};

#[derive(Default)]
#[repr(align(128))]
pub(crate) struct WaitingAcceptors {
    waiting: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

impl WaitingAcceptors {
    /// Waits from now on. What came about before was not waited for: look once more after this.
    ///
    /// Where a lock is behind what is looked at, that look sees what a shard did before it found
    /// nobody waiting here, or the shard sees who waits.
    pub(crate) fn wait(&self, waker: &Waker) {
        let mut wakers = lock(&self.wakers);
        // One that waited in vain, until its time was up, is still here.
        if !wakers.iter().any(|waiting| waiting.will_wake(waker)) {
            wakers.push(waker.clone());
        }
        drop(wakers);
        self.waiting.store(true, SeqCst);
    }

    /// It has come about. One load of a line that hardly ever changes where nobody waits.
    pub(crate) fn wake(&self) {
        if self.waiting.load(Relaxed) && self.waiting.swap(false, SeqCst) {
            let wakers = std::mem::take(&mut *lock(&self.wakers));
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}
