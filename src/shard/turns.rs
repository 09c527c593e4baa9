//! What a shard tells about its loop: how long turns take, how busy it is, what it has left.
//!
//! In: each turn, before the loop sleeps. Out: the shard's cells, and its busy share in the loads. So
//! what is told stays true while the shard sleeps. The busy share alone changes with time: a shard
//! that was busy lately gets up once a period until its share is down to nothing, and sleeps without
//! a limit from then on. A shard that has nothing to do never turns by itself.

use std::{cell::Cell, sync::Arc, time::Duration};

use super::{BusyShare, Loads, PERIOD};
use crate::{
    ring::Nanoseconds,
    runtime::{Executor, Turns},
    telemetry::ShardCells,
};

pub(crate) struct ShardTurns {
    shard: usize,
    loads: Loads,
    cells: Arc<ShardCells>,
    period_busy: Cell<Nanoseconds>,
    period: Cell<Nanoseconds>,
    share: Cell<BusyShare>,
}

impl ShardTurns {
    pub(crate) fn new(shard: usize, loads: Loads, cells: Arc<ShardCells>) -> ShardTurns {
        ShardTurns {
            shard,
            loads,
            cells,
            period_busy: Cell::new(0),
            period: Cell::new(0),
            share: Cell::default(),
        }
    }

    fn end_period(&self) {
        let (busy, period) = (self.period_busy.take(), self.period.take());
        let share = self.share.get().after(busy, period);
        self.share.set(share);
        self.loads.report_busy(self.shard, share.permille());
    }
}

impl Turns for ShardTurns {
    fn turned(&self, executor: &Executor, busy: Nanoseconds, idle: Nanoseconds) {
        self.cells.busy_nanos.add(busy);
        let reactor = executor.reactor();
        self.cells.completions.raise_to(reactor.completed());
        self.cells.completion_queue_overflows.raise_to(reactor.overflows());
        self.cells.free_buffers.set(reactor.free_buffers() as i64);
        self.cells.turn_duration.observe(Duration::from_nanos(busy));
        self.period_busy.set(self.period_busy.get() + busy);
        self.period.set(self.period.get() + busy + idle);
        if self.period.get() >= PERIOD {
            self.end_period();
        }
    }

    fn sleep_limit(&self) -> Option<Nanoseconds> {
        (self.share.get().permille() > 0).then_some(PERIOD)
    }

    fn panicked(&self) {
        self.cells.tasks_panicked.increment();
    }
}
