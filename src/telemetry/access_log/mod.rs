//! The access log: a line for each exchange, and for each relayed connection.
//!
//! Flows in: an [`Entry`] for each, on the shard that served it. Flows out: whole lines, in batches,
//! to a file, the standard output or a [sink](AccessLogSink) of your own.
//!
//! ```text
//!  shard 0 ─ filter, format ─► queue of shard 0 ┐
//!  shard 1 ─ filter, format ─► queue of shard 1 ├─ the log's own thread ─► sink
//! ```
//!
//! A shard never waits for its log, and a log never holds a shard up: a queue is a ring of bytes that
//! drops what has no room, and each dropped line is counted. Lines of one shard keep their order;
//! those of several are mixed as their batches come.
//!
//! It owns one thread a log, and 256 KiB (unless told otherwise) a log and shard that writes to it.
//! What it never does: block a shard, end the process, or lose a line that it took in because of a
//! rotation.
//!
//! **Rotation**: move the file away, then [`reopen`](AccessLog::reopen). What was logged meanwhile is
//! in the one file or in the other.
//!
//! **The end**: after the proxy was drained, [`flush`](AccessLog::flush).
//!
//! **What peers sent** is escaped so that a line can be neither broken nor forged by it. A text line
//! has as many spaces outside of quotes as its format, and as many quotes; a JSON line is always
//! valid. Values longer than 8 KiB are cut.

mod bell;
mod entry;
mod filter;
mod format;
mod queue;
mod sink;
mod time;
mod tls;
mod value;
mod writer;

use std::{fmt, io, path::PathBuf, rc::Rc, sync::Arc, time::Duration};

pub(crate) use self::queue::Queues;
pub use self::{
    entry::{Entry, Fields, Request},
    filter::Filter,
    format::{Format, FormatError, ISTIO},
    queue::AccessLogOnShard,
    sink::AccessLogSink,
    tls::{CertificateFacts, TlsSession},
};
use self::{
    queue::ShardQueue,
    sink::{Appended, StandardOutput},
    writer::Writer,
};
use super::groups::ShardCells;

/// The bytes of each shard's queue unless they are told.
const QUEUE_BYTES: usize = 256 << 10;

/// An access log. Clones write to the same sink, each in its format and by its filter: that is how
/// several listeners share a file.
///
/// ```
/// use evenkeel::telemetry::access_log::{AccessLog, Filter, Format};
/// # fn main() -> std::io::Result<()> {
/// let (sender, lines) = std::sync::mpsc::channel();
/// let log = AccessLog::to(move |lines: &[u8]| {
///     sender.send(lines.to_vec()).map_err(std::io::Error::other)
/// })?;
/// let errors = log.clone().format(Format::json()).filter(Filter::all().errors());
/// # drop((errors, lines));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "give it to a relay or an HTTP proxy"]
pub struct AccessLog(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    writer: Arc<Writer>,
    format: Format,
    filter: Filter,
    queue_bytes: usize,
}

impl AccessLog {
    /// A log to a file, which is appended to, and made if there is none.
    ///
    /// # Errors
    ///
    /// When it cannot be opened, or no thread be started.
    pub fn file(path: impl Into<PathBuf>) -> io::Result<AccessLog> {
        AccessLog::to(Appended::open(path.into())?)
    }

    /// A log to the process's standard output.
    ///
    /// # Errors
    ///
    /// When there is none, or no thread can be started.
    pub fn stdout() -> io::Result<AccessLog> {
        AccessLog::to(StandardOutput::new()?)
    }

    /// A log to a sink of your own. It is called on a thread of its own, which starts where the
    /// caller may run: not to be called on a pinned shard.
    ///
    /// # Errors
    ///
    /// When no thread can be started.
    pub fn to(sink: impl AccessLogSink) -> io::Result<AccessLog> {
        Ok(AccessLog(Arc::new(Inner {
            writer: Arc::new(Writer::start(sink)?),
            format: Format::default(),
            filter: Filter::all(),
            queue_bytes: QUEUE_BYTES,
        })))
    }

    /// What its lines look like. Default: [`Format::istio`].
    pub fn format(mut self, format: Format) -> AccessLog {
        Arc::make_mut(&mut self.0).format = format;
        self
    }

    /// Which entries get a line. Default: all.
    pub fn filter(mut self, filter: Filter) -> AccessLog {
        Arc::make_mut(&mut self.0).filter = filter;
        self
    }

    /// The bytes of each shard's queue: what may wait while the sink is slow. A line that is longer
    /// is never written. Default: 256 KiB. Clones that differ share the queue of whichever a shard
    /// uses first.
    pub fn queue_bytes(mut self, bytes: usize) -> AccessLog {
        Arc::make_mut(&mut self.0).queue_bytes = bytes.max(1);
        self
    }

    /// Opens the file anew, soon: it was moved away. Where that fails the old one stays, and an error
    /// is logged.
    pub fn reopen(&self) {
        self.0.writer.0.reopen();
    }

    /// Waits until everything is written that was logged before, for at most `within`. Whether it
    /// was. Blocks: not for a shard.
    #[must_use = "false: lines are still waiting"]
    pub fn flush(&self, within: Duration) -> bool {
        self.0.writer.0.flush(within)
    }

    /// How often the sink has failed. What it failed to take is tried again.
    #[must_use]
    pub fn failed_writes(&self) -> u64 {
        self.0.writer.0.failed_writes()
    }

    /// The log on the calling thread, which is a shard's, with a queue of its own: what it drops is
    /// counted in `cells`. Inside of a proxy, [`Shard::access_log`](crate::shard::Shard::access_log)
    /// gives all logs of a sink the same queue.
    #[must_use]
    pub fn on_shard(&self, cells: Arc<ShardCells>) -> AccessLogOnShard {
        let queue = ShardQueue::new(&self.0.writer.0, self.0.queue_bytes, cells);
        AccessLogOnShard::new(self.clone(), Rc::new(queue))
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog")
            .field("format", &self.0.format)
            .field("filter", &self.0.filter)
            .field("queue_bytes", &self.0.queue_bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
