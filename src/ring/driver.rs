//! The seam between a shard and whatever carries out its operations.
//!
//! Above it stand the slots (`slots.rs`), which own every buffer and file descriptor that an
//! operation uses until its last completion. Below it stands a driver: io_uring (`uring/`), epoll
//! where that is refused (`epoll/`), or the in-memory network of the tests (`simulated/`). A driver is told to start and to cancel
//! operations, and once a turn it reports what completed. It never owns the memory of an
//! operation, never wakes a task and knows nothing of protocols, so that a driver over another
//! mechanism is a file of its own and nothing else changes.

use std::{
    io,
    net::SocketAddr,
    os::fd::{BorrowedFd, OwnedFd},
    time::Duration,
};

use crate::sys::{
    delivery::{Delivery, delivery},
    dial::{self, DialError, UpstreamOptions},
};

/// Nanoseconds on a driver's own clock, which starts at some point before its first turn.
pub(crate) type Nanoseconds = u64;

/// What kind of operation a [`Token`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Accept = 1,
    Connect = 2,
    Receive = 3,
    Send = 4,
    /// The watch over a socket that has no receive armed to tell of its end.
    Poll = 5,
    /// An operation that an embedder brought.
    Custom = 6,
    /// The cancellation of another operation; reported only where it found nothing to cancel.
    Cancel = 7,
    /// The end of a descriptor that no operation used any longer.
    Close = 8,
    /// Somebody on another thread rang.
    Doorbell = 9,
    /// A doorbell of ours on another thread could not be rung.
    Ring = 10,
}

impl Kind {
    fn from_bits(bits: u8) -> Option<Kind> {
        Some(match bits {
            1 => Kind::Accept,
            2 => Kind::Connect,
            3 => Kind::Receive,
            4 => Kind::Send,
            5 => Kind::Poll,
            6 => Kind::Custom,
            7 => Kind::Cancel,
            8 => Kind::Close,
            9 => Kind::Doorbell,
            10 => Kind::Ring,
            _ => return None,
        })
    }
}

/// The slot that an operation belongs to, in one particular use of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) index: u32,
    /// 24 bits are in use. A slot is given out again only when nothing of its last use is in
    /// flight, so a generation guards against mistakes, not against the kernel.
    pub(crate) generation: u32,
}

/// Names an operation to the driver and back: `index << 32 | generation << 8 | kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Token(pub(crate) u64);

impl Token {
    /// Tokens of operations that belong to no slot.
    pub(crate) const CANCEL: Token = Token(Kind::Cancel as u64);
    pub(crate) const CLOSE: Token = Token(Kind::Close as u64);
    pub(crate) const DOORBELL: Token = Token(Kind::Doorbell as u64);

    pub(crate) fn new(key: Key, kind: Kind) -> Token {
        debug_assert!(key.generation <= Self::GENERATION_MAX);
        Token(u64::from(key.index) << 32 | u64::from(key.generation) << 8 | kind as u64)
    }

    pub(crate) const GENERATION_MAX: u32 = (1 << 24) - 1;

    pub(crate) fn key(self) -> Key {
        Key {
            index: (self.0 >> 32) as u32,
            generation: (self.0 >> 8) as u32 & Self::GENERATION_MAX,
        }
    }

    /// `None` for a token that no driver of ours was ever given.
    pub(crate) fn kind(self) -> Option<Kind> {
        Kind::from_bits(self.0 as u8)
    }
}

/// An operation on a socket, as a driver is asked for it.
///
/// Pointers stay valid until the driver has reported the last completion of the operation: the
/// slot that the token names owns what they point to, and does not move it.
#[derive(Debug)]
pub(crate) enum Operation {
    /// Accepts until cancelled; each completion carries one descriptor, in blocking mode.
    Accept,
    /// Connects to an address.
    Connect { address: *const socket2::SockAddr },
    /// Receives into buffers of the driver's pools until cancelled, the end of the stream, an
    /// error or, where the driver can, `limit` bytes in all. Each completion carries one buffer.
    Receive { pool: u16, limit: u32, wait_first: bool },
    /// Sends all of it, or reports how much was sent before an error or a cancellation. With
    /// `at_once` a driver may send no more than the socket takes now, which is reported, or is
    /// `-EAGAIN` where it takes nothing; see [`Driver::await_sends`].
    Send { pointer: *const u8, length: u32, at_once: bool },
    /// The same for several pieces.
    SendVectored { message: *const libc::msghdr, length: u32, at_once: bool },
    /// Completes with `poll(2)` events whenever an error or a hang-up appears on the socket, until
    /// cancelled. Other events may come along, and alone.
    PollBroken,
}

