//! The thread that writes.
//!
//! Flows in: the queues of the shards. Flows out: whole lines, in batches, to a sink. It owns the
//! sink and nothing that a shard waits for, so a sink may be as slow as it likes. It never gives up:
//! a sink that fails is offered the same lines again, at growing intervals, while the queues fill and
//! their shards count what has no room.
//!
//! **A turn**: take in what was asked for (queues, reopening, an end); empty the queues into the
//! batch; write the batch; rest. See [`Bell`] for who is woken when.

use std::{
    any::Any,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use super::super::{cell::SharedCounter, log_limit::LogLimit};
use super::{bell::Bell, sink::AccessLogSink};

type Lines = rtrb::Consumer<u8>;

/// How long the writer gathers lines after it has written some.
const LINGER: Duration = Duration::from_millis(50);
/// A batch is written when it has so many bytes, though there are more.
const BATCH: usize = 256 << 10;
/// Before a sink that failed is tried again, at first and at most.
const RETRY: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];
/// How long a log that nobody holds any more may take for its last lines.
const LAST_LINES: Duration = Duration::from_secs(2);

/// What the writer's thread shares with everybody else.
pub(super) struct Shared {
    bell: Bell,
    thread: OnceLock<Thread>,
    control: Mutex<Control>,
    written: Condvar,
    failed_writes: SharedCounter,
}

#[derive(Default)]
struct Control {
    new_queues: Vec<Lines>,
    reopen: bool,
    end: bool,
    /// How many flushes were asked for, and how many of these have been done.
    flushes: u64,
    flushed: u64,
    /// The writer's thread has ended.
    ended: bool,
}

impl Shared {
    /// A shard's queue has got something.
    pub(super) fn ring(&self, urgent: bool) {
        if self.bell.ring(urgent) {
            self.unpark();
        }
    }

    pub(super) fn add(&self, lines: Lines) {
        self.ask(|control| control.new_queues.push(lines));
    }

    pub(super) fn reopen(&self) {
        self.ask(|control| control.reopen = true);
    }

    pub(super) fn failed_writes(&self) -> u64 {
        self.failed_writes.value()
    }

    /// Waits until everything is written that was logged before the call.
    pub(super) fn flush(&self, within: Duration) -> bool {
        let mine = self.ask(|control| {
            control.flushes += 1;
            control.flushes
        });
        let waits = |control: &mut Control| control.flushed < mine && !control.ended;
        let waited = self.written.wait_timeout_while(self.control(), within, waits);
        waited.unwrap_or_else(PoisonError::into_inner).0.flushed >= mine
    }

    fn ask<T>(&self, change: impl FnOnce(&mut Control) -> T) -> T {
        let result = change(&mut self.control());
        self.bell.end_rest();
        self.unpark();
        result
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// The handle of a writer. Once it is dropped the thread writes what there is, within a bound, and
/// ends.
pub(super) struct Writer(pub(super) Arc<Shared>);

impl Writer {
    pub(super) fn start(sink: impl AccessLogSink) -> io::Result<Writer> {
        let shared = Arc::new(Shared {
            bell: Bell::new(),
            thread: OnceLock::new(),
            control: Mutex::default(),
            written: Condvar::new(),
            failed_writes: SharedCounter::new(),
        });
        let writing = Writing {
            shared: Arc::clone(&shared),
            sink: Box::new(sink),
            queues: Vec::new(),
            batch: Batch::default(),
            flushes: 0,
            until: None,
            retry: RETRY[0],
            complaints: LogLimit::new(Duration::from_secs(10), 1),
        };
        let thread =
            thread::Builder::new().name("evenkeel-log".to_owned()).spawn(move || writing.run())?;
        // Nobody else has `shared` yet, so nobody can have rung before this.
        _ = shared.thread.set(thread.thread().clone());
        Ok(Writer(shared))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.ask(|control| control.end = true);
    }
}

/// Lines on their way to the sink.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    written: usize,
}

impl Batch {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    /// A line of which a part was written is to be written as a whole.
    fn back_to_line_start(&mut self) {
        let before = self.bytes[..self.written].iter().rposition(|byte| *byte == b'\n');
        self.written = before.map_or(0, |newline| newline + 1);
    }

    fn advance(&mut self, taken: usize) {
        self.written = self.bytes.len().min(self.written + taken);
        if self.is_empty() {
            self.bytes.clear();
            self.written = 0;
        }
    }
}

struct Writing {
    shared: Arc<Shared>,
    sink: Box<dyn AccessLogSink>,
    queues: Vec<Lines>,
    batch: Batch,
    /// The flushes that were taken in.
    flushes: u64,
    /// Nobody holds the log any more: when to end, whether or not everything is written.
    until: Option<Instant>,
    retry: Duration,
    complaints: LogLimit,
}

impl Writing {
    fn run(mut self) {
        let ended = Ended(Arc::clone(&self.shared));
        loop {
            self.take_orders();
            let result = self.empty_queues();
            if let Some(until) = self.until {
                let done = result.is_ok() && self.queues.is_empty();
                if done || Instant::now() >= until {
                    break;
                }
            }
            match result {
                Ok(wrote) => {
                    self.retry = RETRY[0];
                    self.flushed();
                    // Shards that drop their end of the log do not ring for that.
                    self.rest(wrote || self.until.is_some());
                }
                Err(error) => {
                    self.complain(&error);
                    self.wait_before_retry();
                }
            }
        }
        self.flushed();
        drop(ended);
    }

