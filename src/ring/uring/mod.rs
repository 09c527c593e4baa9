//! The io_uring driver: one ring, used by one thread.
//!
//! **A turn** is one `io_uring_enter`: it lends buffers, hands over everything that was started
//! since the last turn, waits for one completion at least (or not at all, where the shard has
//! other work), and takes all completions that are there. The ring's descriptor is registered, so
//! that the call need not look it up.
//!
//! **Flags.** SINGLE_ISSUER and DEFER_TASKRUN: completions are produced only inside our own enter,
//! in batches and without interrupts, and so must be asked for with GETEVENTS at every turn.
//! SUBMIT_ALL: an entry that fails completes with its error and does not hold up the others.
//! R_DISABLED: the ring is restricted to the operations that it needs before it can be used.
//!
//! **A full submission queue** is no error: entries wait in `backlog`, in order, and the turn hands
//! them over in several calls. Cancellations go the same way, so none is ever dropped.
//!
//! **A full completion queue** loses nothing (IORING_FEAT_NODROP): the kernel keeps completions
//! aside and the next enter brings them in. It is counted.

mod at_once;
mod buffer_ring;
mod capabilities;
mod doorbell;
mod entry;
mod setup;

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd},
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use io_uring::{IoUring, cqueue, opcode, squeue, types};

pub(super) use self::entry::ties_to_others;
use self::{
    at_once::{SLEEP, SendsAtOnce},
    buffer_ring::BufferRing,
    doorbell::RingDoorbell,
    entry::{with_poll_first, with_receive_limit},
};
pub use self::{
    capabilities::Capabilities,
    setup::{Restrictions, RingRefused},
};
use super::{
    buffers::Pool,
    driver::{
        Completion, Doorbell, Driver, Kind, Nanoseconds, Operation, Token, Wait, nanoseconds,
    },
};
use crate::sys::dial::{self, DialError, Mode, UpstreamOptions};

/// The token of the poll that watches the eventfd of [`RingDoorbell`].
const EVENTFD: Token = Token(1 << 32 | Kind::Doorbell as u64);

pub(crate) struct RingDriver {
    // Dropped only when nothing is in flight (`reactor/mod.rs`): the kernel then uses none of what
    // is named here, though a doorbell elsewhere may keep the ring open.
    ring: IoUring,
    buffers: Vec<BufferRing>,
    /// The ring's descriptor, or its index among the thread's registered rings.
    enter_fd: RawFd,
    enter_flags: u32,
    /// Entries in the submission queue that the kernel has not taken yet.
    pending: u32,
    /// Entries that were put into the submission queue, ever.
    pushed: u64,
    at_once: SendsAtOnce,
    backlog: VecDeque<squeue::Entry>,
    doorbell: Arc<RingDoorbell>,
    capabilities: Capabilities,
    overflows: u64,
    /// A receive of the last turn found no buffer in its ring.
    ran_out: bool,
    epoch: Instant,
}

