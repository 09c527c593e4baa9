//! The calls on a socket that is ready: what each of them brings, and what that says about the
//! socket's readiness.
//!
//! In: a watch with operations in flight. Out: completions. Each call is told not to block.

use std::{
    io::IoSlice,
    os::fd::{BorrowedFd, IntoRawFd},
    rc::Rc,
    slice,
};

use rustix::{
    io::Errno,
    net::{
        RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags, accept_with, recv, send, sendmsg,
        sockopt::socket_error,
    },
};

use super::{
    ACCEPTS, SHARE,
    watch::{Outgoing, State, Watch},
};
use crate::ring::{
    buffers::Pool,
    driver::{Completion, Key, Kind, Token},
};

/// After so many bytes a send ends short of what it was to send: completions count in 31 bits.
const SENT_MAX: u32 = 1 << 30;
/// Pieces that one call sends, at most, of a message of which a part was sent already.
const PIECES: usize = 64;

const FLAGS: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

impl Watch {
    /// Does for the operations in flight what can be done now.
    pub(super) fn serve(
        &mut self,
        key: Key,
        pools: &[Rc<Pool>],
        completions: &mut Vec<Completion>,
    ) {
        let mut ended = |kind, result| {
            let token = Token::new(key, kind);
            completions.push(Completion { token, result, buffer: None, more: false });
        };
        if self.is_armed(Kind::Connect) && self.state.has(State::WRITABLE) {
            ended(Kind::Connect, self.connected());
            self.disarm(Kind::Connect);
        }
        if self.is_armed(Kind::Send)
            && self.state.has(State::WRITABLE)
            && let Some(result) = self.send()
        {
            ended(Kind::Send, result);
        }
        if self.is_armed(Kind::Receive) && self.state.has(State::READABLE) {
            self.receive(Token::new(key, Kind::Receive), pools, completions);
        }
        if self.is_armed(Kind::Accept) && self.state.has(State::READABLE) {
            self.accept(Token::new(key, Kind::Accept), completions);
        }
        // Behind what was received: the bytes before an error come first.
        if self.is_armed(Kind::Poll) && self.state.has(State::BROKEN_NEWS) {
            self.state.remove(State::BROKEN_NEWS);
            let (token, result) = (Token::new(key, Kind::Poll), i32::from(libc::POLLERR));
            completions.push(Completion { token, result, buffer: None, more: true });
        }
    }

    /// How connecting went.
    fn connected(&self) -> i32 {
        if !self.state.has(State::BROKEN) && !self.state.has(State::ENDING) {
            return 0;
        }
        match socket_error(self.socket()) {
            Ok(Ok(())) => 0,
            Ok(Err(error)) | Err(error) => -error.raw_os_error(),
        }
    }

    /// Receives until nothing is left, the receive is over, or the socket has had its share.
    fn receive(&mut self, token: Token, pools: &[Rc<Pool>], completions: &mut Vec<Completion>) {
        let mut push = |result, buffer, more| {
            completions.push(Completion { token, result, buffer, more });
        };
        let pool = &pools[self.pool as usize];
        let mut share = SHARE;
        while share > 0 && self.state.has(State::READABLE) {
            let Some((id, memory)) = pool.lend() else {
                self.disarm(Kind::Receive);
                return push(-libc::ENOBUFS, None, false);
            };
            let room = pool.buffer_size().min(self.left);
            // SAFETY: the pool has lent this buffer of at least `room` bytes to this driver alone,
            // until `take_back` or until a completion names it. Its mapping was zeroed when it was
            // made, so all of it is initialised.
            let buffer = unsafe { slice::from_raw_parts_mut(memory.as_ptr(), room as usize) };
            match recv(self.socket(), buffer, RecvFlags::DONTWAIT) {
                Ok((_, length @ 1..)) => {
                    let length = length as u32;
                    if length < room && !self.state.has(State::ENDING) {
                        self.state.remove(State::READABLE);
                    }
                    self.left -= length;
                    share = share.saturating_sub(pool.buffer_size());
                    push(length as i32, Some(id), self.left > 0);
                    if self.left == 0 {
                        return self.disarm(Kind::Receive);
                    }
                    continue;
                }
                Ok((_, 0)) => {
                    self.disarm(Kind::Receive);
                    push(0, None, false);
                }
                Err(Errno::AGAIN) => {
                    self.state.remove(State::READABLE);
                    self.state.remove(State::ENDING);
                }
                Err(Errno::INTR) => {}
                Err(error) => {
                    self.disarm(Kind::Receive);
                    push(-error.raw_os_error(), None, false);
                }
            }
            pool.take_back(id);
            if !self.is_armed(Kind::Receive) {
                return;
            }
        }
    }

