//! A connection: bytes in order, both ways.

use std::{
    cell::Cell,
    fmt,
    future::poll_fn,
    io,
    net::SocketAddr,
    os::fd::{BorrowedFd, OwnedFd},
    rc::Rc,
    task::{Context, Poll},
};

use crate::{
    ring::{Chunk, Key, LARGE, Nanoseconds, Output, Payload, SMALL},
    runtime::Executor,
    sys::{
        delivery::Delivery,
        dial::{DialError, UpstreamOptions},
    },
};

/// Bytes that may wait on either side of a stream: received and not taken, or handed over and not
/// sent. In user space; the kernel's socket buffers come on top.
const CREDIT: u32 = 64 << 10;
/// The same in the bulk gear.
const BULK_CREDIT: u32 = 2 << 20;

/// A connected stream socket (TCP or Unix) on this thread's executor.
///
/// Receiving gives owned [`Chunk`]s, sending takes them; no buffer lies idle in an idle stream.
/// What arrived and was not taken, and what was handed over and not sent, belongs to the stream, so
/// dropping any of its futures loses no bytes. Dropping the stream closes the connection: what
/// arrived is discarded, and what was not sent yet is not sent; see [`flush`](Self::flush).
pub struct Stream {
    pub(super) executor: Rc<Executor>,
    pub(super) key: Key,
    bulk: Cell<bool>,
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
        let executor = Executor::current();
        let key = executor.reactor().adopt_stream(socket, CREDIT);
        Stream { executor, key, bulk: Cell::new(false) }
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
        let executor = Executor::current();
        let key = executor.reactor().connect(destination, options, CREDIT)?;
        let stream = Stream { executor, key, bulk: Cell::new(false) };
        Ok(async move {
            poll_fn(|cx| stream.executor.reactor().poll_connected(stream.key, cx)).await?;
            Ok(stream)
        })
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
        self.executor.reactor().poll_receive(self.key, cx)
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
        let limit = if self.bulk.get() { BULK_CREDIT } else { CREDIT };
        self.executor.reactor().poll_sent(self.key, limit as usize, cx)
    }

    /// Hands bytes over to be sent, whatever is queued.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn start_send(&mut self, payload: impl Into<Payload>) -> io::Result<()> {
        self.executor.reactor().send(self.key, payload.into())
    }

    /// An empty buffer of the shard's, to write what is to be sent. Its memory is used again.
    pub fn output(&self) -> Output {
        self.executor.reactor().output()
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
        self.executor.reactor().poll_sent(self.key, 1, cx)
    }

    /// Ends the sending direction once everything is sent: the peer reads the end of the stream.
    /// The receiving direction goes on. Nothing can be sent from then on.
    pub fn finish(&mut self) {
        self.executor.reactor().finish(self.key);
    }

    /// Makes the close of the connection, when this is dropped, a reset.
    pub fn reset_on_drop(&mut self) {
        // It fails only where there is no connection any more.
        let _ = self.executor.reactor().reset_on_close(self.key);
    }

    /// Puts bytes back, to be received first.
    pub(crate) fn unreceive(&mut self, chunk: Chunk) {
        self.executor.reactor().unreceive(self.key, chunk);
    }

    /// Ready when the connection has failed, by a reset for instance, seen without receiving: with
    /// bytes still waiting to be taken, and after the end of the peer's direction.
    pub fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.executor.reactor().poll_broken(self.key, cx)
    }

    /// Receives into few large buffers (`true`) or many small ones. Large ones cost a bulk transfer
    /// less CPU time; they are scarce, and where none is free small ones serve.
    pub fn set_bulk(&self, bulk: bool) {
        if self.bulk.replace(bulk) != bulk {
            let (pool, credit) = if bulk { (LARGE, BULK_CREDIT) } else { (SMALL, CREDIT) };
            self.executor.reactor().use_pool(self.key, pool, credit);
        }
    }

    /// How far the peer has taken what was sent. It costs a system call.
    pub(crate) fn delivery(&self) -> io::Result<Delivery> {
        self.executor.reactor().delivery(self.key)
    }

    /// Whether a reset that comes right behind bytes is to be noticed at once. It costs a poll for
    /// each connection; a protocol that is going to send something notices it then.
    pub fn watch_for_resets(&self, watched: bool) {
        self.executor.reactor().watch(self.key, watched);
    }

    /// The time of the executor's clock at its last turn.
    pub(crate) fn now(&self) -> Nanoseconds {
        self.executor.reactor().now()
    }

    /// The address of this end; `None` where it has none that is an IP address.
    ///
    /// # Errors
    ///
    /// What `getsockname(2)` gives.
    pub fn local_address(&self) -> io::Result<Option<SocketAddr>> {
        Ok(self.executor.reactor().local_address(self.key)?.as_socket())
    }

    /// The address of the peer; `None` where it has none that is an IP address.
    ///
    /// # Errors
    ///
    /// What `getpeername(2)` gives.
    pub fn peer_address(&self) -> io::Result<Option<SocketAddr>> {
        Ok(self.executor.reactor().peer_address(self.key)?.as_socket())
    }

    /// Calls with the socket's descriptor, which must not be closed, received from or sent to.
    ///
    /// # Errors
    ///
    /// What `call` gives.
    pub fn with_fd<T>(&self, call: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
        self.executor.reactor().call_with_fd(self.key, call)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.executor.reactor().release(self.key);
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("local", &self.local_address().ok().flatten())
            .field("peer", &self.peer_address().ok().flatten())
            .finish()
    }
}
