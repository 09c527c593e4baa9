//! The calls on a socket that is ready, but for sends (`outgoing.rs`): what each of them brings, and what that says about the
//! socket's readiness.
//!
//! In: a watch with operations in flight. Out: completions. Each call is told not to block.

use std::{os::fd::IntoRawFd, rc::Rc, slice};

use rustix::{
    io::Errno,
    net::{RecvFlags, SocketFlags, accept_with, recv},
};

use super::{
    ACCEPTS, SHARE,
    watch::{State, Watch},
};
use crate::ring::{
    buffers::Pool,
    driver::{Completion, Key, Kind, Token},
};

impl Watch {
    /// Does for the operations in flight, beside a send, what can be done now.
    pub(super) fn serve(
        &mut self,
        key: Key,
        pools: &[Rc<Pool>],
        completions: &mut Vec<Completion>,
    ) {
        if self.is_armed(Kind::Connect) && self.state.has(State::WRITABLE) {
            let (token, result) = (Token::new(key, Kind::Connect), self.connected());
            completions.push(Completion { token, result, buffer: None, more: false });
            self.disarm(Kind::Connect);
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

    /// How connecting went. SO_ERROR would not do: where the peer has sent something and a reset
    /// behind it already, it takes the error away from the receive, which is to get it behind the
    /// bytes. A look at the first byte leaves both where they are (`tcp_recvmsg_locked` in Linux's
    /// `net/ipv4/tcp.c`).
    fn connected(&self) -> i32 {
        if !self.state.has(State::ENDING) {
            return 0;
        }
        match recv(self.socket(), &mut [0_u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok(_) | Err(Errno::AGAIN) => 0,
            Err(error) => -error.raw_os_error(),
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
}