    fn accept(&mut self, token: Token, completions: &mut Vec<Completion>) {
        for _ in 0..ACCEPTS {
            let (result, more) = match accept_with(self.socket(), SocketFlags::CLOEXEC) {
                Ok(socket) => (socket.into_raw_fd(), true),
                Err(Errno::AGAIN) => return self.state.remove(State::READABLE),
                Err(Errno::INTR) => continue,
                Err(error) => (-error.raw_os_error(), false),
            };
            completions.push(Completion { token, result, buffer: None, more });
            if !more {
                return self.disarm(Kind::Accept);
            }
        }
    }

    /// Sends what the socket takes. The result of the send, where it is over.
    pub(super) fn send(&mut self) -> Option<i32> {
        self.state.remove(State::WRITABLE);
        loop {
            let (asked, outcome) = self.try_to_send()?;
            match outcome {
                Ok(sent) => {
                    self.sent += sent as u32;
                    if sent == asked || self.sent >= SENT_MAX {
                        break;
                    }
                    // It took less than it was offered, and tells when there is room again.
                    return None;
                }
                Err(Errno::AGAIN) => return None,
                Err(Errno::INTR) => {}
                // What was sent before counts; the next send gets an error again.
                Err(_) if self.sent > 0 => break,
                Err(error) => {
                    self.disarm(Kind::Send);
                    return Some(-error.raw_os_error());
                }
            }
        }
        let sent = self.sent();
        self.disarm(Kind::Send);
        Some(sent)
    }

    /// Offers what is left to the socket: how much that is, and how much it took.
    fn try_to_send(&self) -> Option<(usize, Result<usize, Errno>)> {
        let sent = self.sent as usize;
        match self.outgoing? {
            Outgoing::Bytes { pointer, length } => {
                // SAFETY: as `Operation` demands, the slot owns these bytes until the completion of
                // the send, which is in flight, and changes nothing of them.
                let bytes = unsafe { slice::from_raw_parts(pointer, length as usize) };
                let left = &bytes[sent..];
                Some((left.len(), send(self.socket(), left, FLAGS)))
            }
            Outgoing::Message(message) => {
                // SAFETY: as above; it is the slot's message header.
                let message = unsafe { &*message };
                let (pieces, count) =
                    (message.msg_iov.cast_const().cast(), message.msg_iovlen as _);
                // SAFETY: as above; the header points to so many vectors, which have the layout of
                // an `IoSlice`, and each of them to bytes that the slot owns.
                let pieces: &[IoSlice<'_>] = unsafe { slice::from_raw_parts(pieces, count) };
                Some(match sent {
                    0 => send_pieces(self.socket(), pieces),
                    _ => send_rest(self.socket(), pieces, sent),
                })
            }
        }
    }
}

fn send_pieces(socket: BorrowedFd<'_>, pieces: &[IoSlice<'_>]) -> (usize, Result<usize, Errno>) {
    let asked = pieces.iter().map(|piece| piece.len()).sum();
    (asked, sendmsg(socket, pieces, &mut SendAncillaryBuffer::default(), FLAGS))
}

/// Sends what comes behind the first `sent` bytes of the pieces.
fn send_rest(
    socket: BorrowedFd<'_>,
    pieces: &[IoSlice<'_>],
    sent: usize,
) -> (usize, Result<usize, Errno>) {
    let mut copy = [IoSlice::new(&[]); PIECES];
    let count = pieces.len().min(PIECES);
    copy[..count].copy_from_slice(&pieces[..count]);
    let mut left = &mut copy[..count];
    IoSlice::advance_slices(&mut left, sent);
    send_pieces(socket, left)
}
