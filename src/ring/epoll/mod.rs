//! The epoll driver: the shard's operations over readiness, where io_uring is refused.
//!
//! In: operations under tokens. Out: the completions that a ring would report. It owns the epoll
//! instance, one [`Watch`](watch::Watch) for each slot that has a socket, and the eventfd that is its doorbell. It
//! never blocks but in `epoll_wait`, never owns the memory of an operation, and needs nothing that
//! a container's seccomp profile refuses: epoll, accept4, eventfd, and the calls on sockets
//! themselves.
//!
//! **Registration.** A socket is added to the epoll instance once in its life, edge-triggered, when
//! first an operation has to wait for it; adding reports what is there already. What an edge said
//! is kept in the watch until a call finds nothing more. Whether there is room to send is asked for
//! with the first send that found none: most sockets never do.
//!
//! **Receiving.** An armed receive is an interest and holds no buffer. When bytes are there, a buffer
//! is taken from the shard's pool and filled, and travels on as a completion, until the socket is
//! empty, the receive's limit is reached, or the socket has had its share of the turn ([`SHARE`]).
//! What is left is received in the next turn, which does not sleep, after all others had theirs.
//! A buffer that was not filled means that the socket is empty: the next bytes raise an edge. Only
//! behind an end, an error or urgent data there may be more without one, so these are read up to
//! where nothing is left. (On a unix socket, descriptors that a peer passes end a read early, too;
//! the bytes behind them are received with the next arrival.)
//!
//! **Sending** is tried at once, when it is started. What the socket does not take leaves when
//! there is room; the completion comes when all is sent, as from a ring.
//!
//! **Errors.** A watch for errors needs no call: epoll reports them for each socket it knows.
//!
//! **A turn** asks epoll what is ready, serves the sockets that are due, in order, and reports what
//! completed. A turn that has something to report already (sends that were tried in the tasks that
//! started them) does not ask, every second time at most, so that a request costs one
//! `epoll_wait` and not two.
//!
//! **Sockets in either mode.** Connected sockets are in blocking mode where they were accepted, and
//! each call says that it must not block. Connecting and accepting have no such flag, so a
//! listening socket is made non-blocking, for all who share it, and so is one that connects.
//!
//! **Descriptor numbers.** A closed socket leaves the epoll instance by itself, unless somebody
//! holds a duplicate. What epoll still says of such a one names a use of the slot that is over
//! ([`Key::generation`]) and is passed over. Listening sockets do have duplicates, and are taken
//! out when accepting stops.
//!
//! **Kernel floor.** The newest calls that the driver makes are from before Linux 3.2, which Rust's
//! standard library needs anyway; versions are those of the man pages:
//!
//! | call | since |
//! |---|---|
//! | `epoll_create1`, `eventfd2` | 2.6.27 |
//! | `accept4` | 2.6.28 |
//! | `epoll_pwait`, milliseconds | 2.6.19 |
//! | EPOLLRDHUP | 2.6.17 |
//!
//! Neither `epoll_pwait2` (5.11) nor EPOLLEXCLUSIVE (4.5) is used.

mod doorbell;
mod outgoing;
#[cfg(test)]
mod tests;
mod transfer;
mod watch;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
};

use self::{
    doorbell::Bell,
    outgoing::Outgoing,
    watch::{State, Watches},
};
use super::{
    buffers::Pool,
    driver::{
        Completion, Doorbell, Driver, Key, Kind, Nanoseconds, Operation, Token, Wait, nanoseconds,
    },
};
use crate::sys::dial::{self, DialError, Mode, UpstreamOptions};

/// What a socket may receive in a turn: bytes in small buffers, or one large buffer.
const SHARE: u32 = 64 << 10;
/// Connections that a listening socket may accept in a turn.
const ACCEPTS: usize = 64;
/// Events that one call brings; more are brought by the next one.
const EVENTS: usize = 256;
/// What epoll calls the doorbell: no slot has this index and generation.
const DOORBELL: u64 = u64::MAX;
/// The longest sleep, in nanoseconds. epoll counts milliseconds in 31 bits.
const LONGEST: Nanoseconds = 3_600_000_000_000;

pub(crate) struct EpollDriver {
    epoll: OwnedFd,
    bell: Arc<Bell>,
    pools: Vec<Rc<Pool>>,
    watches: Watches,
    /// The sends that wait for room, by the index of their slots.
    sending: HashMap<u32, Outgoing>,
    /// Slots whose sockets are to be served, each once, in order.
    due: Vec<u32>,
    /// Those of the turn under way; its memory is used again.
    serving: Vec<u32>,
    /// What completed since the last turn.
    done: Vec<Completion>,
    events: Vec<Event>,
    /// The last turn did not ask for events.
    looked_away: bool,
    epoch: Instant,
}

