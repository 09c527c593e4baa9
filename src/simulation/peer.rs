//! One end of a connection that sends what it was told to and checks what it receives.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use super::milliseconds;
use crate::{
    net::Stream,
    ring::simulated::Random,
    runtime::{Sleep, sleep},
};

/// Byte number `at` of the stream that a key stands for.
pub(super) fn byte(key: u64, at: u64) -> u8 {
    (key ^ (at >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes()[(at & 7) as usize]
}

pub(super) fn bytes(key: u64, from: u64, count: usize) -> Vec<u8> {
    (from..).take(count).map(|at| byte(key, at)).collect()
}

/// What a peer sends and expects.
pub(super) struct Plan {
    /// The stream that it sends, and how much of it.
    pub(super) key: u64,
    pub(super) sends: u64,
    /// The stream that it expects.
    pub(super) expects: u64,
    /// Chance, in percent, to pause before a send or a receive, for up to so long.
    pub(super) pauses: u8,
    pub(super) pause_ms: u64,
    /// Most bytes in one send.
    pub(super) piece: u64,
    pub(super) ends: Ends,
}

/// When a peer ends its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// When it has sent everything.
    Freely,
    /// Then, but not before it has received the end of the other direction.
    Last,
    Never,
}

/// A peer at work on its plan.
pub(super) struct Peer {
    pub(super) stream: Stream,
    random: Random,
    plan: Plan,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) ended: bool,
    finished: bool,
    sending: Option<Sleep>,
    receiving: Option<Sleep>,
}

impl Peer {
    pub(super) fn new(stream: Stream, random: Random, plan: Plan) -> Peer {
        Peer {
            stream,
            random,
            plan,
            sent: 0,
            received: 0,
            ended: false,
            finished: false,
            sending: None,
            receiving: None,
        }
    }

    /// Sends everything and receives to the end.
    pub(super) async fn run(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let received = self.poll_receiving(cx)?;
        let sent = self.poll_sending(cx)?;
        if received.is_ready() && sent.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_sending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.plan.sends {
            ready!(pause(&mut self.sending, cx));
            ready!(self.stream.poll_send_ready(cx))?;
            let left = self.plan.sends - self.sent;
            let count = self.random.scale(self.plan.piece.min(left));
            self.stream.start_send(bytes(self.plan.key, self.sent, count as usize))?;
            self.sent += count;
            self.sending = self.draw();
        }
        let ends = match self.plan.ends {
            Ends::Freely => true,
            Ends::Last => self.ended,
            Ends::Never => false,
        };
        if ends && !std::mem::replace(&mut self.finished, true) {
            self.stream.finish();
        }
        if self.finished { self.stream.poll_flush(cx) } else { Poll::Pending }
    }

    pub(super) fn poll_receiving(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.ended {
            ready!(pause(&mut self.receiving, cx));
            match ready!(self.stream.poll_receive(cx))? {
                None => self.ended = true,
                Some(chunk) => self.check(&chunk),
            }
            self.receiving = self.draw();
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn check(&mut self, chunk: &[u8]) {
        assert!(!chunk.is_empty(), "an empty chunk");
        for (at, got) in (self.received..).zip(chunk) {
            assert_eq!(*got, byte(self.plan.expects, at), "byte {at} is another");
        }
        self.received += chunk.len() as u64;
    }

    fn draw(&mut self) -> Option<Sleep> {
        let pauses = self.random.chance(self.plan.pauses);
        pauses.then(|| sleep(milliseconds(self.random.below(self.plan.pause_ms) + 1)))
    }
}

fn pause(sleep: &mut Option<Sleep>, cx: &mut Context<'_>) -> Poll<()> {
    if let Some(pending) = sleep {
        ready!(Pin::new(pending).poll(cx));
        *sleep = None;
    }
    Poll::Ready(())
}
