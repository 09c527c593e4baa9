//! A limit on the connections of one listener, over all shards.
//!
//! It exists only where one is set: it is a counter that every shard writes to.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Limit {
    max: u32,
    active: AtomicU32,
}

impl Limit {
    /// `None` for 0, which is no limit.
    pub(crate) fn new(max: u32) -> Option<Arc<Limit>> {
        (max > 0).then(|| Arc::new(Limit { max, active: AtomicU32::new(0) }))
    }

    /// Counts a connection, if there is room for one.
    pub(crate) fn try_enter(self: &Arc<Limit>) -> Option<LimitGuard> {
        let enter = |active| (active < self.max).then_some(active + 1);
        self.active.fetch_update(Relaxed, Relaxed, enter).ok()?;
        Some(LimitGuard(Arc::clone(self)))
    }
}

/// One connection under a limit, until this is dropped.
#[derive(Debug)]
pub(crate) struct LimitGuard(Arc<Limit>);

impl Drop for LimitGuard {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_enter_as_may_and_leave_room() {
        let limit = Limit::new(2).unwrap();
        let first = limit.try_enter().unwrap();
        let _second = limit.try_enter().unwrap();
        assert!(limit.try_enter().is_none());
        drop(first);
        assert!(limit.try_enter().is_some());
        assert!(Limit::new(0).is_none());
    }
}