impl RingDriver {
    /// Makes the ring of the calling thread, with a buffer group for each pool.
    pub(crate) fn new(
        capabilities: Capabilities,
        restrictions: &Restrictions,
        pools: &[Rc<Pool>],
    ) -> Result<RingDriver, RingRefused> {
        let failed = |doing: &'static str| {
            move |error: io::Error| match error.raw_os_error().unwrap_or(libc::EIO) {
                libc::ENOMEM => RingRefused::locked_memory(),
                error => RingRefused::Other { doing, error },
            }
        };
        let ring = setup::build(capabilities)?;
        let buffers = (0..)
            .zip(pools)
            .map(|(group, pool)| BufferRing::register(&ring, group, Rc::clone(pool)))
            .collect::<io::Result<Vec<_>>>()
            .map_err(failed("registering a buffer ring (IORING_REGISTER_PBUF_RING)"))?;
        restrictions
            .apply(&ring)
            .map_err(failed("restricting the ring (IORING_REGISTER_RESTRICTIONS)"))?;
        ring.submitter()
            .register_enable_rings()
            .map_err(failed("enabling the ring (IORING_REGISTER_ENABLE_RINGS)"))?;
        let eventfd = if capabilities.message_without_ring {
            None
        } else {
            let flags =
                rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
            let eventfd = rustix::event::eventfd(0, flags);
            Some(eventfd.map_err(|error| failed("making an eventfd")(error.into()))?)
        };
        // SAFETY: `ring` keeps its descriptor open until after this borrow's last use, below.
        let ring_fd = unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) };
        let duplicate =
            ring_fd.try_clone_to_owned().map_err(failed("duplicating the ring's descriptor"))?;
        let (enter_fd, registered) = match register_ring(ring_fd) {
            Ok(index) => (index, sys::ENTER_REGISTERED_RING),
            Err(_) => (ring_fd.as_raw_fd(), 0),
        };
        let no_io_wait = if capabilities.no_io_wait { sys::ENTER_NO_IOWAIT } else { 0 };
        let mut driver = RingDriver {
            ring,
            buffers,
            enter_fd,
            enter_flags: sys::ENTER_GETEVENTS | sys::ENTER_EXT_ARG | registered | no_io_wait,
            pending: 0,
            pushed: 0,
            at_once: SendsAtOnce::default(),
            backlog: VecDeque::new(),
            doorbell: Arc::new(RingDoorbell { ring: duplicate, eventfd }),
            capabilities,
            overflows: 0,
            ran_out: false,
            epoch: Instant::now(),
        };
        driver.watch_eventfd();
        Ok(driver)
    }

    fn watch_eventfd(&mut self) {
        if let Some(eventfd) = &self.doorbell.eventfd {
            let entry = opcode::PollAdd::new(types::Fd(eventfd.as_raw_fd()), libc::POLLIN as u32)
                .multi(true)
                .build()
                .user_data(EVENTFD.0);
            self.push(entry);
        }
    }

    fn push(&mut self, entry: squeue::Entry) {
        if !self.backlog.is_empty() || !self.push_now(&entry) {
            self.backlog.push_back(entry);
        }
    }

    fn push_now(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: what an entry points to stays where it is until the last completion of the
        // operation. For operations of sockets `Operation` demands that of the slots, which free
        // nothing before; for an embedder's, `CustomOperation` demands it of the implementor, whom
        // the slot keeps as long. The others (cancel, close, doorbell, the poll of the eventfd) point
        // to no memory.
        let pushed = unsafe { self.ring.submission().push(entry) }.is_ok();
        self.pending += u32::from(pushed);
        self.pushed += u64::from(pushed);
        pushed
    }

    /// Starts a send that is over when it has been handed over, and silent, if there is room for it:
    /// entries of the backlog keep no count.
    fn push_at_once(&mut self, entry: &squeue::Entry, token: Token, length: u32) -> bool {
        let silent = at_once::marked(entry.clone(), token);
        let pushed = self.backlog.is_empty() && self.push_now(&silent);
        if pushed {
            self.at_once.add(self.pushed - 1, token, length);
        }
        pushed
    }

    /// Moves the backlog into the submission queue, handing over as often as that is full.
    fn hand_over_backlog(&mut self) -> io::Result<()> {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.push_now(&entry) {
                self.backlog.push_front(entry);
                let before = self.pending;
                self.enter(0, None)?;
                if self.pending == before {
                    // The kernel takes nothing more before completions were taken.
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Hands over the submission queue and waits for `want` completions.
    fn enter(&mut self, want: u32, timeout: Option<&types::Timespec>) -> io::Result<()> {
        let mut arguments = sys::GetEventsArgument {
            timeout: timeout.map_or(0, |timeout| &raw const *timeout as u64),
            ..Default::default()
        };
        // SAFETY: `arguments` and the timeout that it points to live through the call, and the size
        // is that of `arguments`, laid out as the kernel's structure. What the entries of the
        // submission queue point to is the concern of `push_now`, which alone fills it.
        let taken = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.enter_fd,
                self.pending,
                want,
                self.enter_flags,
                &raw mut arguments,
                size_of::<sys::GetEventsArgument>(),
            )
        };
        if taken >= 0 {
            self.pending -= taken as u32;
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // The timeout passed; or a signal came; or the kernel is short of memory or of room
            // for completions, which taking them makes.
            Some(libc::ETIME) => {
                // With a timeout, what was handed over is counted in the queue's head alone.
                self.pending = self.ring.submission().len() as u32;
                Ok(())
            }
            Some(libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ENOMEM) => {
                self.pending = self.ring.submission().len() as u32;
                Ok(())
            }
            _ => Err(error),
        }
    }

    fn take(&mut self, completions: &mut Vec<Completion>) {
        let mut eventfd_ended = false;
        let mut ran_out = false;
        for completion in self.ring.completion() {
            let flags = completion.flags();
            let mut token = self.at_once.failed(completion.user_data());
            if token == EVENTFD {
                eventfd_ended |= !cqueue::more(flags);
                token = Token::DOORBELL;
            }
            ran_out |= completion.result() == -libc::ENOBUFS;
            completions.push(Completion {
                token,
                result: completion.result(),
                buffer: cqueue::buffer_select(flags),
                more: cqueue::more(flags),
            });
        }
        self.at_once.report(self.pushed - u64::from(self.pending), completions);
        self.ran_out |= ran_out;
        if eventfd_ended {
            self.watch_eventfd();
        }
    }
}