impl Operation {
    /// How many bytes it sends, if it is a send with `at_once`.
    pub(crate) fn at_once(&self) -> Option<u32> {
        match self {
            Operation::Send { length, at_once: true, .. }
            | Operation::SendVectored { length, at_once: true, .. } => Some(*length),
            _ => None,
        }
    }
}

/// One completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Completion {
    pub(crate) token: Token,
    /// A count or a descriptor, or a negative error number.
    pub(crate) result: i32,
    /// The buffer that a receive filled.
    pub(crate) buffer: Option<u16>,
    /// Whether the operation goes on: its slot must live for at least one more completion.
    pub(crate) more: bool,
}

/// How long a turn may wait for a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not at all: there is other work.
    No,
    /// Until this time at most.
    Until(Nanoseconds),
    /// Until something completes.
    Forever,
}

/// Rings another thread's driver out of its sleep. It carries nothing: what is to be done lies in
/// a queue that both sides share.
pub(crate) trait Doorbell: Send + Sync {
    /// Rings by a system call of its own, from any thread.
    ///
    /// # Errors
    /// It did not ring, for want of memory for instance, and may when it is tried again. That nobody
    /// is there any more to be woken is no error.
    fn ring(&self) -> io::Result<()>;
    /// The descriptor of the ring that sleeps, where a driver of the same kind can ring it along
    /// with its next turn, saving the system call.
    fn ring_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// What carries out a shard's operations. All methods are called by the shard's own thread.
pub(crate) trait Driver {
    /// Starts an operation. It reports at least one completion under `token`, the last of them
    /// with `more` unset. Never blocks and never fails: a driver that cannot take the operation
    /// now queues it, and errors come as completions.
    fn start(&mut self, token: Token, fd: BorrowedFd<'_>, operation: Operation);

    /// Somebody waits for the end of a send. Where this is not said between two turns, the second
    /// of them may go on waiting though sends with `at_once` have sent all they were to.
    fn await_sends(&mut self) {}

    /// Asks for the end of an operation. Its own completion still comes: cancelled, or with the
    /// result that it had before.
    fn cancel(&mut self, token: Token);

    /// Closes a descriptor that no operation uses any longer.
    fn close(&mut self, fd: OwnedFd);

    /// Rings a doorbell at the next turn. Where it does not ring, a completion under `token` says so,
    /// with a negative error number; where it does, none comes.
    ///
    /// # Errors
    /// It was tried at once, and did not ring.
    fn ring(&mut self, token: Token, doorbell: &dyn Doorbell) -> io::Result<()>;

    /// The doorbell of this driver.
    fn doorbell(&self) -> std::sync::Arc<dyn Doorbell>;

    /// Hands over what was started, waits as told, and appends what completed. Reports nothing
    /// twice. An error means that the driver is unusable, and so the shard.
    fn turn(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()>;

    /// The time of this driver's clock, now.
    fn now(&self) -> Nanoseconds;

    /// Whether `limit` of a receive is kept. Where it is not, the slots cancel a receive that has
    /// used up its credit.
    fn limits_receives(&self) -> bool;

    /// How often completions had to be kept aside because the completion queue was full.
    fn overflows(&self) -> u64 {
        0
    }

    /// Starts an operation of an embedder's own; refused by drivers that are no ring.
    fn start_custom(
        &mut self,
        token: Token,
        entry: io_uring::squeue::Entry,
    ) -> Result<(), io_uring::squeue::Entry> {
        let _ = token;
        Err(entry)
    }

    /// Makes an unconnected socket for `destination`.
    fn socket(
        &mut self,
        destination: SocketAddr,
        options: &UpstreamOptions,
    ) -> Result<OwnedFd, DialError>;

    // Plain calls on sockets, which never block. They are here because a simulated socket has to
    // answer them too.

    /// Ends the sending direction: the peer reads the end of the stream after what was sent.
    fn shutdown_write(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        // An operation of a ring's would go to a worker thread.
        Ok(rustix::net::shutdown(fd, rustix::net::Shutdown::Write)?)
    }
    /// Makes the close of the socket a reset.
    fn reset_on_close(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        dial::set_linger_zero(fd)
    }
    fn local_address(&self, fd: BorrowedFd<'_>) -> io::Result<socket2::SockAddr> {
        socket2::SockRef::from(&fd).local_addr()
    }
    fn peer_address(&self, fd: BorrowedFd<'_>) -> io::Result<socket2::SockAddr> {
        socket2::SockRef::from(&fd).peer_addr()
    }
    /// How far the peer has taken what was sent.
    fn delivery(&self, fd: BorrowedFd<'_>) -> io::Result<Delivery> {
        delivery(fd)
    }
}

/// A duration in nanoseconds; more than 584 years is for ever.
pub(crate) fn nanoseconds(duration: Duration) -> Nanoseconds {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
