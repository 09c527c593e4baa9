//! Looks for changed files, now and then.
//!
//! It compares contents, and reads through whatever links a path has at that moment. So it sees a
//! file that is written in place, one that is renamed over another, and the directory swaps of a
//! Kubernetes volume alike, and a file system that tells nobody of changes is no worse than another.
//! A file that is read while it is half written makes a set that is refused; the next look finds the
//! rest.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{Credentials, Settings, Shared};

/// A thread that looks for changes in the files of any number of credentials. One is enough for a
/// proxy.
///
/// It stops when it is dropped. Credentials that are dropped everywhere else are looked at no more.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Watched>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Watched {
    state: Mutex<State>,
    stop: Condvar,
}

#[derive(Default)]
struct State {
    credentials: Vec<Weak<dyn Reload>>,
    stopped: bool,
}

trait Reload: Send + Sync {
    fn look(&self);
}

impl<S: Settings> Reload for Shared<S> {
    fn look(&self) {
        // What went wrong was counted and logged.
        let _ = self.reload();
    }
}

impl Watch {
    /// How often to look, where nobody says otherwise.
    pub const PERIOD: Duration = Duration::from_secs(1);

    /// Starts the thread, `evenkeel-certs`. It looks once in each `period`.
    ///
    /// # Errors
    ///
    /// There can be no more threads.
    pub fn start(period: Duration) -> io::Result<Watch> {
        let shared = Arc::new(Watched::default());
        let watched = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("evenkeel-certs".into())
            .spawn(move || watched.run(period))?;
        Ok(Watch { shared, thread: Some(thread) })
    }

    /// Looks after `credentials`, too, for as long as they are in use elsewhere.
    pub fn add<S: Settings>(&self, credentials: &Credentials<S>) {
        let weak = Arc::downgrade(&credentials.0);
        self.shared.state().credentials.push(weak);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.state().stopped = true;
        self.shared.stop.notify_all();
        if let Some(thread) = self.thread.take() {
            // It has no result, and a panic of it was printed.
            let _ = thread.join();
        }
    }
}

impl Watched {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, period: Duration) {
        let mut state = self.state();
        while !state.stopped {
            let (after, _) = self
                .stop
                .wait_timeout_while(state, period, |state| !state.stopped)
                .unwrap_or_else(PoisonError::into_inner);
            state = after;
            state.credentials.retain(|credentials| credentials.strong_count() > 0);
            let credentials = state.credentials.clone();
            // Files may be slow. Nobody waits for them who only wants to add something, or to stop.
            drop(state);
            for credentials in credentials.iter().filter_map(Weak::upgrade) {
                if self.state().stopped {
                    return;
                }
                credentials.look();
            }
            state = self.state();
        }
    }
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}
