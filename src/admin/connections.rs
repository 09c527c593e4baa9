//! The connections that are open, of which there are few, and which of them may be cut.

use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a connection is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// For the client to send its request.
    Receiving,
    /// For a handler.
    Handling,
    /// For the client to read the answer.
    Sending,
}

#[derive(Debug)]
struct Open {
    id: u64,
    stream: Arc<TcpStream>,
    phase: Phase,
    since: Instant,
    cut: bool,
}

/// The table of connections. Shared by the threads of the server.
#[derive(Debug)]
pub(super) struct Connections {
    limit: usize,
    open: Mutex<Vec<Open>>,
    closed: Condvar,
}

/// How long a client may keep a new one waiting before it is cut for it.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long a new connection waits for one that was cut to be gone.
const CUT_PATIENCE: Duration = Duration::from_millis(200);

impl Connections {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), open: Mutex::default(), closed: Condvar::new() }
    }

    /// Enters a connection. At the limit, the one that has waited longest for its client is cut,
    /// unless one ends by itself in a moment; if all are with handlers, the new one is given back.
    pub(super) fn enter(&self, id: u64, stream: TcpStream) -> Result<(), TcpStream> {
        let mut open = self.lock();
        if open.len() >= self.limit {
            let waited = longest_waiting(&mut open).map_or(Duration::ZERO, |c| c.since.elapsed());
            open = self.wait_for_room(open, PATIENCE.saturating_sub(waited));
        }
        if open.len() >= self.limit {
            longest_waiting(&mut open).into_iter().for_each(cut);
            open = self.wait_for_room(open, CUT_PATIENCE);
        }
        if open.len() >= self.limit {
            return Err(stream);
        }
        let (stream, since) = (Arc::new(stream), Instant::now());
        open.push(Open { id, stream, phase: Phase::Receiving, since, cut: false });
        Ok(())
    }

    fn wait_for_room<'a>(
        &self,
        open: MutexGuard<'a, Vec<Open>>,
        longest: Duration,
    ) -> MutexGuard<'a, Vec<Open>> {
        let full = |open: &mut Vec<Open>| open.len() >= self.limit;
        let waited = self.closed.wait_timeout_while(open, longest, full);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// The socket of a connection, for the thread that serves it and for no other: who takes the
    /// connection out of the table counts on the last reference.
    pub(super) fn stream(&self, id: u64) -> Option<Arc<TcpStream>> {
        let open = self.lock();
        open.iter().find(|connection| connection.id == id).map(|c| Arc::clone(&c.stream))
    }

    pub(super) fn set_phase(&self, id: u64, phase: Phase) {
        if let Some(connection) = self.lock().iter_mut().find(|connection| connection.id == id) {
            connection.phase = phase;
            connection.since = Instant::now();
        }
    }

    /// Takes a connection out of the table, which had the last other reference to the socket.
    pub(super) fn leave(&self, id: u64) -> Option<Arc<TcpStream>> {
        let mut open = self.lock();
        let place = open.iter().position(|connection| connection.id == id)?;
        Some(open.swap_remove(place).stream)
    }

    /// Says that a connection that has left is closed.
    pub(super) fn closed(&self) {
        self.closed.notify_all();
    }

    /// Cuts the connection that has waited longest for its client, if for more than `patience`, to
    /// have its descriptor.
    pub(super) fn cut_one(&self, patience: Duration) {
        let mut open = self.lock();
        longest_waiting(&mut open)
            .filter(|c| c.since.elapsed() > patience)
            .into_iter()
            .for_each(cut);
    }

    /// Cuts those that are sending a request, gives the others until `grace` has passed, and cuts
    /// what is left then.
    pub(super) fn end(&self, grace: Duration) {
        let mut open = self.lock();
        open.iter_mut().filter(|connection| connection.phase == Phase::Receiving).for_each(cut);
        let waited = self.closed.wait_timeout_while(open, grace, |open| !open.is_empty());
        open = waited.unwrap_or_else(PoisonError::into_inner).0;
        open.iter_mut().for_each(cut);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn longest_waiting(open: &mut [Open]) -> Option<&mut Open> {
    let waiting = open.iter_mut().filter(|c| c.phase != Phase::Handling && !c.cut);
    waiting.min_by_key(|connection| connection.since)
}

/// Ends whatever read or write the connection's thread is blocked in; it closes the socket itself.
fn cut(connection: &mut Open) {
    connection.cut = true;
    // An error means that the client is gone already.
    _ = connection.stream.shutdown(Shutdown::Both);
}
