//! Which worker a connection belongs to, found out from outside.
//!
//! One connection makes some round trips while all others are silent; the thread that has run most
//! meanwhile is the one that carries it.

use std::io;
use std::thread;
use std::time::Duration;

use crate::load::held::Held;
use crate::process::Thread;

const ROUND_TRIPS: usize = 4;
const ATTEMPTS: usize = 10;
/// Connections that were tried at the start are gone from the workers' counts by then.
const SETTLING: Duration = Duration::from_millis(100);

pub(super) struct Owners<'t> {
    workers: &'t [Thread],
}

pub(super) fn let_it_settle() {
    thread::sleep(SETTLING);
}

/// The most minus the fewest.
pub(super) fn spread(counts: &[usize]) -> usize {
    match (counts.iter().max(), counts.iter().min()) {
        (Some(most), Some(fewest)) => most - fewest,
        _ => 0,
    }
}

impl<'t> Owners<'t> {
    pub(super) fn of(workers: &'t [Thread]) -> Self {
        Self { workers }
    }

    pub(super) fn run_times(&self) -> io::Result<Vec<Duration>> {
        self.workers.iter().map(Thread::run_time).collect()
    }

    /// The index of the worker that carries this connection.
    ///
    /// # Errors
    /// The connection fails, or no thread stands out in ten attempts: the workers share the
    /// connection's work, or others work meanwhile.
    pub(super) fn find(&self, connection: &mut Held) -> io::Result<usize> {
        for _ in 0..ATTEMPTS {
            let before = self.run_times()?;
            for _ in 0..ROUND_TRIPS {
                connection.exchange()?;
            }
            let after = self.run_times()?;
            let ran: Vec<Duration> =
                before.iter().zip(&after).map(|(before, after)| *after - *before).collect();
            let (owner, most) = largest(&ran);
            let others: Duration = ran.iter().sum::<Duration>() - most;
            if most > 3 * others {
                return Ok(owner);
            }
        }
        Err(io::Error::other("no worker stands out: the connection has no single owner"))
    }
}

fn largest(times: &[Duration]) -> (usize, Duration) {
    let indexed = times.iter().copied().enumerate();
    indexed.max_by_key(|&(_, time)| time).unwrap_or((0, Duration::ZERO))
}
