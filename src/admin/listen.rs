//! The accepting thread, and the threads of the connections.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::connections::{Connections, Phase};
use super::exchange::{Timeouts, Unserved, linger, receive, send};
use super::reserve::Reserve;
use super::response::Response;
use super::router::{Router, Visible};
use crate::telemetry::LogLimit;

/// What the threads of a server share.
pub(super) struct Shared {
    pub(super) router: Router,
    pub(super) timeouts: Timeouts,
    pub(super) connections: Connections,
    pub(super) reserve: Reserve,
    pub(super) stopping: AtomicBool,
    /// An eventfd, readable when the accepting thread has something to look at.
    pub(super) wake: OwnedFd,
}

impl Shared {
    pub(super) fn wake(&self) {
        // It fails only when the eventfd's count is full, and then the thread is awake.
        _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

/// A listening socket and what it shows.
pub(super) struct Entrance {
    pub(super) socket: TcpListener,
    pub(super) visible: Arc<Visible>,
}

/// How long accepting rests when descriptors or memory are short.
const PAUSE: Duration = Duration::from_millis(50);
/// How long clients may finish when the server stops.
const GRACE: Duration = Duration::from_secs(1);
/// How long a client may keep the accepting thread, where no other thread can be had.
const INLINE: Timeouts =
    Timeouts { request: Duration::from_millis(500), response: Duration::from_millis(500) };

/// The accepting thread. It ends when the server stops, all its sockets closed and all threads of
/// connections joined.
pub(super) struct Listening {
    shared: Arc<Shared>,
    entrances: Vec<Entrance>,
    threads: Vec<JoinHandle<()>>,
    next_id: u64,
    log_limit: LogLimit,
}

impl Listening {
    pub(super) fn new(shared: Arc<Shared>, entrances: Vec<Entrance>) -> Self {
        let log_limit = LogLimit::new(Duration::from_secs(10), 3);
        Self { shared, entrances, threads: Vec::new(), next_id: 0, log_limit }
    }

    pub(super) fn run(mut self) {
        let mut paused = false;
        loop {
            let ready = self.wait(paused);
            if self.shared.stopping.load(Ordering::Acquire) {
                break;
            }
            self.join_finished();
            self.shared.reserve.refill();
            // One from each that is ready, so that no entrance starves another.
            paused = false;
            for entrance in ready {
                paused |= self.accept(entrance).is_err();
            }
        }
        self.entrances.clear();
        self.shared.connections.end(GRACE);
        self.threads.drain(..).for_each(|thread| _ = thread.join());
    }

    /// Waits for connections, after the pause if there is one, and returns the entrances that have
    /// one. Nothing else is accepted from: without descriptors accept fails, and costs the reserve,
    /// even where no connection is queued.
    fn wait(&self, paused: bool) -> Vec<usize> {
        if paused {
            let pause = Timespec { tv_sec: 0, tv_nsec: i64::from(PAUSE.subsec_nanos()) };
            _ = poll(&mut [PollFd::new(&self.shared.wake, PollFlags::IN)], Some(&pause));
        }
        let mut sockets = vec![PollFd::new(&self.shared.wake, PollFlags::IN)];
        sockets.extend(self.entrances.iter().map(|e| PollFd::new(&e.socket, PollFlags::IN)));
        match poll(&mut sockets, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Vec::new(),
            Err(_) => {
                // Short of memory.
                thread::sleep(PAUSE);
                return Vec::new();
            }
        }
        let mut ready = sockets.iter().map(|socket| !socket.revents().is_empty());
        if ready.next() == Some(true) {
            _ = rustix::io::read(&self.shared.wake, &mut [0; 8]);
        }
        ready.enumerate().filter_map(|(place, ready)| ready.then_some(place)).collect()
    }

    /// Accepts one connection, if there is one. An error asks for a pause.
    fn accept(&mut self, entrance: usize) -> io::Result<()> {
        let Entrance { socket, visible } = &self.entrances[entrance];
        let visible = Arc::clone(visible);
        let accepted = match socket.accept() {
            Err(error) if no_descriptors(&error) && self.shared.reserve.give_up() => {
                socket.accept().inspect_err(|_| self.shared.reserve.refill())
            }
            accepted => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                self.serve(stream, visible);
                Ok(())
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock
                | io::ErrorKind::Interrupted
                | io::ErrorKind::ConnectionAborted => Ok(()),
                _ => {
                    // A client that waits keeps a descriptor that the next one could have.
                    self.shared.connections.cut_one(PAUSE);
                    if self.log_limit.allow(Instant::now()) {
                        let suppressed = self.log_limit.take_suppressed();
                        tracing::warn!(%error, suppressed, "the admin listener cannot accept");
                    }
                    Err(error)
                }
            },
        }
    }

    fn serve(&mut self, stream: TcpStream, visible: Arc<Visible>) {
        let id = self.next_id;
        self.next_id += 1;
        if let Err(stream) = self.shared.connections.enter(id, stream) {
            return self.turn_away(stream);
        }
        let conversation = {
            let (shared, visible) = (Arc::clone(&self.shared), Arc::clone(&visible));
            move || converse(&shared, id, &visible, shared.timeouts)
        };
        match thread::Builder::new().name("evenkeel-admin".to_owned()).spawn(conversation) {
            Ok(thread) => self.threads.push(thread),
            Err(_) => converse(&self.shared, id, &visible, INLINE),
        }
    }

    /// Every connection is with a handler that takes its time.
    fn turn_away(&self, stream: TcpStream) {
        let busy = Response::text(503, "all admin connections are busy; try again\n");
        if send(&stream, &busy, false, INLINE.response).is_ok() {
            _ = stream.set_nonblocking(true);
            linger(&stream);
        }
        self.shared.reserve.retire(stream);
    }

    fn join_finished(&mut self) {
        let (finished, running) = self.threads.drain(..).partition(JoinHandle::is_finished);
        self.threads = running;
        let finished: Vec<JoinHandle<()>> = finished;
        finished.into_iter().for_each(|thread| _ = thread.join());
    }
}

/// Descriptors of this process (EMFILE) or of the system (ENFILE) have run out.
fn no_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// One connection from its entry into the table to its end.
fn converse(shared: &Shared, id: u64, visible: &Visible, timeouts: Timeouts) {
    // Dropped after the stream, in a panic too.
    let _leaving = Leaving { shared, id };
    if let Some(stream) = shared.connections.stream(id) {
        exchange(shared, id, &stream, visible, timeouts);
    }
}

fn exchange(shared: &Shared, id: u64, stream: &TcpStream, visible: &Visible, timeouts: Timeouts) {
    let (response, to_head, read_whole) = match receive(stream, Instant::now() + timeouts.request) {
        Ok(request) => {
            shared.connections.set_phase(id, Phase::Handling);
            (shared.router.answer(visible, &request), request.method() == "HEAD", true)
        }
        Err(Unserved::Refused(refusal)) => (refusal.response(), false, false),
        Err(Unserved::Gone) => return,
    };
    shared.connections.set_phase(id, Phase::Sending);
    if send(stream, &response, to_head, timeouts.response).is_ok() && !read_whole {
        linger(stream);
    }
}

/// Takes the connection out of the table when its conversation is over, and sees to its descriptor.
struct Leaving<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let Shared { connections, reserve, .. } = self.shared;
        let stream = connections.leave(self.id).and_then(Arc::into_inner);
        if stream.is_some_and(|stream| reserve.retire(stream)) {
            self.shared.wake();
        }
        connections.closed();
    }
}
