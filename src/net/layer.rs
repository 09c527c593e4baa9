//! What may stand between a socket and those who use its stream: TLS.
//!
//! Flows in: what the socket receives, and what the stream's user sends. Flows out: the same, as the
//! other side understands it. A stream without one costs its users a null check.

use std::{
    any::Any,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::{socket::Socket, stream::Leaves};
use crate::{
    ring::{Chunk, Payload},
    telemetry::access_log::TlsSession,
};

/// Ready when a connection is to end. Tells for how long it can wait for a good moment.
pub(crate) type Outlived = Pin<Box<dyn Future<Output = Duration>>>;

/// A protocol on top of a socket that carries a stream of bytes again.
pub(crate) trait Layer: Any {
    /// As [`Stream::poll_receive`](super::Stream::poll_receive).
    fn poll_receive(
        &self,
        socket: &Socket,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Chunk>>>;

    /// What its handshake has settled.
    fn session(&self) -> Arc<dyn TlsSession>;

    /// When the connection is to end, as what it was made with was replaced; `None` as long as that has
    /// not happened, and where it does not matter.
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only HTTP asks"))]
    fn ends_at(&self) -> Option<Instant>;

    /// Waits for that moment; `None` where it never comes.
    fn outlived(&self) -> Option<Outlived>;

    /// Puts bytes back, to be received first.
    fn unreceive(&self, chunk: Chunk);

    /// Hands bytes over to be sent. Backpressure is the socket's.
    fn send(&self, socket: &Socket, payload: Payload, leaves: Leaves) -> io::Result<()>;

    /// Ends the sending direction after what was handed over.
    fn finish(&self, socket: &Socket);

    /// Says that this is the end, right before the connection is closed: at once or not at all.
    fn announce_end(&self, socket: &Socket);
}
