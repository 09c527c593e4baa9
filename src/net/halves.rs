//! The two directions of a stream, to be used at the same time.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
};

use super::{Stream, stream::Leaves};
use crate::ring::{Chunk, Output, Payload};

/// The receiving direction of a [`Stream`], from [`Stream::split`].
#[derive(Debug)]
pub struct Receiving<'a> {
    stream: &'a Stream,
}

/// The sending direction of a [`Stream`], from [`Stream::split`].
#[derive(Debug)]
pub struct Sending<'a> {
    stream: &'a Stream,
}

impl Stream {
    /// Both directions, for two futures of one task.
    pub fn split(&mut self) -> (Receiving<'_>, Sending<'_>) {
        (Receiving { stream: self }, Sending { stream: self })
    }
}

impl Receiving<'_> {
    /// As [`Stream::receive`].
    ///
    /// # Errors
    ///
    /// What `recv(2)` gives. Bytes that arrived before the error come first.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn receive(&mut self) -> io::Result<Option<Chunk>> {
        poll_fn(|cx| self.poll_receive(cx)).await
    }

    /// [`receive`](Self::receive) as a poll.
    pub fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Chunk>>> {
        self.stream.receive_next(cx)
    }

    /// Receives into few large buffers (`true`) or many small ones, as [`Stream::set_bulk`].
    pub fn set_bulk(&mut self, bulk: bool) {
        self.stream.set_bulk(bulk);
    }

    /// Puts bytes back, to be received first.
    pub fn unreceive(&mut self, chunk: Chunk) {
        self.stream.put_back(chunk);
    }
}

impl Sending<'_> {
    /// As [`Stream::send`].
    ///
    /// # Errors
    ///
    /// What `send(2)` gave for this or for earlier bytes. Nothing can be sent from then on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it is done sends none of these bytes; never a part.
    pub async fn send(&mut self, payload: impl Into<Payload>) -> io::Result<()> {
        self.ready().await?;
        self.start_send(payload)
    }

    /// Waits until [`start_send`](Self::start_send) may be called without exceeding the queue.
    ///
    /// # Errors
    ///
    /// What `send(2)` gave for earlier bytes.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn ready(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_ready(cx)).await
    }

    /// [`ready`](Self::ready) as a poll.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_sendable(cx)
    }

    /// Hands bytes over to be sent, whatever is queued.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn start_send(&mut self, payload: impl Into<Payload>) -> io::Result<()> {
        self.stream.hand_over(payload.into(), Leaves::Now)
    }

    /// Hands bytes over that are to leave together with the next ones; they wait for a
    /// [`start_send`](Self::start_send), which must follow.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn queue(&mut self, payload: impl Into<Payload>) -> io::Result<()> {
        self.stream.hand_over(payload.into(), Leaves::WithTheNext)
    }

    /// An empty buffer of the shard's, to write what is to be sent.
    pub fn output(&self) -> Output {
        self.stream.output()
    }

    /// As [`Stream::flush`].
    ///
    /// # Errors
    ///
    /// What `send(2)` gave.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.stream.poll_flushed(cx)).await
    }

    /// Whether the connection is to end, as what it was made with was replaced some time ago.
    #[cfg(feature = "http")]
    pub(crate) fn is_outlived(&self) -> bool {
        self.stream.is_outlived()
    }

    /// As [`Stream::finish`].
    pub fn finish(&mut self) {
        self.stream.end();
    }
}
