//! Looks for changed files, now and then.
//!
//! It compares contents, and reads through whatever links a path has at that moment. So it sees a
//! file that is written in place, one that is renamed over another, and the directory swaps of a
//! Kubernetes volume alike, and a file system that tells nobody of changes is no worse than another.
//! A file that is read while it is half written makes a set that is refused; the next look finds the
//! rest. What it looks after it also counts: see [`Watch::metrics`].

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use super::{Counts, Credentials, Reloads, Settings, Shared, metrics::Metrics};
use crate::telemetry::Source;

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
pub(super) struct Watched {
    state: Mutex<State>,
    stop: Condvar,
}

#[derive(Default)]
struct State {
    credentials: Vec<Entry>,
    /// The reloads of credentials that are gone.
    past: Reloads,
    stopped: bool,
}

#[derive(Clone)]
struct Entry {
    credentials: Weak<dyn AnyCredentials>,
    counts: Arc<Counts>,
}

/// Credentials of either end.
pub(super) trait AnyCredentials: Send + Sync {
    fn look(&self);
    fn name(&self) -> &str;
    fn expires_at(&self) -> Option<SystemTime>;
}

impl<S: Settings> AnyCredentials for Shared<S> {
    fn look(&self) {
        // What went wrong was counted and logged.
        let _ = self.reload();
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn expires_at(&self) -> Option<SystemTime> {
        self.current.load().expires_at()
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
        let entry = Entry {
            credentials: Arc::downgrade(&credentials.0) as Weak<dyn AnyCredentials>,
            counts: Arc::clone(&credentials.0.counts),
        };
        self.shared.state().credentials.push(entry);
    }

    /// When the certificates of all credentials expire that it looks after, and how many reloads there
    /// have been: for [`Registry::add_source`](crate::telemetry::Registry::add_source). Of credentials
    /// with the same name, those that were added last are shown.
    pub fn metrics(&self) -> impl Source + use<> {
        Metrics(Arc::clone(&self.shared))
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

    /// What is still in use, and the reloads of all there ever was.
    pub(super) fn in_use(&self) -> (Vec<Arc<dyn AnyCredentials>>, Reloads) {
        let mut state = self.state();
        state.forget_unused();
        let mut reloads = state.past;
        state.credentials.iter().for_each(|entry| reloads.add(entry.counts.read()));
        let credentials = state.credentials.iter().filter_map(|entry| entry.credentials.upgrade());
        (credentials.collect(), reloads)
    }

    fn run(&self, period: Duration) {
        let mut state = self.state();
        while !state.stopped {
            let (after, _) = self
                .stop
                .wait_timeout_while(state, period, |state| !state.stopped)
                .unwrap_or_else(PoisonError::into_inner);
            state = after;
            state.forget_unused();
            let credentials = state.credentials.clone();
            // Files may be slow. Nobody waits for them who only wants to add something, or to stop.
            drop(state);
            for credentials in credentials.iter().filter_map(|entry| entry.credentials.upgrade()) {
                if self.state().stopped {
                    return;
                }
                credentials.look();
            }
            state = self.state();
        }
    }
}

impl State {
    fn forget_unused(&mut self) {
        let State { credentials, past, .. } = self;
        credentials.retain(|entry| {
            let in_use = entry.credentials.strong_count() > 0;
            if !in_use {
                past.add(entry.counts.read());
            }
            in_use
        });
    }
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}
