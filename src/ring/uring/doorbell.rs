//! Doorbells of io_uring shards: a message from another ring, or from a thread without one, or an
//! eventfd where the kernel cannot do that.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use io_uring::{IoUring, opcode, squeue, types};

use crate::ring::driver::{Doorbell, Token};

/// IORING_REGISTER_SEND_MSG_RING, which takes no ring (its descriptor is -1).
const REGISTER_SEND_MESSAGE: libc::c_uint = 31;

/// The doorbell of a ring. It holds a descriptor of the ring of its own, so that the number that it
/// rings is never somebody else's.
pub(super) struct RingDoorbell {
    pub(super) ring: OwnedFd,
    /// For threads without a ring, where the kernel cannot take a message from them.
    pub(super) eventfd: Option<OwnedFd>,
}

impl Doorbell for RingDoorbell {
    fn ring(&self) -> io::Result<()> {
        match &self.eventfd {
            // It fails only where the counter is full, and so it is ringing already.
            Some(eventfd) => drop(rustix::io::write(eventfd, &1u64.to_ne_bytes())),
            None => match send(self.ring.as_raw_fd(), Token::DOORBELL.0) {
                Err(error) if passes(&error) => return Err(error),
                // Any other failure is of a ring that has lost its thread: nobody sleeps there.
                Ok(()) | Err(_) => {}
            },
        }
        Ok(())
    }

    fn ring_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.ring.as_fd())
    }
}

/// Whether a message that failed may well be sent a moment later: the kernel had no memory for it
/// (ENOMEM), or no room among the completions of the other ring (EOVERFLOW).
fn passes(error: &io::Error) -> bool {
    let passing = [libc::ENOMEM, libc::EOVERFLOW, libc::EAGAIN, libc::EBUSY, libc::EINTR];
    error.raw_os_error().is_some_and(|error| passing.contains(&error))
}

/// The entry that rings another ring, and completes under `token` where it fails.
pub(super) fn message(token: Token, ring: BorrowedFd<'_>) -> squeue::Entry {
    opcode::MsgRingData::new(types::Fd(ring.as_raw_fd()), 0, Token::DOORBELL.0, None)
        .build()
        .user_data(token.0)
        .flags(squeue::Flags::SKIP_SUCCESS)
}

/// Sends a message to a ring from a thread that has none.
fn send(ring: RawFd, user_data: u64) -> io::Result<()> {
    let entry = opcode::MsgRingData::new(types::Fd(ring), 0, user_data, None).build();
    // SAFETY: the kernel reads one submission entry at the address during the call.
    let result = unsafe {
        libc::syscall(libc::SYS_io_uring_register, -1, REGISTER_SEND_MESSAGE, &raw const entry, 1)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether [`send`] reaches a ring on this kernel.
pub(super) fn can_ring_without_ring(ring: &mut IoUring) -> bool {
    const PROBE: u64 = u64::MAX;
    if send(ring.as_raw_fd(), PROBE).is_err() {
        return false;
    }
    // It was queued for this thread; a look without waiting brings it in.
    let timeout = types::Timespec::new().nsec(100_000_000);
    let arguments = types::SubmitArgs::new().timespec(&timeout);
    let _ = ring.submitter().submit_with_args(1, &arguments);
    ring.completion().any(|completion| completion.user_data() == PROBE)
}
