//! One end of a connection, which keeps every byte that arrives until it is read as a message.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use super::milliseconds;
use crate::{
    net::Stream,
    ring::simulated::Random,
    runtime::{Sleep, sleep},
};

/// How the other side has ended its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    InOrder,
    /// With a reset, seen by a receive or by a send.
    Broken,
}

/// In which everything is over, whatever the peers do.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What a client does when it has sent its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Waits,
    Finishes,
    Resets,
}

impl Then {
    /// By the two lowest bits.
    pub(super) fn new(bits: u8) -> Then {
        match bits & 3 {
            1 => Then::Finishes,
            2 => Then::Resets,
            _ => Then::Waits,
        }
    }
}

pub(super) struct Wire {
    pub(super) stream: Stream,
    pub(super) random: Random,
    /// What arrived and was not read.
    pub(super) unread: Vec<u8>,
    pub(super) end: Option<End>,
    send_failed: bool,
    pause: Option<Sleep>,
    /// Chance, in percent, to pause before a send, and most bytes in one.
    pub(super) pauses: u8,
    pub(super) piece: usize,
}

impl Wire {
    pub(super) fn new(stream: Stream, mut random: Random) -> Wire {
        let (pauses, piece) = (random.pick(&[0, 0, 2, 10]), random.scale(4 << 10) as usize);
        Wire {
            stream,
            random,
            unread: Vec::new(),
            end: None,
            send_failed: false,
            pause: None,
            pauses,
            piece,
        }
    }

    /// Receives once; ready with what has arrived, or the end.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.end.is_some() {
            return Poll::Ready(());
        }
        self.end = match ready!(self.stream.poll_receive(cx)) {
            Ok(Some(chunk)) => {
                self.unread.extend_from_slice(&chunk);
                None
            }
            Ok(None) if !self.send_failed => Some(End::InOrder),
            // The error is told once, and a send was told it.
            Ok(None) | Err(_) => Some(End::Broken),
        };
        Poll::Ready(())
    }

    /// Sends a piece of `bytes`, and says how long it was.
    pub(super) fn poll_piece(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Poll<usize> {
        if let Some(pause) = &mut self.pause {
            ready!(Pin::new(pause).poll(cx));
            self.pause = None;
        }
        let piece = self.random.scale(self.piece.min(bytes.len()) as u64) as usize;
        let handed_over = match ready!(self.stream.poll_send_ready(cx)) {
            Ok(()) => self.stream.start_send(bytes[..piece].to_vec()),
            Err(error) => Err(error),
        };
        self.send_failed |= handed_over.is_err();
        if self.random.chance(self.pauses) {
            self.pause = Some(sleep(milliseconds(self.random.below(50) + 1)));
        }
        Poll::Ready(piece)
    }

    /// Sends all of `bytes`. The error is that the other side is gone.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        while sent < bytes.len() && !self.send_failed {
            sent += std::future::poll_fn(|cx| self.poll_piece(&bytes[sent..], cx)).await;
        }
        if self.send_failed { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }

    /// Reads until `read` finds something in what has arrived, and takes that; nothing where the stream
    /// ends before.
    pub(super) async fn read<T>(
        &mut self,
        mut read: impl FnMut(&[u8]) -> Option<(T, usize)>,
    ) -> Option<T> {
        loop {
            if let Some((message, length)) = read(&self.unread) {
                self.unread.drain(..length);
                return Some(message);
            }
            if self.end.is_some() {
                return None;
            }
            std::future::poll_fn(|cx| self.poll_more(cx)).await;
        }
    }
}
