//! A shard's queue of lines, and the shard's end of it.
//!
//! Flows in: entries, on the shard. Flows out: whole lines, to the writer's thread. The queue is a
//! ring of bytes with one producer and one consumer, neither of which can make the other wait: a line
//! that has no room is dropped and counted. Nothing is allocated once the longest line was formatted.

use std::{
    cell::RefCell,
    fmt,
    hash::{BuildHasher, RandomState},
    rc::{Rc, Weak},
    sync::Arc,
};

use super::super::groups::ShardCells;
use super::{AccessLog, entry::Entry, time::Clock, writer::Shared};

/// A shard's queue to one writer, for all the logs that share it.
pub(super) struct ShardQueue {
    filling: RefCell<Filling>,
    writer: Arc<Shared>,
    cells: Arc<ShardCells>,
}

struct Filling {
    queue: rtrb::Producer<u8>,
    /// With so few bytes left the queue is filling up.
    scarce: usize,
    line: Vec<u8>,
    clock: Clock,
    random: u64,
}

impl ShardQueue {
    pub(super) fn new(writer: &Arc<Shared>, bytes: usize, cells: Arc<ShardCells>) -> ShardQueue {
        let (queue, lines) = rtrb::RingBuffer::new(bytes);
        writer.add(lines);
        let random = RandomState::new().hash_one(0) | 1;
        let line = Vec::with_capacity(1024);
        let filling = Filling { queue, scarce: bytes / 2, line, clock: Clock::new(), random };
        ShardQueue { filling: RefCell::new(filling), writer: Arc::clone(writer), cells }
    }

    fn log(&self, log: &AccessLog, entry: &Entry<'_>) {
        // Borrowed already where a field's lookup logs; there is no line for that.
        let Ok(mut filling) = self.filling.try_borrow_mut() else {
            return self.cells.access_log_dropped.increment();
        };
        let Filling { queue, scarce, line, clock, random } = &mut *filling;
        if !log.0.filter.passes(entry.outcome, || next(random)) {
            return;
        }
        line.clear();
        log.0.format.write(entry, clock, line);
        if queue.push_entire_slice(line).is_err() {
            self.cells.access_log_dropped.increment();
        }
        self.writer.ring(queue.slots() < *scarce);
    }
}

/// The queues of a shard that are in use, so that all logs of a writer share one.
#[derive(Default)]
pub(crate) struct Queues(RefCell<Vec<Weak<ShardQueue>>>);

impl Queues {
    /// A log on the shard of these queues, whose drops are counted in `cells`.
    pub(crate) fn join(&self, log: &AccessLog, cells: Arc<ShardCells>) -> AccessLogOnShard {
        let mut queues = self.0.borrow_mut();
        queues.retain(|queue| queue.strong_count() > 0);
        let writer = &log.0.writer.0;
        let shared =
            queues.iter().filter_map(Weak::upgrade).find(|q| Arc::ptr_eq(&q.writer, writer));
        let queue = shared.unwrap_or_else(|| {
            let queue = Rc::new(ShardQueue::new(writer, log.0.queue_bytes, cells));
            queues.push(Rc::downgrade(&queue));
            queue
        });
        AccessLogOnShard::new(log.clone(), queue)
    }
}

/// The next number of Marsaglia's xorshift64 generator: good enough for a sample.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// An [`AccessLog`] on one shard.
#[derive(Clone)]
pub struct AccessLogOnShard {
    log: AccessLog,
    queue: Rc<ShardQueue>,
}

impl AccessLogOnShard {
    pub(super) fn new(log: AccessLog, queue: Rc<ShardQueue>) -> AccessLogOnShard {
        AccessLogOnShard { log, queue }
    }

    /// Logs an entry, if the log's filter wants it. Never blocks: where the queue is full the line is
    /// dropped and counted in `access_log_dropped_total`.
    pub fn log(&self, entry: &Entry<'_>) {
        self.queue.log(&self.log, entry);
    }
}

impl fmt::Debug for AccessLogOnShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLogOnShard").field("log", &self.log).finish_non_exhaustive()
    }
}
