//! Listening sockets of one thread, and the loops that accept on them.

use std::{
    cell::RefCell,
    collections::HashMap,
    future::poll_fn,
    io,
    os::fd::{AsFd, OwnedFd},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use crate::{
    listener::{Limit, LimitGuard, table::ListenerId},
    net::Accepting,
    runtime::{JoinHandle, sleep, spawn, timeout},
    shard::WaitingAcceptors,
    telemetry::{AcceptCells, AcceptError, LogLimit, RejectReason},
};

/// How long a listener that is closed waits for shards to take what it has accepted.
const LAST_ROOM: Duration = Duration::from_millis(500);

/// How often the log says that a listener pauses.
const PAUSE_LOG_EVERY: Duration = Duration::from_secs(10);

/// A listening socket for one thread to accept on.
pub(crate) struct Entrance {
    pub(crate) listener: ListenerId,
    pub(crate) name: Arc<str>,
    pub(crate) socket: OwnedFd,
    pub(crate) limit: Option<Limit>,
    /// Others accept on the same socket, so what is in its queue is not lost when we stop.
    pub(crate) inherited: bool,
    pub(crate) cells: Arc<AcceptCells>,
}

/// Where accepted connections go.
pub(crate) trait Place: 'static {
    /// Passes a connection on, or closes it for the reason that is returned.
    fn place(
        &self,
        socket: OwnedFd,
        listener: ListenerId,
        limit: Option<LimitGuard>,
    ) -> Result<(), RejectReason>;

    /// Called after each batch.
    fn flush(&self) {}

    /// Whether nothing more should be accepted for now.
    fn is_behind(&self) -> bool {
        false
    }

    /// The proxy drains: connections that are here should end as soon as they can.
    fn drain(&self) {}

    /// Waits until more should be accepted.
    async fn room(&self) {}

    /// Waits until what could not be passed on at once has been.
    async fn settle(&self) {}
}

/// The entrances of one thread.
pub(crate) struct Entrances<P> {
    place: Rc<P>,
    starved: Arc<WaitingAcceptors>,
    open: RefCell<HashMap<ListenerId, Open>>,
}

/// A door and the task that accepts at it.
type Open = (Rc<Door>, JoinHandle<()>);

struct Door {
    entrance: Entrance,
    accepting: Accepting,
    /// Of the lines that say that accepting pauses: at a limit it does so again and again.
    pause_log: LogLimit,
    refusal_log: LogLimit,
}

impl<P: Place> Entrances<P> {
    pub(crate) fn new(place: Rc<P>, starved: Arc<WaitingAcceptors>) -> Entrances<P> {
        Entrances { place, starved, open: RefCell::default() }
    }

    pub(super) fn drain(&self) {
        self.place.drain();
    }

    /// Begins to accept. Where there is no descriptor for it, says so in the log.
    pub(crate) fn open(&self, mut entrance: Entrance) {
        let socket = match entrance.socket.try_clone() {
            Ok(socket) => socket,
            Err(error) => {
                return tracing::error!(listener = %entrance.name, "cannot accept: {error}");
            }
        };
        let socket = std::mem::replace(&mut entrance.socket, socket);
        let listener = entrance.listener;
        let door = Rc::new(Door {
            accepting: Accepting::adopt(socket),
            entrance,
            pause_log: LogLimit::new(PAUSE_LOG_EVERY, 1),
            refusal_log: LogLimit::new(Duration::from_secs(10), 1),
        });
        let accept = accept(Rc::clone(&door), Rc::clone(&self.place), Arc::clone(&self.starved));
        self.open.borrow_mut().insert(listener, (door, spawn(accept)));
    }

    /// Stops accepting for a listener. Connections that the kernel has queued are taken first.
    pub(crate) async fn close(&self, listener: ListenerId) {
        let Some((door, accept)) = self.open.borrow_mut().remove(&listener) else { return };
        accept.cancel().await;
        door.accepting.stop().await;
        while let Some(accepted) = door.accepting.take() {
            if let Ok(socket) = accepted {
                door.admit(socket, &*self.place);
            }
        }
        if !door.entrance.inherited {
            while let Some(socket) = door.take_queued() {
                door.admit(socket, &*self.place);
            }
        }
        self.place.flush();
        // Nobody else places what still waits once the last listener is closed.
        let _ = timeout(LAST_ROOM, self.place.settle()).await;
    }
}

impl Door {
    fn admit<P: Place>(&self, socket: OwnedFd, place: &P) {
        let cells = &self.entrance.cells;
        cells.accepts.increment();
        let limit = match self.entrance.limit.as_ref().map(Limit::try_enter) {
            Some(None) => return self.refuse(RejectReason::ListenerLimit),
            Some(entered) => entered,
            None => None,
        };
        if let Err(reason) = place.place(socket, self.entrance.listener, limit) {
            self.refuse(reason);
        }
    }

