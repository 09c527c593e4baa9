//! A connection: bytes in order, both ways.

#[cfg(feature = "http")]
use std::time::Instant;
use std::{
    fmt,
    future::poll_fn,
    io,
    net::SocketAddr,
    os::fd::{BorrowedFd, OwnedFd},
    sync::Arc,
    task::{Context, Poll},
};

use super::{
    layer::{Layer, Outlived},
    socket::Socket,
};
use crate::{
    ring::{Chunk, Nanoseconds, Output, Payload},
    sys::{
        delivery::Delivery,
        dial::{DialError, UpstreamOptions},
    },
    telemetry::access_log::TlsSession,
};

/// A connected stream socket (TCP or Unix) on this thread's executor, or what TLS makes of one.
///
/// Receiving gives owned [`Chunk`]s, sending takes them; no buffer lies idle in an idle stream.
/// What arrived and was not taken, and what was handed over and not sent, belongs to the stream, so
/// dropping any of its futures loses no bytes. Dropping the stream closes the connection: what
/// arrived is discarded, and what was not sent yet is not sent; see [`flush`](Self::flush).
pub struct Stream {
    socket: Socket,
    /// Boxed twice, so that a plain stream has room for one pointer only.
    layer: Option<Box<Box<dyn Layer>>>,
}

impl Stream {
    /// Takes a connected socket to this thread's executor. It must be in blocking mode: the ring
    /// waits by itself.
    ///
    /// # Panics
    ///
    /// Outside of a shard, where there is no executor.
    #[track_caller]
    pub fn adopt(socket: OwnedFd) -> Stream {
        Stream { socket: Socket::adopt(socket), layer: None }
    }

    /// Connects to an address. Dropping the future gives the attempt up.
    ///
    /// # Errors
    ///
    /// What `connect(2)` gives, or what keeps a socket from being made.
    ///
    /// # Panics
    ///
    /// Outside of a shard, where there is no executor.
    pub async fn connect(address: SocketAddr) -> io::Result<Stream> {
        let connecting = Stream::start_connect(address, &UpstreamOptions::default());
        connecting.map_err(io::Error::from)?.await
    }

    /// Starts to connect, from a socket that is made as `options` say.
    pub(crate) fn start_connect(
        destination: SocketAddr,
        options: &UpstreamOptions,
    ) -> Result<impl Future<Output = io::Result<Stream>> + use<>, DialError> {
        let socket = Socket::connect(destination, options)?;
        Ok(async move {
            poll_fn(|cx| socket.poll_connected(cx)).await?;
            Ok(Stream { socket, layer: None })
        })
    }

    /// Puts a protocol between the socket and those who receive and send from now on. Nothing may
    /// wait to be received.
    #[cfg(feature = "__tls")]
    pub(crate) fn set_layer(&mut self, layer: impl Layer) {
        self.layer = Some(Box::new(Box::new(layer)));
    }

    /// The protocol between the socket and those who receive and send, if it is this one.
    #[cfg(feature = "__tls")]
    pub(crate) fn layer<L: Layer>(&self) -> Option<&L> {
        let layer: &dyn std::any::Any = self.layer.as_deref()?.as_ref();
        layer.downcast_ref()
    }

    /// Whether there is TLS between the socket and those who receive and send.
    #[cfg(feature = "http")]
    pub(crate) fn is_secured(&self) -> bool {
        self.layer.is_some()
    }

    /// What the handshake of TLS has settled, for the access log; `None` where there is no TLS.
    pub(crate) fn tls_session(&self) -> Option<Arc<dyn TlsSession>> {
        self.layer.as_ref().map(|layer| layer.session())
    }

