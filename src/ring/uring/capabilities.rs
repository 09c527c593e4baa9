//! What the running kernel's io_uring can do, found out by trying it.
//!
//! Distributions port features back, so a version number says nothing. The result is a value that
//! is handed to every ring; masking it makes a ring behave as on an older kernel.

use std::{io::Write, os::fd::AsRawFd, os::unix::net::UnixStream};

use io_uring::{IoUring, opcode, squeue, types};

use super::{
    at_once::sends_at_once, buffer_ring::BufferRing, entry::with_receive_limit, setup,
    setup::RingRefused,
};
use crate::ring::buffers::Pool;

/// What a ring uses beyond the floor, which is Linux 6.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// A ring without the submission queue's index array (IORING_SETUP_NO_SQARRAY, 6.6).
    pub no_submission_array: bool,
    /// A receive that ends by itself after so many bytes (6.17).
    pub receive_limit: bool,
    /// Ringing a ring from a thread that has none (IORING_REGISTER_SEND_MSG_RING, 6.13). Without
    /// it an eventfd is the doorbell.
    pub message_without_ring: bool,
    /// An idle shard does not count as waiting for I/O (IORING_ENTER_NO_IOWAIT, 6.15).
    pub no_io_wait: bool,
    /// A small send that leaves a completion only where it did not send everything, at once.
    pub sends_at_once: bool,
}

impl Capabilities {
    /// What Linux 6.1 has, the oldest kernel that this crate runs on.
    pub const LINUX_6_1: Capabilities = Capabilities {
        no_submission_array: false,
        receive_limit: false,
        message_without_ring: false,
        no_io_wait: false,
        sends_at_once: false,
    };
    /// What Linux 6.12 has.
    pub const LINUX_6_12: Capabilities =
        Capabilities { no_submission_array: true, sends_at_once: true, ..Capabilities::LINUX_6_1 };
    /// Everything that this crate knows how to use.
    pub const ALL: Capabilities = Capabilities {
        no_submission_array: true,
        receive_limit: true,
        message_without_ring: true,
        no_io_wait: true,
        sends_at_once: true,
    };

    /// The mask of a kernel that these tests are to behave as: `6.1`, `6.12`, or everything.
    #[cfg(test)]
    pub(crate) fn of_this_test_run() -> Capabilities {
        match std::env::var("EVENKEEL_KERNEL").as_deref() {
            Ok("6.1") => Capabilities::LINUX_6_1,
            Ok("6.12") => Capabilities::LINUX_6_12,
            Ok(other) => panic!("EVENKEEL_KERNEL is {other:?}: write 6.1 or 6.12"),
            Err(_) => Capabilities::ALL,
        }
    }

    /// What both have.
    #[must_use]
    pub fn masked(self, mask: Capabilities) -> Capabilities {
        Capabilities {
            no_submission_array: self.no_submission_array && mask.no_submission_array,
            receive_limit: self.receive_limit && mask.receive_limit,
            message_without_ring: self.message_without_ring && mask.message_without_ring,
            no_io_wait: self.no_io_wait && mask.no_io_wait,
            sends_at_once: self.sends_at_once && mask.sends_at_once,
        }
    }

    /// Tries what this kernel can do, with a ring that is thrown away.
    ///
    /// # Errors
    ///
    /// When io_uring is refused to this process or lacks what the crate cannot do without, with
    /// the cause and the remedy.
    pub fn probe() -> Result<Capabilities, RingRefused> {
        let with_array = Capabilities::LINUX_6_1;
        let without_array = Capabilities { no_submission_array: true, ..with_array };
        let (mut ring, no_submission_array) = match setup::build(without_array) {
            Ok(ring) => (ring, true),
            Err(RingRefused::KernelTooOld { .. }) => (setup::build(with_array)?, false),
            Err(refused) => return Err(refused),
        };
        let other = |doing| {
            move |error: std::io::Error| RingRefused::Other {
                doing,
                error: error.raw_os_error().unwrap_or(libc::EIO),
            }
        };
        ring.submitter()
            .register_enable_rings()
            .map_err(other("enabling a ring (IORING_REGISTER_ENABLE_RINGS)"))?;
        check_floor(&ring)?;
        Ok(Capabilities {
            no_submission_array,
            receive_limit: limits_receives(&mut ring)
                .map_err(other("a multishot receive into a buffer ring"))?,
            message_without_ring: super::doorbell::can_ring_without_ring(&mut ring),
            no_io_wait: ring.params().is_feature_no_iowait(),
            sends_at_once: sends_at_once(&mut ring)
                .map_err(other("sending what fits and what does not"))?,
        })
    }
}

fn check_floor(ring: &IoUring) -> Result<(), RingRefused> {
    let parameters = ring.params();
    if !parameters.is_feature_ext_arg() {
        return Err(RingRefused::too_old("IORING_FEAT_EXT_ARG"));
    }
    if !parameters.is_feature_nodrop() {
        return Err(RingRefused::too_old("IORING_FEAT_NODROP"));
    }
    if !parameters.is_feature_skip_cqe_on_success() {
        return Err(RingRefused::too_old("IORING_FEAT_CQE_SKIP"));
    }
    Ok(())
}

/// Whether a multishot receive stops at its limit: 6 bytes are sent, 4 allowed, into buffers of 2.
fn limits_receives(ring: &mut IoUring) -> std::io::Result<bool> {
    const LIMIT: u32 = 4;
    let pool = Pool::new(4, 2)?;
    let mut buffers = BufferRing::register(ring, 0, pool)?;
    buffers.refill();
    let (mut ours, theirs) = UnixStream::pair()?;
    ours.write_all(b"abcdef")?;
    let entry = opcode::RecvMulti::new(types::Fd(theirs.as_raw_fd()), 0).build().user_data(1);
    let entry = with_receive_limit(entry, LIMIT);
    // SAFETY: the receive writes into the buffer ring's pool alone, and only inside of an enter of
    // this ring (DEFER_TASKRUN). `finish` below waits for its end, with the pool still there; after an
    // error before that, this ring is not entered any more.
    unsafe { ring.submission().push(&entry) }.map_err(|_| std::io::ErrorKind::OutOfMemory)?;
    let mut received = 0;
    let mut more = true;
    while more && received < 6 {
        ring.submit_and_wait(1)?;
        for completion in ring.completion() {
            received += completion.result().max(0);
            more = io_uring::cqueue::more(completion.flags());
        }
    }
    let limited = !more && received == LIMIT as i32;
    finish(ring, more)?;
    Ok(limited)
}

/// Cancels the probe's receive and waits for its end.
fn finish(ring: &mut IoUring, mut armed: bool) -> std::io::Result<()> {
    if !armed {
        return Ok(());
    }
    let entry = opcode::AsyncCancel::new(1).build().user_data(2).flags(squeue::Flags::SKIP_SUCCESS);
    // SAFETY: a cancellation by user data uses no memory of ours.
    unsafe { ring.submission().push(&entry) }.map_err(|_| std::io::ErrorKind::OutOfMemory)?;
    while armed {
        ring.submit_and_wait(1)?;
        for completion in ring.completion() {
            armed &= completion.user_data() != 1 || io_uring::cqueue::more(completion.flags());
        }
    }
    Ok(())
}