impl Driver for RingDriver {
    fn start(&mut self, token: Token, fd: BorrowedFd<'_>, operation: Operation) {
        let fd = types::Fd(fd.as_raw_fd());
        let at_once = operation.at_once().filter(|_| self.capabilities.sends_at_once);
        let send_flags = if at_once.is_some() { at_once::FLAGS } else { SEND_FLAGS };
        let entry = match operation {
            // In blocking mode: the ring waits by itself, and would give EAGAIN otherwise.
            Operation::Accept => opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build(),
            Operation::Connect { address } => {
                // SAFETY: as `Operation` demands, the slot owns the address until the connect has
                // completed, which it has not begun yet, and changes nothing of it.
                let address = unsafe { &*address };
                opcode::Connect::new(fd, address.as_ptr().cast(), address.len()).build()
            }
            Operation::Receive { pool, limit, wait_first } => {
                let entry = opcode::RecvMulti::new(fd, pool).build();
                let entry = with_receive_limit(entry, limit);
                if wait_first { with_poll_first(entry) } else { entry }
            }
            Operation::Send { pointer, length, .. } => {
                opcode::Send::new(fd, pointer, length).flags(send_flags).build()
            }
            Operation::SendVectored { message, .. } => {
                opcode::SendMsg::new(fd, message).flags(send_flags as u32).build()
            }
            // io_uring adds RDHUP to every poll, which stays raised after the peer's end of the
            // stream: a poll for one event would complete at once, again and again.
            Operation::PollBroken => opcode::PollAdd::new(fd, 0).multi(true).build(),
        };
        let pushed = at_once.is_some_and(|length| self.push_at_once(&entry, token, length));
        if !pushed {
            self.push(entry.user_data(token.0));
        }
    }

    fn await_sends(&mut self) {
        self.at_once.await_them();
    }

    fn cancel(&mut self, token: Token) {
        let entry = opcode::AsyncCancel::new(token.0).build();
        self.push(entry.user_data(Token::CANCEL.0).flags(squeue::Flags::SKIP_SUCCESS));
    }

    fn close(&mut self, fd: OwnedFd) {
        let entry = opcode::Close::new(types::Fd(fd.into_raw_fd())).build();
        self.push(entry.user_data(Token::CLOSE.0).flags(squeue::Flags::SKIP_SUCCESS));
    }

    fn ring(&mut self, token: Token, doorbell: &dyn Doorbell) -> io::Result<()> {
        match doorbell.ring_fd() {
            Some(ring) => self.push(doorbell::message(token, ring)),
            None => doorbell.ring()?,
        }
        Ok(())
    }

    fn doorbell(&self) -> Arc<dyn Doorbell> {
        Arc::<RingDoorbell>::clone(&self.doorbell)
    }