impl EpollDriver {
    /// Makes the driver of the calling thread, which receives into these pools.
    pub(crate) fn new(pools: &[Rc<Pool>]) -> io::Result<EpollDriver> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let bell = Arc::new(Bell::new()?);
        // Each ring of an eventfd is an edge, so that nobody has to read what it counts.
        let edge = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, bell.eventfd(), EventData::new_u64(DOORBELL), edge)?;
        Ok(EpollDriver {
            epoll,
            bell,
            pools: pools.to_vec(),
            watches: Watches::default(),
            sending: HashMap::new(),
            due: Vec::new(),
            serving: Vec::new(),
            done: Vec::new(),
            events: Vec::with_capacity(EVENTS),
            looked_away: false,
            epoch: Instant::now(),
        })
    }

    /// Lets the operation wait for its socket, or ends it where that cannot be.
    fn wait_for_edge(&mut self, key: Key, kind: Kind, interest: EventFlags) {
        let Some(watch) = self.watches.get(key) else { return };
        if let Err(error) = watch.register(&self.epoll, key, interest) {
            watch.disarm(kind);
            if kind == Kind::Send {
                self.sending.remove(&key.index);
            }
            self.finish(Token::new(key, kind), -error.raw_os_error().unwrap_or(libc::EIO));
        }
    }

    /// Serves the slot in the coming turn, without an event.
    fn make_due(&mut self, key: Key) {
        if let Some(watch) = self.watches.get(key)
            && watch.state.insert_new(State::LISTED)
        {
            self.due.push(key.index);
        }
    }

    fn finish(&mut self, token: Token, result: i32) {
        self.done.push(Completion { token, result, buffer: None, more: false });
    }

    fn start_connect(&mut self, key: Key, fd: BorrowedFd<'_>, address: &socket2::SockAddr) {
        let token = Token::new(key, Kind::Connect);
        match socket2::SockRef::from(&fd).connect(address) {
            Ok(()) => self.finish(token, 0),
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
                self.watches.of(key, fd.as_raw_fd()).arm(Kind::Connect);
                self.wait_for_edge(key, Kind::Connect, EventFlags::OUT);
            }
            Err(error) => self.finish(token, -error.raw_os_error().unwrap_or(libc::EIO)),
        }
    }

    fn start_accept(&mut self, key: Key, fd: BorrowedFd<'_>) {
        if let Err(error) = rustix::io::ioctl_fionbio(fd, true) {
            return self.finish(Token::new(key, Kind::Accept), -error.raw_os_error());
        }
        self.watches.of(key, fd.as_raw_fd()).arm(Kind::Accept);
        self.wait_for_edge(key, Kind::Accept, EventFlags::empty());
        // After an error there may be more in the queue, of which no new edge tells.
        self.make_due(key);
    }

    /// Sends at once, and waits for room with what cannot be sent now.
    fn start_send(&mut self, key: Key, fd: BorrowedFd<'_>, mut outgoing: Outgoing) {
        if let Some(result) = outgoing.send(fd) {
            return self.finish(Token::new(key, Kind::Send), result);
        }
        let watch = self.watches.of(key, fd.as_raw_fd());
        watch.arm(Kind::Send);
        watch.state.remove(State::WRITABLE);
        self.sending.insert(key.index, outgoing);
        self.wait_for_edge(key, Kind::Send, EventFlags::OUT);
    }

    fn go_on_sending(&mut self, key: Key) {
        let Some(watch) = self.watches.get(key) else { return };
        if !watch.is_armed(Kind::Send) || !watch.state.has(State::WRITABLE) {
            return;
        }
        watch.state.remove(State::WRITABLE);
        let outgoing = self.sending.get_mut(&key.index);
        if let Some(result) = outgoing.and_then(|outgoing| outgoing.send(watch.socket())) {
            watch.disarm(Kind::Send);
            self.sending.remove(&key.index);
            self.finish(Token::new(key, Kind::Send), result);
        }
    }

    fn start_poll(&mut self, key: Key) {
        self.wait_for_edge(key, Kind::Poll, EventFlags::empty());
        let Some(watch) = self.watches.get(key) else { return };
        if watch.state.has(State::BROKEN) {
            // It is news to this poll, though another one may have told of it.
            watch.state.insert(State::BROKEN_NEWS);
            self.make_due(key);
        }
    }

    fn start_receive(&mut self, key: Key) {
        self.wait_for_edge(key, Kind::Receive, EventFlags::empty());
        if self.watches.get(key).is_some_and(|watch| watch.state.has(State::READABLE)) {
            self.make_due(key);
        }
    }

    /// Asks epoll what is ready, and notes it.
    fn look(&mut self, wait: Wait) -> io::Result<()> {
        let timeout = match wait {
            Wait::Forever => None,
            Wait::No => Some(Timespec::default()),
            Wait::Until(deadline) => {
                let left = deadline.saturating_sub(self.now()).min(LONGEST);
                let (seconds, rest) = (left / 1_000_000_000, left % 1_000_000_000);
                Some(Timespec { tv_sec: seconds as i64, tv_nsec: rest as _ })
            }
        };
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &self.events {
            let key = watch::key_of(event.data);
            // A doorbell ends the sleep; what it was rung for lies in a queue.
            if let Some(watch) = self.watches.get(key) {
                watch.note(event.flags);
                if watch.state.insert_new(State::LISTED) {
                    self.due.push(key.index);
                }
            }
        }
        Ok(())
    }

    fn serve_due(&mut self, completions: &mut Vec<Completion>) {
        std::mem::swap(&mut self.due, &mut self.serving);
        let mut serving = std::mem::take(&mut self.serving);
        for index in serving.drain(..) {
            let Some(key) = self.watches.key(index) else { continue };
            self.go_on_sending(key);
            let Some(watch) = self.watches.get(key) else { continue };
            watch.state.remove(State::LISTED);
            watch.serve(key, &self.pools, completions);
            if watch.is_due() && watch.state.insert_new(State::LISTED) {
                self.due.push(index);
            }
        }
        self.serving = serving;
    }
}

