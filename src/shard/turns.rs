//! What a shard tells about its loop: how long turns take and how busy it is.

use std::{cell::Cell, sync::Arc, time::Duration};

use super::Loads;
use crate::{
    ring::Nanoseconds,
    runtime::{Executor, Turns},
    telemetry::ShardCells,
};

/// How often the busy share is published.
const PERIOD: Nanoseconds = 50_000_000;

pub(crate) struct ShardTurns {
    shard: usize,
    loads: Loads,
    cells: Arc<ShardCells>,
    period_busy: Cell<Nanoseconds>,
    period: Cell<Nanoseconds>,
    share_permille: Cell<u32>,
}

impl ShardTurns {
    pub(crate) fn new(shard: usize, loads: Loads, cells: Arc<ShardCells>) -> ShardTurns {
        ShardTurns {
            shard,
            loads,
            cells,
            period_busy: Cell::new(0),
            period: Cell::new(0),
            share_permille: Cell::new(0),
        }
    }

    fn end_period(&self, executor: &Executor) {
        let (busy, period) = (self.period_busy.take(), self.period.take());
        // An average that forgets half of the past with each period, and more after a long sleep.
        let share = (busy.saturating_mul(1000) / period.max(1)) as u32;
        let weight = (period / PERIOD).clamp(1, 8) as u32;
        let kept = self.share_permille.get() >> weight;
        let average = kept + share - (share >> weight);
        self.share_permille.set(average);
        self.loads.report_busy(self.shard, average);
        self.cells.free_buffers.set(executor.reactor().free_buffers() as i64);
        self.cells.completion_queue_overflows.raise_to(executor.reactor().overflows());
    }
}

impl Turns for ShardTurns {
    fn turned(&self, executor: &Executor, busy: Nanoseconds, idle: Nanoseconds) {
        self.cells.busy_nanos.add(busy);
        self.cells.completions.raise_to(executor.reactor().completed());
        self.cells.turn_duration.observe(Duration::from_nanos(busy));
        self.period_busy.set(self.period_busy.get() + busy);
        self.period.set(self.period.get() + busy + idle);
        if self.period.get() >= PERIOD {
            self.end_period(executor);
        }
    }

    fn panicked(&self) {
        self.cells.tasks_panicked.increment();
    }
}
