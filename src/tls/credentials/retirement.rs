//! The end of a set: it was replaced, and the connections that were made with it are to end as well.
//!
//! Flows in: that there is another set, from whichever thread has read it. Flows out: to each
//! connection the moment at which it is to end. These moments are spread, as the peers come back at
//! once and need a full handshake each.

use std::{
    fmt,
    future::poll_fn,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use slab::Slab;

/// When the connections of one set are to end.
pub(in crate::tls) struct Retirement {
    after: Duration,
    replaced: OnceLock<Instant>,
    waiting: Mutex<Slab<Waker>>,
    places: AtomicU32,
}

/// The place of a connection in the time over which the ends are spread, in parts of 256.
pub(in crate::tls) type Place = u8;

impl Retirement {
    /// Connections end `after` the set was replaced, and at most a tenth of that later.
    pub(super) fn new(after: Duration) -> Retirement {
        Retirement {
            after,
            replaced: OnceLock::new(),
            waiting: Mutex::default(),
            places: AtomicU32::new(0),
        }
    }

    /// A place for another connection. Those that follow each other lie far apart.
    pub(in crate::tls) fn place(&self) -> Place {
        // Odd, so that 256 in a row have a place each.
        const STRIDE: u32 = 157;
        self.places.fetch_add(1, Relaxed).wrapping_mul(STRIDE) as Place
    }

    /// The set was replaced.
    pub(super) fn begin(&self) {
        let _ = self.replaced.set(Instant::now());
        let waiting: Vec<Waker> = self.waiting().iter().map(|(_, waker)| waker.clone()).collect();
        waiting.into_iter().for_each(Waker::wake);
    }

    /// When a connection is to end; `None` as long as its set is the current one.
    pub(in crate::tls) fn ends_at(&self, place: Place) -> Option<Instant> {
        let spread = self.after / 10 * u32::from(place) / 256;
        Some(*self.replaced.get()? + self.after + spread)
    }

    /// Waits until the set was replaced.
    pub(in crate::tls) async fn begun(&self) {
        let mut waiting = Waiting { retirement: self, registered: None };
        poll_fn(|cx| waiting.poll(cx)).await;
    }

    pub(in crate::tls) fn after(&self) -> Duration {
        self.after
    }

    fn waiting(&self) -> MutexGuard<'_, Slab<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who waits, and where its waker is. The place is given up when this is dropped.
struct Waiting<'r> {
    retirement: &'r Retirement,
    registered: Option<(usize, Waker)>,
}

impl Waiting<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_registered =
            self.registered.as_ref().is_some_and(|(_, waker)| waker.will_wake(cx.waker()));
        if !is_registered {
            let mut waiting = self.retirement.waiting();
            if let Some((key, _)) = self.registered.take() {
                waiting.remove(key);
            }
            let waker = cx.waker().clone();
            self.registered = Some((waiting.insert(waker.clone()), waker));
        }
        // After that, so that it is not missed.
        match self.retirement.replaced.get() {
            Some(_) => Poll::Ready(()),
            None => Poll::Pending,
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some((key, _)) = self.registered.take() {
            self.retirement.waiting().remove(key);
        }
    }
}

impl fmt::Debug for Retirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retirement").field("after", &self.after).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Arc, thread};

    use super::*;
    use crate::runtime::{block_on, spawn};

    #[test]
    fn all_who_wait_are_woken_from_another_thread() {
        let retirement = Arc::new(Retirement::new(Duration::from_secs(10)));
        let known = Arc::clone(&retirement);
        block_on(async move {
            let tasks: Vec<_> = (0..10)
                .map(|_| {
                    let retirement = Arc::clone(&retirement);
                    spawn(async move { retirement.begun().await })
                })
                .collect();
            assert_eq!(retirement.ends_at(0), None);
            let begins = Arc::clone(&retirement);
            let other = thread::spawn(move || {
                thread::sleep(Duration::from_millis(20));
                begins.begin();
            });
            for task in tasks {
                task.await.unwrap();
            }
            other.join().unwrap();
            // And who comes late does not wait.
            retirement.begun().await;
        })
        .unwrap();
        assert!(known.waiting().is_empty());
    }

    #[test]
    fn ends_are_spread_over_a_tenth() {
        let retirement = Retirement::new(Duration::from_secs(600));
        let places: HashSet<Place> = (0..256).map(|_| retirement.place()).collect();
        assert_eq!(places.len(), 256);
        retirement.begin();
        let first = retirement.ends_at(0).unwrap();
        let spread = retirement.ends_at(Place::MAX).unwrap() - first;
        assert!(spread > Duration::from_secs(59) && spread < Duration::from_secs(60), "{spread:?}");
    }
}
