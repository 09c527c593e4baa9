//! A stream as libraries know streams that are polled for bytes: `AsyncRead` and `AsyncWrite`.
//!
//! Flows in: chunks, and slices that are to be written. Flows out: bytes, copied into the reader's
//! buffer or lent, and outputs of the shard's. It owns the stream and the chunk that is being read, and
//! never anything that was written: that belongs to the stream as soon as it was taken.

use std::{
    io::{self, IoSlice},
    task::{Context, Poll, ready},
};

use super::Stream;
use crate::ring::Chunk;

#[cfg(feature = "futures-io")]
mod futures;
#[cfg(feature = "tokio")]
mod tokio;

/// The most that one write takes: a full record of TLS. The shard uses the memory again.
const LARGEST_WRITE: usize = 16 << 10;

/// A [`Stream`], or a [`Connection`](crate::Connection), for libraries that want `AsyncRead`,
/// `AsyncBufRead` and `AsyncWrite`: those of `futures_io` with feature `futures-io`, those of tokio with
/// feature `tokio`. TLS makes no difference.
///
/// - **Reading** copies into the reader's buffer; `AsyncBufRead` lends the bytes where they were
///   received. The chunk that is being read is all that it holds of what arrives.
/// - **Writing** takes up to 16 KiB at a time and hands it to the stream at once, so nothing waits for a
///   flush. Over TLS each write is a record: write what belongs together in one piece, vectored, or
///   through a buffer. A peer that does not read stops the writer, as [`Stream::send`] says.
/// - **Flushing** is done when everything is with the kernel.
/// - **Closing** (tokio: shutting down) ends the sending direction behind all that was written, with a
///   close_notify where there is TLS, and is done when that is with the kernel. Reading goes on. Writing
///   fails with [`BrokenPipe`](io::ErrorKind::BrokenPipe) from then on.
///
/// Errors are those of the stream, of their kinds. Over TLS an end that the peer did not announce is
/// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof), what is no TLS
/// [`InvalidData`](io::ErrorKind::InvalidData), and an alert
/// [`ConnectionAborted`](io::ErrorKind::ConnectionAborted).
///
/// Nothing is lost where a future that reads or writes is dropped. Dropping this closes the connection,
/// as dropping the stream does: what was written and not flushed is not sent.
///
/// Like the stream it belongs to its shard: it is not `Send`. Libraries that serve a connection in the
/// task that calls them take it (hyper for HTTP/1, tokio-rustls, codecs); what wants to spawn it on a
/// runtime of several threads, such as tonic's server, does not. There is no tokio runtime on a shard:
/// with its traits, a library must not ask for its timers, its sockets or `tokio::spawn`.
///
#[cfg_attr(feature = "futures-io", doc = "```no_run")]
#[cfg_attr(not(feature = "futures-io"), doc = "```ignore")]
/// use evenkeel::{Connection, net::PollStream, shard::Shard};
/// use futures_lite::{AsyncBufReadExt, AsyncWriteExt};
///
/// /// Answers every line with its length.
/// async fn serve(connection: Connection) -> std::io::Result<()> {
///     let mut stream = PollStream::new(connection);
///     let mut line = String::new();
///     while stream.read_line(&mut line).await? > 0 {
///         stream.write_all(format!("{}\n", line.trim_end().len()).as_bytes()).await?;
///         line.clear();
///     }
///     stream.close().await
/// }
/// # fn listener() -> evenkeel::Result<evenkeel::Listener> {
/// let service = |_: &Shard| {
///     async |connection: Connection| {
///         if let Err(error) = serve(connection).await {
///             eprintln!("a connection has failed: {error}");
///         }
///     }
/// };
/// # evenkeel::Listener::bind("127.0.0.1:8080").map(|listener| listener.serve(service))
/// # }
/// ```
///
/// `examples/hyper.rs` serves HTTP with hyper on our shards.
#[derive(Debug)]
pub struct PollStream<S> {
    stream: S,
    /// What is being read. Never empty.
    chunk: Option<Chunk>,
}

impl<S: AsMut<Stream>> PollStream<S> {
    /// Reads from and writes to `stream`: a [`Stream`], a [`Connection`](crate::Connection), or a
    /// reference to either.
    pub fn new(stream: S) -> PollStream<S> {
        PollStream { stream, chunk: None }
    }

    /// The stream, to ask it something.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// The stream, which receives first what was not read.
    pub fn into_inner(mut self) -> S {
        if let Some(chunk) = self.chunk {
            self.stream.as_mut().unreceive(chunk);
        }
        self.stream
    }

    /// What can be read now: nothing at the end of the peer's direction only.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        while self.chunk.is_none() {
            match ready!(self.stream.as_mut().poll_receive(cx))? {
                Some(chunk) => self.chunk = Some(chunk).filter(|chunk| !chunk.is_empty()),
                None => break,
            }
        }
        Poll::Ready(Ok(self.chunk.as_deref().unwrap_or_default()))
    }

    /// Says that so many of these bytes were read.
    fn read(&mut self, count: usize) {
        if let Some(chunk) = &mut self.chunk {
            chunk.advance(count);
        }
        self.chunk.take_if(|chunk| chunk.is_empty());
    }

    fn poll_write_slices(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = self.stream.as_mut();
        ready!(stream.poll_send_ready(cx))?;
        let mut output = stream.output();
        for slice in slices {
            let room = LARGEST_WRITE - output.len();
            output.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        let written = output.len();
        stream.start_send(output)?;
        Poll::Ready(Ok(written))
    }

    fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(cx)
    }

    fn poll_finished(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().finish();
        self.stream.as_mut().poll_flush(cx)
    }
}
