//! One io_uring with one ring of provided buffers, for one thread.
//!
//! In: operations, each with a token of its owner's choice. Out: [`Event`]s, typed, in the order of
//! completion. Owns the kernel ring, the buffers ([`Pool`]) and the address that its sockets connect
//! to; so every operation's memory outlives the operation. Never schedules, never keeps sockets, never calls back.
//!
//! One [`Ring::turn`] is one `io_uring_enter(2)`: submit what was queued, wait for one completion.
//! With `IORING_SETUP_DEFER_TASKRUN` completions are posted only inside that call, so what a turn
//! leaves to reap is exactly what it found.
#![allow(unsafe_code)]

mod pool;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{
    CompletionQueue, EnterFlags, IoUring, SubmissionQueue, Submitter, cqueue, opcode,
    squeue::Entry, squeue::Flags,
};
use socket2::SockAddr;

use self::pool::Pool;

const SUBMISSION_ENTRIES: u32 = 512;
/// Several times the operations in flight: an overflowing completion queue costs an allocation each.
const COMPLETION_ENTRIES: u32 = 8192;
const BUFFER_GROUP: u16 = 0;
/// Chunks that one send takes at most.
pub(crate) const GATHER_MAX: usize = 64;
/// A round ends every operation that can be cancelled; the second finds none.
const DRAIN_ROUNDS: u32 = 16;
const TOKEN_BITS: u32 = 56;

/// How many receive buffers a ring has, how long each is, and where its sockets connect to.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// A power of two, at most 32,768.
    pub(crate) buffers: u16,
    /// Bytes.
    pub(crate) buffer_len: u32,
    pub(crate) peer: SocketAddr,
}

/// What [`Ring`] borrows from: the kernel's ring, and the memory that the kernel reads and writes.
pub(crate) struct Kernel {
    // Fields drop in order: the ring goes before the memory that it uses.
    uring: IoUring,
    pool: Pool,
    peer: SockAddr,
}

impl Kernel {
    pub(crate) fn new(shape: Shape) -> io::Result<Self> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_clamp()
            .setup_no_sqarray()
            .setup_cqsize(COMPLETION_ENTRIES)
            .build(SUBMISSION_ENTRIES)?;
        let pool = Pool::new(shape.buffers, shape.buffer_len)?;
        // SAFETY: the pool's first page holds `buffers` entries, stays mapped until `pool` drops,
        // and `uring` drops before it.
        unsafe {
            uring.submitter().register_buf_ring_with_flags(
                pool.entries_address(),
                shape.buffers,
                BUFFER_GROUP,
                0,
            )?;
        }
        Ok(Self { uring, pool, peer: shape.peer.into() })
    }

    /// # Errors
    /// The ring's own fd could not be registered with the calling thread.
    pub(crate) fn ring(&mut self) -> io::Result<Ring<'_>> {
        let (mut submitter, submission, completion) = self.uring.split();
        // The index is remembered by this `Submitter` alone, so the same one serves for good.
        submitter.register_ring_fd()?;
        Ok(Ring {
            submitter,
            submission,
            completion,
            pool: &mut self.pool,
            peer: &self.peer,
            gathers: Vec::new(),
            gathers_used: 0,
            turns: 0,
            completions: 0,
        })
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // Cancelled operations end in task work, which runs in an enter that gets events. When no
        // operation is left to cancel, nothing can write to the pool any more.
        let submitter = self.uring.submitter();
        for _ in 0..DRAIN_ROUNDS {
            if submitter.register_sync_cancel(None, CancelBuilder::any()).is_err() {
                break;
            }
            // SAFETY: without an argument the call involves no memory of ours.
            let _ = unsafe { submitter.enter::<()>(0, 0, EnterFlags::GETEVENTS.bits(), None) };
        }
    }
}

/// Received bytes in a buffer of the pool. Goes back by [`Ring::release`].
#[must_use = "a chunk that is not released is lost to the pool"]
pub(crate) struct Chunk {
    buffer: u16,
    pub(crate) len: u32,
}

pub(crate) enum Received {
    Bytes(Chunk),
    /// The peer's FIN.
    End,
    /// No buffer was free (`ENOBUFS`). Nothing is lost: arm the receive again when some are.
    Starved,
    Failed(io::Error),
}

