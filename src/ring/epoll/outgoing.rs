//! A send: what it is to send, in the memory of its slot, and how far it has come.

use std::{io::IoSlice, os::fd::BorrowedFd, slice};

use rustix::{
    io::Errno,
    net::{SendAncillaryBuffer, SendFlags, send, sendmsg},
};

/// After so many bytes a send ends short of what it was to send: completions count in 31 bits.
const SENT_MAX: u32 = 1 << 30;
/// Pieces that one call sends, at most, of a message of which a part was sent already.
const PIECES: usize = 64;

const FLAGS: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

pub(super) struct Outgoing {
    bytes: Bytes,
    sent: u32,
}

#[derive(Clone, Copy)]
enum Bytes {
    One { pointer: *const u8, length: u32 },
    Many(*const libc::msghdr),
}

impl Outgoing {
    pub(super) fn bytes(pointer: *const u8, length: u32) -> Outgoing {
        Outgoing { bytes: Bytes::One { pointer, length }, sent: 0 }
    }

    pub(super) fn message(message: *const libc::msghdr) -> Outgoing {
        Outgoing { bytes: Bytes::Many(message), sent: 0 }
    }

    /// Sends what the socket takes. The result of the send, where it is over: all was sent, or what
    /// was before an error. From `None` on the socket tells when there is room.
    pub(super) fn send(&mut self, socket: BorrowedFd<'_>) -> Option<i32> {
        loop {
            let (offered, outcome) = self.offer(socket);
            match outcome {
                Ok(taken) => {
                    self.sent += taken as u32;
                    return (taken == offered || self.sent >= SENT_MAX).then(|| self.sent());
                }
                Err(Errno::AGAIN) => return None,
                Err(Errno::INTR) => {}
                // The next send gets an error again.
                Err(_) if self.sent > 0 => return Some(self.sent()),
                Err(error) => return Some(-error.raw_os_error()),
            }
        }
    }

    /// The result of a send that is cancelled now.
    pub(super) fn cancelled(&self) -> i32 {
        match self.sent() {
            0 => -libc::ECANCELED,
            sent => sent,
        }
    }

    fn sent(&self) -> i32 {
        i32::try_from(self.sent).unwrap_or(i32::MAX)
    }

    /// Offers what is left to the socket: how much that is, and how much it took.
    fn offer(&self, socket: BorrowedFd<'_>) -> (usize, Result<usize, Errno>) {
        let sent = self.sent as usize;
        match self.bytes {
            Bytes::One { pointer, length } => {
                // SAFETY: as `Operation` demands, the slot owns these bytes until the completion of
                // the send, which is yet to come, and changes nothing of them.
                let bytes = unsafe { slice::from_raw_parts(pointer, length as usize) };
                let left = &bytes[sent..];
                (left.len(), send(socket, left, FLAGS))
            }
            Bytes::Many(message) => {
                // SAFETY: as above; it is the slot's message header.
                let message = unsafe { &*message };
                let first = message.msg_iov.cast_const().cast();
                // SAFETY: as above; the header points to so many vectors, which have the layout of
                // an `IoSlice`, and each of them to bytes that the slot owns.
                let pieces: &[IoSlice<'_>] =
                    unsafe { slice::from_raw_parts(first, message.msg_iovlen as _) };
                match sent {
                    0 => offer_pieces(socket, pieces),
                    _ => offer_rest(socket, pieces, sent),
                }
            }
        }
    }
}

fn offer_pieces(socket: BorrowedFd<'_>, pieces: &[IoSlice<'_>]) -> (usize, Result<usize, Errno>) {
    let offered = pieces.iter().map(|piece| piece.len()).sum();
    (offered, sendmsg(socket, pieces, &mut SendAncillaryBuffer::default(), FLAGS))
}

/// Offers what comes behind the first `sent` bytes of the pieces.
fn offer_rest(
    socket: BorrowedFd<'_>,
    pieces: &[IoSlice<'_>],
    sent: usize,
) -> (usize, Result<usize, Errno>) {
    let mut copy = [IoSlice::new(&[]); PIECES];
    let count = pieces.len().min(PIECES);
    copy[..count].copy_from_slice(&pieces[..count]);
    let mut left = &mut copy[..count];
    IoSlice::advance_slices(&mut left, sent);
    offer_pieces(socket, left)
}