    /// The next bytes; `None` once the peer has ended its direction.
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
        self.receive_next(cx)
    }

    pub(super) fn receive_next(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Chunk>>> {
        match &self.layer {
            None => self.socket.poll_receive(cx),
            Some(layer) => layer.poll_receive(&self.socket, cx),
        }
    }

    /// Sends bytes, behind those that were sent before. Done when they are handed over, which waits
    /// while too much is queued; [`flush`](Self::flush) waits until they are with the kernel.
    ///
    /// # Errors
    ///
    /// What `send(2)` gave for this or for earlier bytes. Nothing can be sent from then on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it is done sends none of these bytes; never a part.
    pub async fn send(&mut self, payload: impl Into<Payload>) -> io::Result<()> {
        poll_fn(|cx| self.poll_send_ready(cx)).await?;
        self.start_send(payload)
    }

    /// Ready when [`start_send`](Self::start_send) may be called without exceeding the queue.
    pub fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_sendable(cx)
    }

    pub(super) fn poll_sendable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_sendable(cx)
    }

    /// Hands bytes over to be sent, whatever is queued.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn start_send(&mut self, payload: impl Into<Payload>) -> io::Result<()> {
        self.hand_over(payload.into(), Leaves::Now)
    }

    pub(super) fn hand_over(&self, payload: Payload, leaves: Leaves) -> io::Result<()> {
        match (&self.layer, leaves) {
            (None, Leaves::Now) => self.socket.send(payload),
            (None, Leaves::WithTheNext) => self.socket.queue(payload),
            (Some(layer), leaves) => layer.send(&self.socket, payload, leaves),
        }
    }

    /// An empty buffer of the shard's, to write what is to be sent. Its memory is used again.
    pub fn output(&self) -> Output {
        self.socket.output()
    }

    /// Waits until everything that was handed over is with the kernel.
    ///
    /// # Errors
    ///
    /// What `send(2)` gave.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// [`flush`](Self::flush) as a poll.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flushed(cx)
    }

    pub(super) fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_flush(cx)
    }

    /// Ends the sending direction once everything is sent: the peer reads the end of the stream.
    /// The receiving direction goes on. Nothing can be sent from then on.
    pub fn finish(&mut self) {
        self.end();
    }

    pub(super) fn end(&self) {
        match &self.layer {
            None => self.socket.finish(),
            Some(layer) => layer.finish(&self.socket),
        }
    }

    /// Whether what the connection was made with was replaced, so that it is to end before long.
    #[cfg(feature = "http")]
    pub(crate) fn is_superseded(&self) -> bool {
        self.ends_at().is_some()
    }

    /// Whether the connection is to end now, for that reason.
    #[cfg(feature = "http")]
    pub(super) fn is_outlived(&self) -> bool {
        self.ends_at().is_some_and(|end| end <= Instant::now())
    }

    #[cfg(feature = "http")]
    fn ends_at(&self) -> Option<Instant> {
        self.layer.as_ref()?.ends_at()
    }

    /// Waits until it is to end; `None` where that never comes.
    pub(crate) fn outlived(&self) -> Option<Outlived> {
        self.layer.as_ref()?.outlived()
    }

    /// Says right before the stream is dropped that it ends in order, where that takes a word: TLS has
    /// its close_notify. It never waits: a peer that takes nothing sees the connection end without.
    pub(crate) fn announce_end(&self) {
        if let Some(layer) = &self.layer {
            layer.announce_end(&self.socket);
        }
    }

    /// Makes the close of the connection, when this is dropped, a reset.
    pub fn reset_on_drop(&mut self) {
        self.socket.reset_on_drop();
    }

    /// Puts bytes back, to be received first.
    pub(crate) fn unreceive(&mut self, chunk: Chunk) {
        self.put_back(chunk);
    }

    pub(super) fn put_back(&self, chunk: Chunk) {
        match &self.layer {
            None => self.socket.unreceive(chunk),
            Some(layer) => layer.unreceive(chunk),
        }
    }

    /// Ready when the connection has failed, by a reset for instance, seen without receiving: with
    /// bytes still waiting to be taken, and after the end of the peer's direction.
    pub fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket.poll_broken(cx)
    }

    /// Receives into few large buffers (`true`) or many small ones. Large ones cost a bulk transfer
    /// less CPU time; they are scarce, and where none is free small ones serve.
    pub fn set_bulk(&self, bulk: bool) {
        self.socket.set_bulk(bulk);
    }

    /// How far the peer has taken what was sent. It costs a system call.
    pub(crate) fn delivery(&self) -> io::Result<Delivery> {
        self.socket.delivery()
    }

    /// Whether a reset that comes right behind bytes is to be noticed at once. It costs a poll for
    /// each connection; a protocol that is going to send something notices it then.
    pub fn watch_for_resets(&self, watched: bool) {
        self.socket.watch_for_resets(watched);
    }

    /// The time of the executor's clock at its last turn.
    pub(crate) fn now(&self) -> Nanoseconds {
        self.socket.now()
    }

    /// The address of this end; `None` where it has none that is an IP address.
    ///
    /// # Errors
    ///
    /// What `getsockname(2)` gives.
    pub fn local_address(&self) -> io::Result<Option<SocketAddr>> {
        self.socket.local_address()
    }

    /// The address of the peer; `None` where it has none that is an IP address.
    ///
    /// # Errors
    ///
    /// What `getpeername(2)` gives.
    pub fn peer_address(&self) -> io::Result<Option<SocketAddr>> {
        self.socket.peer_address()
    }

    /// Calls with the socket's descriptor, which must not be closed, received from or sent to.
    ///
    /// # Errors
    ///
    /// What `call` gives.
    pub fn with_fd<T>(&self, call: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
        self.socket.with_fd(call)
    }
}

impl AsMut<Stream> for Stream {
    fn as_mut(&mut self) -> &mut Stream {
        self
    }
}

/// When bytes that are handed over are to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaves {
    Now,
    /// Together with the next ones, which must follow.
    WithTheNext,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("local", &self.local_address().ok().flatten())
            .field("peer", &self.peer_address().ok().flatten())
            .finish()
    }
}