    /// Takes in what was asked for.
    fn take_orders(&mut self) {
        let mut control = self.shared.control();
        self.queues.append(&mut control.new_queues);
        self.flushes = control.flushes;
        if control.end {
            self.until.get_or_insert_with(|| Instant::now() + LAST_LINES);
        }
        let reopen = std::mem::take(&mut control.reopen);
        drop(control);
        if reopen {
            match guarded(|| self.sink.reopen()) {
                Ok(()) => self.batch.back_to_line_start(),
                Err(error) => tracing::error!("the access log cannot be reopened: {error}"),
            }
        }
    }

    /// Writes what is in the batch, and what is in each queue when its turn comes. Whether there was
    /// anything.
    fn empty_queues(&mut self) -> io::Result<bool> {
        let mut wrote = self.write()?;
        let mut index = 0;
        while let Some(queue) = self.queues.get_mut(index) {
            // Asked before the last look: nothing is added behind this.
            let abandoned = queue.is_abandoned();
            let available = queue.slots();
            if let Ok(lines) = queue.read_chunk(available) {
                let (first, second) = lines.as_slices();
                self.batch.bytes.extend_from_slice(first);
                self.batch.bytes.extend_from_slice(second);
                lines.commit_all();
            }
            match abandoned {
                true => drop(self.queues.swap_remove(index)),
                false => index += 1,
            }
            if self.batch.bytes.len() >= BATCH {
                wrote |= self.write()?;
            }
        }
        Ok(self.write()? || wrote)
    }

    /// Writes the batch. Whether there was any.
    fn write(&mut self) -> io::Result<bool> {
        let any = !self.batch.is_empty();
        while !self.batch.is_empty() {
            let taken = match guarded(|| self.sink.write(self.batch.rest())) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                result => result,
            };
            match taken {
                Ok(taken) => self.batch.advance(taken),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.shared.failed_writes.increment();
                    return Err(error);
                }
            }
        }
        Ok(any)
    }

    fn complain(&self, error: &io::Error) {
        if self.complaints.allow(Instant::now()) {
            let suppressed = self.complaints.take_suppressed();
            tracing::error!(
                suppressed,
                "the access log cannot be written, and is retried: {error}"
            );
        }
    }

    /// The flushes that were taken in are done, if nothing is left.
    fn flushed(&self) {
        let mut control = self.shared.control();
        if self.batch.is_empty() && control.flushed < self.flushes {
            control.flushed = self.flushes;
            self.shared.written.notify_all();
        }
    }

    /// Waits until there is something to do; for a moment at least if something was just done.
    fn rest(&self, linger: bool) {
        let bell = &self.shared.bell;
        if linger {
            bell.linger();
            let filling = |queue: &Lines| queue.slots() > queue.buffer().capacity() / 2;
            if !self.has_orders() && !self.queues.iter().any(filling) {
                self.park(LINGER);
            }
        } else {
            bell.sleep();
            if !self.has_orders() && self.queues.iter().all(Lines::is_empty) {
                self.park(Duration::MAX);
            }
        }
        bell.awake();
    }

    /// Waits after a failure, unless something is asked for. Queues that fill up do not end it: there
    /// is nowhere to put what is in them.
    fn wait_before_retry(&mut self) {
        let deadline = Instant::now() + self.retry;
        while !self.has_orders() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::park_timeout(left);
        }
        self.retry = (self.retry * 2).min(RETRY[1]);
    }

    /// Whether something was asked for that has not been taken in.
    fn has_orders(&self) -> bool {
        let control = self.shared.control();
        !control.new_queues.is_empty()
            || control.reopen
            || control.flushes > self.flushes
            || (control.end && self.until.is_none())
    }

    /// Sleeps until somebody rings, for at most so long.
    fn park(&self, at_most: Duration) {
        let deadline = Instant::now().checked_add(at_most);
        while self.shared.bell.is_resting() {
            let Some(deadline) = deadline else {
                thread::park();
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::park_timeout(left);
        }
    }
}

/// Says that nobody writes any more, however the thread ends.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.control().ended = true;
        self.0.written.notify_all();
    }
}

/// Calls a sink, which may be anybody's: one that panics has failed.
fn guarded<T>(call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let panicked = |_: Box<dyn Any + Send>| Err(io::Error::other("the sink panicked"));
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(panicked)
}