pub(crate) enum Event {
    /// `more` tells, here and below, that the operation is still armed.
    Accepted {
        socket: io::Result<OwnedFd>,
        more: bool,
    },
    Connected {
        token: u64,
        result: io::Result<()>,
    },
    Received {
        token: u64,
        received: Received,
        more: bool,
    },
    Sent {
        token: u64,
        result: io::Result<u32>,
    },
    Elapsed,
    /// Standard input reached its end.
    InputClosed,
}

/// The kind of an operation, in the top byte of its user data.
#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
enum Kind {
    /// Posts a completion only when it fails, which is of no interest.
    Silent = 0,
    Accept,
    Connect,
    Receive,
    Send,
    Timer,
    Input,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Silent,
        Self::Accept,
        Self::Connect,
        Self::Receive,
        Self::Send,
        Self::Timer,
        Self::Input,
    ];

    fn user_data(self, token: u64) -> u64 {
        debug_assert!(token >> TOKEN_BITS == 0);
        (self as u64) << TOKEN_BITS | token
    }
}

pub(crate) struct Ring<'k> {
    submitter: Submitter<'k>,
    submission: SubmissionQueue<'k>,
    completion: CompletionQueue<'k>,
    pool: &'k mut Pool,
    peer: &'k SockAddr,
    /// Headers of gathering sends; the kernel copies them while submitting, after which they serve
    /// again. The first `gathers_used` belong to submissions that are still queued.
    #[allow(clippy::vec_box, reason = "queued submissions point to them")]
    gathers: Vec<Box<Gather>>,
    gathers_used: usize,
    /// `io_uring_enter` calls that waited.
    pub(crate) turns: u64,
    pub(crate) completions: u64,
}

