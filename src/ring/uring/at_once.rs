//! Sends that are over when they have been handed over.
//!
//! **In:** sends of a few bytes, as they enter the submission queue. **Out:** their completions. **Owns:**
//! what was asked of those whose end was not reported yet.
//!
//! MSG_DONTWAIT makes the kernel try such a send inside of the enter that hands it over, and never
//! later (REQ_F_NOWAIT in `io_uring/net.c`). One that sends all it was to leaves no completion behind
//! (IOSQE_CQE_SKIP_SUCCESS), so it neither takes room in the queue nor ends a sleep that nothing
//! else ends: a proxy that has passed a request on sleeps until the answer comes, with one enter.
//! With MSG_WAITALL, anything less counts as a failure, which does complete: short, or -EAGAIN.

use std::{
    io,
    os::{fd::AsRawFd, unix::net::UnixStream},
};

use io_uring::{IoUring, opcode, squeue, types};

use crate::ring::driver::{Completion, Nanoseconds, Token};

/// With more of them the loop does not wait: the buffers that they hold are worth having back.
const MANY: usize = 64;

/// The longest sleep before their ends are reported, though nobody waits for them.
pub(super) const SLEEP: Nanoseconds = 50_000_000;

/// Tells them from others in what the kernel gives back; no kind of operation has this bit.
const MARK: u64 = 1 << 7;

pub(super) const FLAGS: i32 = super::SEND_FLAGS | libc::MSG_DONTWAIT;

#[derive(Default)]
pub(super) struct SendsAtOnce {
    /// In the order in which they were started.
    sends: Vec<Send>,
    awaited: bool,
}

struct Send {
    /// Which entry of the submission queue it was, since the ring was made.
    position: u64,
    token: Token,
    length: u32,
    failed: bool,
}

impl SendsAtOnce {
    pub(super) fn add(&mut self, position: u64, token: Token, length: u32) {
        self.sends.push(Send { position, token, length, failed: false });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sends.is_empty()
    }

    /// Somebody waits for one that was or will be started.
    pub(super) fn await_them(&mut self) {
        self.awaited = true;
    }

    /// Whether the coming turn has their ends to report rather than to sleep.
    pub(super) fn are_due(&mut self) -> bool {
        let awaited = std::mem::take(&mut self.awaited);
        !self.sends.is_empty() && (awaited || self.sends.len() > MANY)
    }

    /// The token of a completion, and whether it is of one of these, which then has failed.
    pub(super) fn failed(&mut self, user_data: u64) -> Token {
        let token = Token(user_data & !MARK);
        if token.0 != user_data
            && let Some(send) = self.sends.iter_mut().find(|send| send.token == token)
        {
            send.failed = true;
        }
        token
    }

    /// Reports those of the first `handed_over` entries that have not failed.
    pub(super) fn report(&mut self, handed_over: u64, completions: &mut Vec<Completion>) {
        let over = self.sends.partition_point(|send| send.position < handed_over);
        for send in self.sends.drain(..over).filter(|send| !send.failed) {
            let (token, result) = (send.token, send.length as i32);
            completions.push(Completion { token, result, buffer: None, more: false });
        }
    }
}

/// Makes an entry one of these.
pub(super) fn marked(entry: squeue::Entry, token: Token) -> squeue::Entry {
    entry.user_data(token.0 | MARK).flags(squeue::Flags::SKIP_SUCCESS)
}

/// Whether this kernel's sends behave so: one of two fits, and only the other one completes, short.
pub(super) fn sends_at_once(ring: &mut IoUring) -> io::Result<bool> {
    const FITS: Token = Token(1 << 8);
    const SHORT: Token = Token(2 << 8);
    let large = vec![0_u8; 8 << 20];
    let (fits, other) = (UnixStream::pair()?, UnixStream::pair()?);
    let fd = |socket: &UnixStream| types::Fd(socket.as_raw_fd());
    for (token, fd, length) in [(SHORT, fd(&other.0), large.len()), (FITS, fd(&fits.0), 1)] {
        let send = opcode::Send::new(fd, large.as_ptr(), length as u32).flags(FLAGS).build();
        let entry = marked(send, token);
        // SAFETY: `large` lives until the kernel has said that the longer one is over, or for ever;
        // the first of its bytes, which it copies by itself, it takes at once.
        unsafe { ring.submission().push(&entry) }.map_err(|_| io::ErrorKind::OutOfMemory)?;
    }
    ring.submit()?;
    // A kernel that goes on with a send is done with it now.
    drop((other.1, fits.1));
    let soon = types::Timespec::new().nsec(100_000_000);
    let waited = ring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&soon));
    if waited.is_err() {
        std::mem::forget(large);
        return Ok(false);
    }
    let mut completed = ring.completion().map(|completion| {
        let sent = u32::try_from(completion.result()).unwrap_or(0);
        completion.user_data() == SHORT.0 | MARK && sent > 0 && sent < large.len() as u32
    });
    Ok(completed.next() == Some(true) && completed.next().is_none())
}