impl Driver for EpollDriver {
    fn start(&mut self, token: Token, fd: BorrowedFd<'_>, operation: Operation) {
        let key = token.key();
        let number = fd.as_raw_fd();
        match operation {
            Operation::Accept => self.start_accept(key, fd),
            Operation::Connect { address } => {
                // SAFETY: as `Operation` demands, the slot owns the address until the connect has
                // completed, and changes nothing of it.
                let address = unsafe { &*address };
                self.start_connect(key, fd, address);
            }
            // Whether bytes are there already is known, or told by adding the socket.
            Operation::Receive { pool, limit, wait_first: _ } => {
                self.watches.of(key, number).arm_receive(pool, limit);
                self.start_receive(key);
            }
            Operation::Send { pointer, length, .. } => {
                self.start_send(key, fd, Outgoing::bytes(pointer, length));
            }
            Operation::SendVectored { message, .. } => {
                self.start_send(key, fd, Outgoing::message(message));
            }
            Operation::PollBroken => {
                self.watches.of(key, number).arm(Kind::Poll);
                self.start_poll(key);
            }
        }
    }

    fn cancel(&mut self, token: Token) {
        let Some(kind) = token.kind() else { return };
        let Some(watch) = self.watches.get(token.key()) else { return };
        if !watch.is_armed(kind) {
            return;
        }
        let mut result = -libc::ECANCELED;
        if kind == Kind::Send
            && let Some(outgoing) = self.sending.remove(&token.key().index)
        {
            result = outgoing.cancelled();
        }
        if kind == Kind::Accept {
            watch.unregister(&self.epoll);
        }
        watch.disarm(kind);
        self.finish(token, result);
    }

    fn close(&mut self, fd: OwnedFd) {
        drop(fd);
    }

    fn ring(&mut self, _: Token, doorbell: &dyn Doorbell) -> io::Result<()> {
        doorbell.ring()
    }

    fn doorbell(&self) -> Arc<dyn Doorbell> {
        Arc::<Bell>::clone(&self.bell)
    }

    fn turn(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        let busy = !self.done.is_empty() || !self.due.is_empty();
        self.looked_away = busy && !self.looked_away;
        if !self.looked_away {
            self.look(if busy { Wait::No } else { wait })?;
        }
        self.serve_due(completions);
        completions.append(&mut self.done);
        Ok(())
    }

    fn now(&self) -> Nanoseconds {
        nanoseconds(self.epoch.elapsed())
    }

    fn limits_receives(&self) -> bool {
        true
    }

    fn socket(
        &mut self,
        destination: SocketAddr,
        options: &UpstreamOptions,
    ) -> Result<OwnedFd, DialError> {
        dial::upstream_socket(destination, options, Mode::Nonblocking)
    }
}
