//! The thread of a guest shard: where it runs, and what the proxy learns of its start and its end.

use std::{
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use super::{doorbell::Doorbell, inbox::Inbox};
use crate::{
    error::Error,
    shard::{Remote, Shard, Shared, thread::Leaving},
    sys::{placement::Placement, thread_clock::ThreadClock},
};

/// Runs a guest shard on the thread that calls it, until the shard ends.
pub(crate) trait RunGuest: Send + Sync {
    /// # Errors
    ///
    /// What kept the shard from starting.
    fn run(&self, start: Start) -> Result<(), Error>;
}

/// Everything that a guest's thread starts with.
pub(crate) struct GuestThread {
    pub(crate) remote: Arc<Remote>,
    pub(crate) all: Arc<[Arc<Remote>]>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) placement: Placement,
    pub(crate) guest: Arc<dyn RunGuest>,
}

impl GuestThread {
    /// Starts the thread. It reports on `started` once it can serve, or why it cannot.
    pub(crate) fn start(
        self,
        started: mpsc::Sender<Result<(), Error>>,
    ) -> Result<JoinHandle<()>, Error> {
        let index = self.remote.index;
        let run = move || {
            if let Err(error) = self.placement.apply() {
                // It serves as well where the kernel puts it.
                tracing::warn!(shard = index, "cannot place the shard: {error}");
            }
            let failed = started.clone();
            let guest = Arc::clone(&self.guest);
            if let Err(error) = guest.run(Start { thread: self, started })
                && let Err(unheard) = failed.send(Err(error))
                && let Err(error) = unheard.0
            {
                tracing::error!(shard = index, "the shard died: {error}");
            }
        };
        thread::Builder::new()
            .name(format!("evenkeel-{index}"))
            .spawn(run)
            .map_err(Error::system("starting a shard's thread"))
    }
}

/// A guest shard that is about to serve.
pub(crate) struct Start {
    thread: GuestThread,
    started: mpsc::Sender<Result<(), Error>>,
}

impl Start {
    /// The shard's inbox. From now on the shard serves.
    pub(crate) fn inbox(self) -> Result<Inbox, Error> {
        let doorbell = Doorbell::new().map_err(Error::system("making a shard's doorbell"))?;
        let GuestThread { remote, all, shared, placement, .. } = self.thread;
        let cpu = match placement {
            Placement::Pinned(cpu) => Some(cpu),
            _ => None,
        };
        let clock = ThreadClock::of_this_thread();
        let _ = remote.clock.set(clock.map_err(Error::system("finding a thread's clock"))?);
        let leaving = Leaving::new(&remote, &all, &shared);
        let shard = Shard::new(remote.index, cpu, shared);
        let inbox = Inbox::new(shard, remote, doorbell, leaving);
        let _ = self.started.send(Ok(()));
        Ok(inbox)
    }
}
