//! The atomics and locks of every type that threads share: std's, or loom's when the crate is built
//! with `--cfg loom`, so that the models in the tests run the code that ships.
//!
//! What is shared is small and listed: a shard's load ([`crate::shard::Loads`]), its inbox and its
//! wake word, the counts of a cluster's limits, and the word of an access log's writer. Whatever
//! else crosses threads (metrics cells, configuration snapshots) has no invariant over more than one
//! word or lies behind one lock, and uses std or `arc-swap` directly.

#[cfg(loom)]
pub(crate) use loom::sync::{Arc, Mutex, MutexGuard, atomic};
use std::sync::PoisonError;
#[cfg(not(loom))]
pub(crate) use std::sync::{Arc, Mutex, MutexGuard, atomic};

/// Locks `mutex`, whether or not an earlier holder panicked.
///
/// For state that is whole between any two statements of its critical sections, so that a panic
/// leaves nothing half done behind: one connection's misfortune must not end every other one's.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
