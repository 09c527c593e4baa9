//! Caps on connections: those of the proxy as a whole, and those of one listener or destination over
//! all shards.
//!
//! The count behind a listener's or destination's cap exists only where there is one: it is a
//! counter that every shard writes to. It goes by the name, and outlives reloads: what was let in
//! under an earlier cap counts under the next one.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

/// Caps on open downstream connections. One above a cap is closed at once and counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// In all; 0 is no limit.
    pub connections: u64,
    /// On each shard; 0 is no limit.
    pub connections_per_shard: u32,
}

impl Limits {
    /// A cap in all, and one on each shard; 0 is no limit.
    pub fn new(connections: u64, connections_per_shard: u32) -> Limits {
        Limits { connections, connections_per_shard }
    }
}

/// The cap of one listener or destination, and what counts under it.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    max: u32,
    count: Arc<Count>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Count(AtomicU32);

impl Limit {
    /// Counts a connection, if there is room for one.
    pub(crate) fn try_enter(&self) -> Option<LimitGuard> {
        let enter = |active| (active < self.max).then_some(active + 1);
        self.count.0.fetch_update(Relaxed, Relaxed, enter).ok()?;
        Some(LimitGuard(Arc::clone(&self.count)))
    }
}

/// One connection under a limit, until this is dropped.
#[derive(Debug)]
pub(crate) struct LimitGuard(Arc<Count>);

impl Drop for LimitGuard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// The limits of a proxy, by the name of the listener or destination, from one reload to the next.
///
/// A count is kept for as long as a limit or a connection holds it. So a cap that is raised, lowered,
/// or taken away and put back finds the connections that it has let in before; those that came
/// while there was none are not counted.
#[derive(Debug, Default)]
pub(crate) struct NamedLimits(HashMap<String, Weak<Count>>);

impl NamedLimits {
    /// The limit of this name; `None` for 0, which is no limit.
    pub(crate) fn limit(&mut self, name: &str, max: u32) -> Option<Limit> {
        if max == 0 {
            return None;
        }
        if let Some(count) = self.0.get(name).and_then(Weak::upgrade) {
            return Some(Limit { max, count });
        }
        self.0.retain(|_, count| count.strong_count() > 0);
        let count = Arc::default();
        self.0.insert(name.to_owned(), Arc::downgrade(&count));
        Some(Limit { max, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_enter_as_may_and_leave_room() {
        let mut limits = NamedLimits::default();
        let limit = limits.limit("a", 2).unwrap();
        let first = limit.try_enter().unwrap();
        let _second = limit.try_enter().unwrap();
        assert!(limit.try_enter().is_none());
        drop(first);
        assert!(limit.try_enter().is_some());
        assert!(limits.limit("a", 0).is_none());
    }

    #[test]
    fn connections_count_under_the_next_limit_of_the_name() {
        let mut limits = NamedLimits::default();
        let inside = limits.limit("a", 2).unwrap().try_enter().unwrap();
        assert!(limits.limit("b", 1).unwrap().try_enter().is_some(), "another name");
        assert!(limits.limit("a", 1).unwrap().try_enter().is_none());
        let raised = limits.limit("a", 2).unwrap();
        let _second = raised.try_enter().unwrap();
        assert!(raised.try_enter().is_none());
        drop(inside);
        assert!(raised.try_enter().is_some());
    }

    #[test]
    fn names_without_limit_or_connection_are_forgotten() {
        let mut limits = NamedLimits::default();
        for name in 0..100 {
            let _ = limits.limit(&name.to_string(), 1);
        }
        let _kept = limits.limit("kept", 1);
        assert_eq!(limits.0.len(), 1);
    }
}
