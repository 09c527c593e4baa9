//! Where the outcomes of a listener's exchanges go, on one shard: to its counts and to its access
//! log, both by one call.
//!
//! Flows in: the beginning of each exchange, and its [`Entry`] at the end. Flows out: counts, and a
//! line where the log wants it. An [`Exchange`] is a duty: one that is dropped instead of ended was
//! cut, and is counted so, so that the number of requests in flight comes back to zero whatever
//! happens.

use std::{fmt, sync::Arc};

use super::access_log::{AccessLogOnShard, Entry};
use super::http::HttpListenerCells;
use super::outcome::{CodeClass, ResponseFlag};

/// A listener's counts of HTTP on one shard, and its access log if it has one.
pub struct Exchanges {
    cells: Arc<HttpListenerCells>,
    log: Option<AccessLogOnShard>,
}

impl Exchanges {
    /// What counts under `cells` and logs to `log`.
    #[must_use]
    pub fn new(cells: Arc<HttpListenerCells>, log: Option<AccessLogOnShard>) -> Exchanges {
        Exchanges { cells, log }
    }

    /// The counts, for what is not an outcome: why a request was refused.
    #[must_use]
    pub fn cells(&self) -> &HttpListenerCells {
        &self.cells
    }

    /// Whether there is a log: what only its lines need, addresses for instance, need not be found
    /// out otherwise.
    #[must_use]
    pub fn is_logged(&self) -> bool {
        self.log.is_some()
    }

    /// An exchange begins.
    pub fn begin(&self) -> Exchange<'_> {
        self.cells.active.add(1);
        Exchange { exchanges: Some(self) }
    }
}

impl fmt::Debug for Exchanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchanges").field("log", &self.log).finish_non_exhaustive()
    }
}

/// One exchange in flight. [`end`](Self::end) it.
///
/// Dropped instead, it counts as cut by this proxy (code `none`, flag `LR`), and has no line: who
/// could tell what it was about has gone.
#[must_use = "an exchange that is dropped counts as cut"]
#[derive(Debug)]
pub struct Exchange<'e> {
    exchanges: Option<&'e Exchanges>,
}

impl Exchange<'_> {
    /// The exchange has ended so: counts it, and logs it where the log wants it.
    pub fn end(mut self, entry: &Entry<'_>) {
        let Some(exchanges) = self.exchanges.take() else { return };
        exchanges.cells.ended(entry.outcome);
        if let Some(log) = &exchanges.log {
            log.log(entry);
        }
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        if let Some(exchanges) = self.exchanges {
            exchanges.cells.active.add(-1);
            exchanges.cells.requests.increment(CodeClass::None, ResponseFlag::LocalReset);
        }
    }
}
