//! A connected socket in a slot of the reactor: what a stream is without a layer.

use std::{
    io,
    net::SocketAddr,
    os::fd::{BorrowedFd, OwnedFd},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use rustix::net::SendFlags;

use crate::{
    ring::{CREDIT, Chunk, Key, Nanoseconds, Output, Payload},
    runtime::Executor,
    sys::{
        delivery::Delivery,
        dial::{DialError, UpstreamOptions},
    },
};

/// The handle of a slot that holds a connected, or connecting, socket. Dropping it closes the
/// connection. What its calls do is said at [`Stream`](super::Stream).
pub(crate) struct Socket {
    executor: Rc<Executor>,
    key: Key,
}

impl Socket {
    #[track_caller]
    pub(super) fn adopt(socket: OwnedFd) -> Socket {
        let executor = Executor::current();
        let key = executor.reactor().adopt_stream(socket, CREDIT);
        Socket { executor, key }
    }

    pub(super) fn connect(
        destination: SocketAddr,
        options: &UpstreamOptions,
    ) -> Result<Socket, DialError> {
        let executor = Executor::current();
        let key = executor.reactor().connect(destination, options, CREDIT)?;
        Ok(Socket { executor, key })
    }

    pub(super) fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.executor.reactor().poll_connected(self.key, cx)
    }

    pub(crate) fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Chunk>>> {
        self.executor.reactor().poll_receive(self.key, cx)
    }

    pub(super) fn unreceive(&self, chunk: Chunk) {
        self.executor.reactor().unreceive(self.key, chunk);
    }

    pub(super) fn poll_sendable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.executor.reactor().poll_sendable(self.key, cx)
    }

    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.executor.reactor().poll_flushed(self.key, cx)
    }

    pub(crate) fn send(&self, payload: Payload) -> io::Result<()> {
        self.executor.reactor().send(self.key, payload)
    }

    pub(crate) fn queue(&self, payload: Payload) -> io::Result<()> {
        self.executor.reactor().queue(self.key, payload)
    }

    pub(crate) fn output(&self) -> Output {
        self.executor.reactor().output()
    }

    /// Sends at once, if nothing is in front of it and the kernel has room. For a connection that is
    /// about to be dropped, which would not wait for an operation.
    #[cfg_attr(not(feature = "__tls"), expect(dead_code, reason = "only TLS has a last word"))]
    pub(crate) fn send_at_once(&self, bytes: &[u8]) {
        let mut cx = Context::from_waker(Waker::noop());
        if self.poll_flush(&mut cx).is_ready() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            // Whoever is gone needs to be told nothing.
            let _ = self.with_fd(|fd| Ok(rustix::net::send(fd, bytes, flags)?));
        }
    }

    pub(crate) fn finish(&self) {
        self.executor.reactor().finish(self.key);
    }

    pub(super) fn reset_on_drop(&self) {
        // It fails only where there is no connection any more.
        let _ = self.executor.reactor().reset_on_close(self.key);
    }

    pub(super) fn poll_broken(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.executor.reactor().poll_broken(self.key, cx)
    }

    pub(super) fn set_bulk(&self, bulk: bool) {
        self.executor.reactor().set_bulk(self.key, bulk);
    }

    pub(super) fn delivery(&self) -> io::Result<Delivery> {
        self.executor.reactor().delivery(self.key)
    }

    pub(super) fn watch_for_resets(&self, watched: bool) {
        self.executor.reactor().watch(self.key, watched);
    }

    pub(crate) fn now(&self) -> Nanoseconds {
        self.executor.reactor().now()
    }

    pub(super) fn local_address(&self) -> io::Result<Option<SocketAddr>> {
        Ok(self.executor.reactor().local_address(self.key)?.as_socket())
    }

    pub(super) fn peer_address(&self) -> io::Result<Option<SocketAddr>> {
        Ok(self.executor.reactor().peer_address(self.key)?.as_socket())
    }

    pub(super) fn with_fd<T>(
        &self,
        call: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        self.executor.reactor().call_with_fd(self.key, call)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.executor.reactor().release(self.key);
    }
}
