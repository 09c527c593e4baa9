//! Stopping without harm: not ready first, then no new connections, then the end of the old ones.

use std::{
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

use super::running::Running;
use crate::{accept::Command, error::Error};

/// How a proxy drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drain {
    /// How long it goes on accepting once it says that it is not ready. Default: not at all.
    pub keep_accepting: Duration,
    /// How long connections may then take to finish before they are cut. Default: 30 s.
    pub deadline: Duration,
}

impl Drain {
    /// Stops accepting at once, and cuts what is left after `deadline`.
    pub fn within(deadline: Duration) -> Drain {
        Drain { keep_accepting: Duration::ZERO, deadline }
    }

    /// Goes on accepting for so long first.
    #[must_use]
    pub fn keep_accepting(mut self, time: Duration) -> Drain {
        self.keep_accepting = time;
        self
    }
}

impl Default for Drain {
    fn default() -> Drain {
        Drain::within(Duration::from_secs(30))
    }
}

impl From<Duration> for Drain {
    fn from(deadline: Duration) -> Drain {
        Drain::within(deadline)
    }
}

/// What became of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it says how many connections were cut"]
#[non_exhaustive]
pub struct Drained {
    /// Connections that were open when accepting stopped.
    pub open: u64,
    /// Those of them that did not finish in time and were cut.
    pub cut: u64,
}

impl Drained {
    /// Writes it to the log.
    ///
    /// # Errors
    ///
    /// None; it fits the end of a `main`.
    pub fn report(self) -> Result<(), Error> {
        let Drained { open, cut } = self;
        if cut > 0 {
            tracing::warn!(open, cut, "drained; connections were cut at the deadline");
        } else {
            tracing::info!(open, "drained; every connection finished");
        }
        Ok(())
    }
}

impl Running {
    /// Says that it is not ready, stops accepting, and waits until all connections have ended or the
    /// deadline has come.
    pub(super) fn drain(&self, drain: Drain) -> Drained {
        const LOOK: Duration = Duration::from_millis(5);
        self.draining.store(true, Relaxed);
        thread::sleep(drain.keep_accepting);
        self.close_listeners();
        for shard in self.shards.iter() {
            let _ = shard.control.send(Command::Drain);
        }
        let open = self.shared.loads.total();
        let began = Instant::now();
        let mut left = open;
        while left > 0 && began.elapsed() < drain.deadline {
            thread::sleep(LOOK.min(drain.deadline.saturating_sub(began.elapsed())));
            left = self.shared.loads.total();
        }
        Drained { open, cut: left }
    }
}
