//! What a running sidecar is asked to do, by signals and by the admin server. Both put it on one
//! channel, which the supervisor alone reads, so that one thing is done at a time.

use std::{io, sync::mpsc::Sender, thread};

use evenkeel::Drained;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1},
    iterator::Signals,
};

/// What has happened, or is asked for.
pub(super) enum Event {
    /// SIGTERM or SIGINT: drain and end; a second one ends at once.
    Terminate,
    /// Drain; `exit`: and end the process.
    Drain { exit: bool },
    /// The drain has come to its end.
    Drained(Drained),
    /// End at once.
    Quit,
    /// Read the file again. The answer goes to whoever waits for it.
    Reload(Option<Sender<Result<String, String>>>),
    /// Open the log files again.
    ReopenLogs,
}

/// Turns signals into events from now on, on a thread of its own.
///
/// # Errors
/// What `sigaction(2)` or starting the thread gives.
pub(super) fn from_signals(events: Sender<Event>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
    let forward = move || {
        for signal in signals.forever() {
            let event = match signal {
                SIGHUP => Event::Reload(None),
                SIGUSR1 => Event::ReopenLogs,
                _ => Event::Terminate,
            };
            if events.send(event).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(forward)?;
    Ok(())
}