    fn turn(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        // Only now have the buffers of the last turn's completions been taken in.
        if std::mem::take(&mut self.ran_out) {
            self.buffers.iter_mut().for_each(BufferRing::ran_out_if_empty);
        }
        self.buffers.iter_mut().for_each(BufferRing::refill);
        if !self.backlog.is_empty() {
            self.hand_over_backlog()?;
        }
        let sends_are_due = self.at_once.are_due();
        let waits = wait != Wait::No
            && !sends_are_due
            && self.backlog.is_empty()
            && self.ring.completion().is_empty();
        let wait = match wait {
            Wait::No => Wait::No,
            _ if self.at_once.is_empty() => wait,
            Wait::Until(deadline) => Wait::Until(deadline.min(self.now() + SLEEP)),
            Wait::Forever => Wait::Until(self.now() + SLEEP),
        };
        let timeout = match wait {
            Wait::Until(deadline) => {
                let left = deadline.saturating_sub(self.now());
                Some(
                    types::Timespec::new()
                        .sec(left / 1_000_000_000)
                        .nsec((left % 1_000_000_000) as u32),
                )
            }
            Wait::No | Wait::Forever => None,
        };
        self.enter(u32::from(waits), timeout.as_ref())?;
        if self.ring.submission().cq_overflow() {
            self.overflows += 1;
        }
        self.take(completions);
        Ok(())
    }

    fn now(&self) -> Nanoseconds {
        nanoseconds(self.epoch.elapsed())
    }

    fn limits_receives(&self) -> bool {
        self.capabilities.receive_limit
    }

    fn overflows(&self) -> u64 {
        self.overflows
    }

    fn start_custom(&mut self, token: Token, entry: squeue::Entry) -> Result<(), squeue::Entry> {
        self.push(entry.user_data(token.0));
        Ok(())
    }

    fn socket(
        &mut self,
        destination: SocketAddr,
        options: &UpstreamOptions,
    ) -> Result<OwnedFd, DialError> {
        dial::upstream_socket(destination, options, Mode::Blocking)
    }
}

impl Drop for RingDriver {
    fn drop(&mut self) {
        // Descriptors that were to be closed are closed.
        if self.pending > 0 || !self.backlog.is_empty() {
            let _ = self.hand_over_backlog();
            let _ = self.enter(0, None);
        }
        // A registered ring holds a reference to itself until its thread ends.
        if self.enter_flags & sys::ENTER_REGISTERED_RING != 0 {
            unregister_ring(self.ring.as_raw_fd(), self.enter_fd);
        }
    }
}

/// The kernel goes on after a short send by itself, and a closed peer raises no signal.
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

/// Registers the ring with the calling thread (IORING_REGISTER_RING_FDS), so that an enter does not
/// take and give back a reference to it.
fn register_ring(ring: BorrowedFd<'_>) -> io::Result<RawFd> {
    const REGISTER_RING_FDS: libc::c_uint = 20;
    let mut update =
        sys::ResourceUpdate { offset: u32::MAX, reserved: 0, data: ring.as_raw_fd() as u64 };
    // SAFETY: the kernel reads and writes one update at the address during the call.
    let registered = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring.as_raw_fd(),
            REGISTER_RING_FDS,
            &raw mut update,
            1,
        )
    };
    if registered == 1 { Ok(update.offset as RawFd) } else { Err(io::Error::last_os_error()) }
}

fn unregister_ring(ring: RawFd, index: RawFd) {
    const UNREGISTER_RING_FDS: libc::c_uint = 21;
    let mut update = sys::ResourceUpdate { offset: index as u32, reserved: 0, data: 0 };
    // SAFETY: the kernel reads one update at the address during the call.
    let _ = unsafe {
        libc::syscall(libc::SYS_io_uring_register, ring, UNREGISTER_RING_FDS, &raw mut update, 1)
    };
}

/// Parts of the kernel's interface (include/uapi/linux/io_uring.h) that the `io-uring` crate does
/// not make public.
mod sys {
    pub(super) const ENTER_GETEVENTS: u32 = 1 << 0;
    pub(super) const ENTER_EXT_ARG: u32 = 1 << 3;
    pub(super) const ENTER_REGISTERED_RING: u32 = 1 << 4;
    pub(super) const ENTER_NO_IOWAIT: u32 = 1 << 7;

    /// `struct io_uring_getevents_arg`.
    #[repr(C)]
    #[derive(Default)]
    pub(super) struct GetEventsArgument {
        pub(super) signal_mask: u64,
        pub(super) signal_mask_size: u32,
        pub(super) minimum_wait_us: u32,
        pub(super) timeout: u64,
    }

    /// `struct io_uring_rsrc_update`.
    #[repr(C)]
    pub(super) struct ResourceUpdate {
        pub(super) offset: u32,
        pub(super) reserved: u32,
        pub(super) data: u64,
    }
}
