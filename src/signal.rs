//! Waiting for the signals that end a process. Nothing here happens unless it is asked for.

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::error::Error;

/// Takes over SIGTERM and SIGINT. From now on they end nothing by themselves.
///
/// # Errors
///
/// What `sigaction(2)` gives.
pub fn terminate() -> Result<Termination, Error> {
    let signals = Signals::new([SIGTERM, SIGINT]);
    Ok(Termination { signals: signals.map_err(Error::system("taking over SIGTERM and SIGINT"))? })
}

/// Waits for SIGTERM or SIGINT.
#[derive(Debug)]
pub struct Termination {
    signals: Signals,
}

impl Termination {
    /// Blocks the calling thread until one of them comes, or returns at once if one has come since
    /// [`terminate`] or the last call.
    pub fn wait(&mut self) {
        self.signals.forever().next();
    }
}