    /// Counts a connection that was closed for a limit, and says now and then which limit that was.
    fn refuse(&self, reason: RejectReason) {
        self.entrance.cells.rejected.increment(reason);
        if self.refusal_log.allow(Instant::now()) {
            tracing::warn!(
                listener = %self.entrance.name,
                suppressed = self.refusal_log.take_suppressed(),
                "a connection is closed at once: {}",
                remedy(reason)
            );
        }
    }

    /// Accepting cannot succeed for now.
    fn count_pause(&self, error: &io::Error) {
        let errno = error.raw_os_error().unwrap_or(0);
        self.entrance.cells.errors.increment(AcceptError::from_errno(errno));
        if self.pause_log.allow(Instant::now()) {
            tracing::warn!(
                listener = %self.entrance.name,
                suppressed = self.pause_log.take_suppressed(),
                "accepting pauses: {error}; raise RLIMIT_NOFILE or the memory limit, or lower \
                 limits.connections"
            );
        }
    }

    /// A connection that waits in the kernel's queue.
    fn take_queued(&self) -> Option<OwnedFd> {
        use rustix::{
            event::{PollFd, PollFlags, Timespec, poll},
            net::{SocketFlags, accept_with},
        };
        let socket = self.entrance.socket.as_fd();
        let mut poll_fds = [PollFd::new(&socket, PollFlags::IN)];
        // Nobody else accepts here, so what is ready stays ready and accept does not block.
        match poll(&mut poll_fds, Some(&Timespec::default())) {
            Ok(1..) => accept_with(socket, SocketFlags::CLOEXEC).ok(),
            _ => None,
        }
    }
}

/// Keeps it told that a listener is accepted for, until it ends, however it does.
struct SaysAccepting<'c>(&'c AcceptCells);

impl<'c> SaysAccepting<'c> {
    fn new(cells: &'c AcceptCells) -> Self {
        cells.accepting.set(1);
        SaysAccepting(cells)
    }
}

impl Drop for SaysAccepting<'_> {
    fn drop(&mut self) {
        self.0.accepting.set(0);
    }
}

/// Where no more connections are taken, and what to raise.
fn remedy(reason: RejectReason) -> &'static str {
    match reason {
        RejectReason::ListenerLimit => {
            "the listener has as many as its max_connections allows; raise it"
        }
        RejectReason::ShardLimit => {
            "every shard has as many as limits.connections_per_shard allows; raise it, or add shards"
        }
        _ => {
            "the proxy has as many as limits.connections allows; raise it, or the limit of open files \
             (RLIMIT_NOFILE) where it follows from that"
        }
    }
}

/// Accepts until it is cancelled.
async fn accept<P: Place>(door: Rc<Door>, place: Rc<P>, starved: Arc<WaitingAcceptors>) {
    let cells = &door.entrance.cells;
    let mut pause = Pause::default();
    let _accepting = SaysAccepting::new(cells);
    loop {
        let mut next = Some(door.accepting.accept().await);
        while let Some(accepted) = next {
            match accepted {
                Ok(socket) => {
                    pause = Pause::default();
                    door.admit(socket, &*place);
                }
                Err(error) => {
                    place.flush();
                    if is_unlucky(&error) {
                        continue_after(&error, cells);
                    } else {
                        cells.accepting.set(0);
                        door.count_pause(&error);
                        pause.wait(&starved).await;
                        cells.accepting.set(1);
                    }
                }
            }
            next = door.accepting.take();
        }
        place.flush();
        if place.is_behind() {
            // What is not accepted waits in the kernel, within the listener's backlog.
            door.accepting.stop().await;
            place.room().await;
        }
    }
}

fn continue_after(error: &io::Error, cells: &AcceptCells) {
    // A client that gave up while it was queued is nothing.
    if error.raw_os_error() != Some(libc::ECONNABORTED) {
        cells.errors.increment(AcceptError::from_errno(error.raw_os_error().unwrap_or(0)));
    }
}

/// Whether the error is about one connection, so that the next accept may well succeed: what
/// accept(2) passes on from the new socket.
fn is_unlucky(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EPERM
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
        )
    )
}

/// Waits while accepting cannot succeed, longer each time in a row.
struct Pause {
    next: Duration,
}

impl Default for Pause {
    fn default() -> Pause {
        Pause { next: Pause::MIN }
    }
}

impl Pause {
    const MIN: Duration = Duration::from_millis(10);
    const MAX: Duration = Duration::from_secs(1);

    async fn wait(&mut self, starved: &WaitingAcceptors) {
        let mut timer = pin!(sleep(self.next));
        let mut waiting = false;
        let fired = poll_fn(|cx| {
            let fired = timer.as_mut().poll(cx).is_ready();
            if !waiting {
                waiting = true;
                starved.wait(cx.waker());
                return if fired { Poll::Ready(true) } else { Poll::Pending };
            }
            // Polled again: either the timer fired, or a connection is being closed.
            Poll::Ready(fired)
        })
        .await;
        // The shard says that it closes one before the kernel has done so: when the next try comes
        // too early, another one follows soon.
        self.next = if fired { (self.next * 2).min(Pause::MAX) } else { Pause::MIN };
    }
}