impl Ring<'_> {
    /// Submits everything queued and waits for one completion.
    pub(crate) fn turn(&mut self) -> io::Result<()> {
        self.pool.publish();
        self.turns += 1;
        self.enter(1)
    }

    /// A turn that ends after `limit` even if nothing completes.
    pub(crate) fn turn_within(&mut self, limit: Duration) -> io::Result<()> {
        self.pool.publish();
        self.turns += 1;
        let limit = Timespec::from(limit);
        self.enter_until(1, Some(&limit))
    }

    fn enter(&mut self, wanted: usize) -> io::Result<()> {
        self.enter_until(wanted, None)
    }

    fn enter_until(&mut self, wanted: usize, limit: Option<&Timespec>) -> io::Result<()> {
        self.submission.sync();
        // The kernel counts unreaped completions as the wait's result: show it what was reaped.
        self.completion.sync();
        loop {
            let entered = match limit {
                Some(limit) => {
                    let arguments = SubmitArgs::new().timespec(limit);
                    self.submitter.submit_with_args(wanted, &arguments)
                }
                None => self.submitter.submit_and_wait(wanted),
            };
            match entered {
                Ok(_) => break,
                Err(error) if error.raw_os_error() == Some(libc::ETIME) => break,
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                // Completions wait in the overflow list: reap first.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => break,
                Err(error) => return Err(error),
            }
        }
        self.submission.sync();
        self.completion.sync();
        if self.submission.is_empty() {
            self.gathers_used = 0;
        }
        Ok(())
    }

    /// The next completion of the last turn.
    pub(crate) fn next(&mut self) -> Option<Event> {
        loop {
            let entry = self.completion.next()?;
            self.completions += 1;
            let token = entry.user_data() & ((1 << TOKEN_BITS) - 1);
            let more = cqueue::more(entry.flags());
            let result = match entry.result() {
                error @ ..0 => Err(io::Error::from_raw_os_error(-error)),
                value => Ok(value as u32),
            };
            return Some(match Kind::ALL[(entry.user_data() >> TOKEN_BITS) as usize] {
                Kind::Silent => continue,
                Kind::Accept => Event::Accepted {
                    // SAFETY: an accept's completion carries a new fd that nobody else owns.
                    socket: result.map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) }),
                    more,
                },
                Kind::Connect => Event::Connected { token, result: result.map(drop) },
                Kind::Receive => {
                    Event::Received { token, received: self.received(&entry, result), more }
                }
                Kind::Send => Event::Sent { token, result },
                Kind::Timer => Event::Elapsed,
                Kind::Input => Event::InputClosed,
            });
        }
    }

    fn received(&mut self, entry: &cqueue::Entry, result: io::Result<u32>) -> Received {
        match (result, cqueue::buffer_select(entry.flags())) {
            (Ok(len), Some(buffer)) => {
                self.pool.take();
                Received::Bytes(Chunk { buffer, len })
            }
            (Ok(_), None) => Received::End,
            (Err(error), _) if error.raw_os_error() == Some(libc::ENOBUFS) => Received::Starved,
            (Err(error), _) => Received::Failed(error),
        }
    }

    /// Accepts for as long as the operation stays armed.
    pub(crate) fn accept(&mut self, listener: BorrowedFd<'_>) {
        let accept = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).flags(libc::SOCK_CLOEXEC);
        // SAFETY: no memory is involved.
        unsafe { self.push(accept.build(), Kind::Accept, 0) }
    }

    /// Connects to the ring's peer.
    pub(crate) fn connect(&mut self, socket: BorrowedFd<'_>, token: u64) {
        let (address, len) = (self.peer.as_ptr().cast(), self.peer.len());
        let connect = opcode::Connect::new(Fd(socket.as_raw_fd()), address, len);
        // SAFETY: the address is owned by `Kernel`, which outlives the kernel's ring.
        unsafe { self.push(connect.build(), Kind::Connect, token) }
    }

    /// Receives into the pool for as long as the operation stays armed.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>, token: u64) {
        let receive = opcode::RecvMulti::new(Fd(socket.as_raw_fd()), BUFFER_GROUP);
        // SAFETY: the kernel writes to buffers of the registered pool only, see `Kernel::new`.
        unsafe { self.push(receive.build(), Kind::Receive, token) }
    }

    /// As [`receive`](Self::receive), but the bytes are counted and dropped (`MSG_TRUNC`, tcp(7)):
    /// a sink that costs next to nothing. The chunks' contents are undefined.
    pub(crate) fn receive_discarding(&mut self, socket: BorrowedFd<'_>, token: u64) {
        let receive = opcode::RecvMulti::new(Fd(socket.as_raw_fd()), BUFFER_GROUP);
        // SAFETY: as in `receive`.
        unsafe { self.push(receive.flags(libc::MSG_TRUNC).build(), Kind::Receive, token) }
    }

    /// Sends all of a chunk. The caller keeps it, and releases it after [`Event::Sent`].
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>, chunk: &Chunk, token: u64) {
        let (buffer, len) = (self.pool.buffer(chunk.buffer), chunk.len);
        // SAFETY: the buffer is part of the pool, which outlives the kernel's ring.
        unsafe { self.push_send(socket, buffer, len, token) }
    }

    /// Sends all of several chunks, in order, up to [`GATHER_MAX`]. Otherwise as
    /// [`send`](Self::send).
    pub(crate) fn send_gathered<'c>(
        &mut self,
        socket: BorrowedFd<'_>,
        chunks: impl Iterator<Item = &'c Chunk>,
        token: u64,
    ) {
        if self.gathers_used == self.gathers.len() {
            self.gathers.push(Box::new(Gather::EMPTY));
        }
        let gather = &mut *self.gathers[self.gathers_used];
        self.gathers_used += 1;
        let mut count = 0;
        for (vector, chunk) in gather.vectors.iter_mut().zip(chunks) {
            vector.iov_base = self.pool.buffer(chunk.buffer).cast();
            vector.iov_len = chunk.len as usize;
            count += 1;
        }
        gather.header.msg_iov = gather.vectors.as_mut_ptr();
        gather.header.msg_iovlen = count;
        let send = opcode::SendMsg::new(Fd(socket.as_raw_fd()), &raw const gather.header)
            .flags((libc::MSG_NOSIGNAL | libc::MSG_WAITALL) as u32);
        // SAFETY: the header and its vectors stay until the kernel has copied them, see `gathers`;
        // the buffers are part of the pool, which outlives the kernel's ring.
        unsafe { self.push(send.build(), Kind::Send, token) }
    }

    /// Sends all of some bytes that live for ever.
    pub(crate) fn send_static(&mut self, socket: BorrowedFd<'_>, bytes: &'static [u8], token: u64) {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        // SAFETY: `bytes` is static and at least `len` long.
        unsafe { self.push_send(socket, bytes.as_ptr(), len, token) }
    }

    /// # Safety
    /// `len` bytes at `bytes` stay readable until the operation's completion.
    unsafe fn push_send(&mut self, socket: BorrowedFd<'_>, bytes: *const u8, len: u32, token: u64) {
        // With MSG_WAITALL the kernel itself goes on after a short send.
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let send = opcode::Send::new(Fd(socket.as_raw_fd()), bytes, len).flags(flags);
        // SAFETY: the caller's promise.
        unsafe { self.push(send.build(), Kind::Send, token) }
    }

    /// Cancels whatever is in flight on a socket; each operation still completes.
    pub(crate) fn cancel(&mut self, socket: BorrowedFd<'_>) {
        let on_socket = CancelBuilder::fd(Fd(socket.as_raw_fd())).all();
        let cancel = opcode::AsyncCancel2::new(on_socket).build().flags(Flags::SKIP_SUCCESS);
        // SAFETY: no memory is involved.
        unsafe { self.push(cancel, Kind::Silent, 0) }
    }

    /// Closes a socket on which nothing is in flight.
    pub(crate) fn close(&mut self, socket: impl Into<OwnedFd>) {
        let fd = Fd(socket.into().into_raw_fd());
        let close = opcode::Close::new(fd).build().flags(Flags::SKIP_SUCCESS);
        // SAFETY: no memory is involved, and the fd was given away by its owner.
        unsafe { self.push(close, Kind::Silent, 0) }
    }

    /// An [`Event::Elapsed`] after `delay`.
    pub(crate) fn timer(&mut self, delay: Duration) -> io::Result<()> {
        let delay = Timespec::from(delay);
        let timer = opcode::Timeout::new(&delay).build();
        // SAFETY: the kernel copies the time while submitting, which is done before it is dropped.
        unsafe { self.push(timer, Kind::Timer, 0) }
        self.enter(0)
    }

    /// An [`Event::InputClosed`] when standard input, a pipe that nobody writes to, ends.
    pub(crate) fn watch_input(&mut self) {
        let poll = opcode::PollAdd::new(Fd(0), (libc::POLLIN | libc::POLLHUP) as u32).build();
        // SAFETY: no memory is involved.
        unsafe { self.push(poll, Kind::Input, 0) }
    }

    /// # Safety
    /// Memory that the entry points to stays valid until the operation's completion.
    unsafe fn push(&mut self, entry: Entry, kind: Kind, token: u64) {
        let entry = entry.user_data(kind.user_data(token));
        // SAFETY: the caller's promise.
        while unsafe { self.submission.push(&entry) }.is_err() {
            // A failure here shows again, and is reported, in the turn that follows.
            let _ = self.enter(0);
        }
    }

    pub(crate) fn bytes(&self, chunk: &Chunk) -> &[u8] {
        // SAFETY: the kernel wrote `len` bytes and gave the buffer away until it is released,
        // which consumes the chunk.
        unsafe { std::slice::from_raw_parts(self.pool.buffer(chunk.buffer), chunk.len as usize) }
    }

    /// Gives a buffer back; the kernel sees it from the next turn on.
    pub(crate) fn release(&mut self, chunk: Chunk) {
        self.pool.add(chunk.buffer);
    }

    /// Buffers that receives can still take.
    pub(crate) fn free_buffers(&self) -> u16 {
        self.pool.free()
    }
}

impl Drop for Ring<'_> {
    fn drop(&mut self) {
        // A registered fd holds a reference that would keep the ring alive after its close.
        let _ = self.submitter.unregister_ring_fd();
    }
}

struct Gather {
    header: libc::msghdr,
    vectors: [libc::iovec; GATHER_MAX],
}

impl Gather {
    const EMPTY: Self = Self {
        header: libc::msghdr {
            msg_name: std::ptr::null_mut(),
            msg_namelen: 0,
            msg_iov: std::ptr::null_mut(),
            msg_iovlen: 0,
            msg_control: std::ptr::null_mut(),
            msg_controllen: 0,
            msg_flags: 0,
        },
        vectors: [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; GATHER_MAX],
    };
}
