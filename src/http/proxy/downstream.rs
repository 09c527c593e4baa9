//! A client's connection, and how it comes to its end.

use std::{
    cell::OnceCell,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::{
    connection::Connection,
    http::{
        RequestHead, ResponseHead,
        h1::HeadLimits,
        route::Scheme,
        wire::{Incoming, Outgoing},
    },
    ring::Nanoseconds,
    runtime::timeout,
    telemetry::ListenerCells,
};

use super::replay::Replay;

/// How long, and for how many bytes, what a client still sends is dropped after the last answer,
/// so that a reset does not take the answer from it.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

/// A client's connection.
pub(super) struct Downstream {
    pub(super) connection: Connection,
    pub(super) incoming: Incoming,
    pub(super) outgoing: Outgoing,
    pub(super) opened: Nanoseconds,
    pub(super) cells: Arc<ListenerCells>,
    client: Option<SocketAddr>,
    /// Once somebody wanted to know.
    server: OnceCell<Option<SocketAddr>>,
}

/// What a busy connection works with.
#[derive(Default)]
pub(super) struct Work {
    pub(super) request: RequestHead,
    pub(super) response: ResponseHead,
    pub(super) replay: Replay,
    pub(super) scratch: String,
    /// The route's name, and the target before it was rewritten; for the log only. Empty for none.
    pub(super) route: String,
    pub(super) original_path: String,
}

impl Work {
    /// Forgets what became of the request before.
    pub(super) fn begin(&mut self) {
        self.response.clear();
        self.route.clear();
        self.original_path.clear();
    }
}

/// A note, unless it is empty.
pub(super) fn noted(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

impl Downstream {
    pub(super) fn new(connection: Connection, limits: HeadLimits) -> Downstream {
        let opened = connection.now();
        let client = connection.client_address().ok().flatten();
        let cells = connection.counts();
        connection.watch_for_resets(false);
        Downstream {
            connection,
            incoming: Incoming::new(limits),
            outgoing: Outgoing::new(),
            opened,
            cells,
            client,
            server: OnceCell::new(),
        }
    }

    pub(super) fn client(&self) -> Option<SocketAddr> {
        self.client
    }

    /// The address that the client connected to.
    pub(super) fn server(&self) -> Option<SocketAddr> {
        *self.server.get_or_init(|| self.connection.server_address().ok().flatten())
    }

    /// How the client has asked for what it asks for.
    pub(super) fn scheme(&self) -> Scheme {
        if self.connection.is_secured() { Scheme::Https } else { Scheme::Http }
    }

    /// Drops what is left of a request's body, and says whether that was all of it. It does not
    /// wait for bytes.
    pub(super) fn rest_is_here(&mut self) -> bool {
        let Downstream { connection, incoming, .. } = self;
        let (mut from, _) = connection.split();
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            match incoming.poll_body(&mut from, &mut cx) {
                Poll::Ready(Ok(Some(_))) => {}
                Poll::Ready(Ok(None)) => return true,
                Poll::Ready(Err(_)) | Poll::Pending => return false,
            }
        }
    }

    /// Counts the bytes since the last call.
    pub(super) fn count(&mut self) {
        self.cells.received_bytes.add(self.incoming.take_count());
        self.cells.sent_bytes.add(self.outgoing.take_count());
    }

    /// Waits until the kernel has all that the client was sent, for at most `limit`. A connection
    /// that is dropped before is reset, so that nobody takes a part of an answer for the whole.
    /// Over TLS the client is told that this is the end.
    pub(super) async fn flush(&mut self, limit: Option<Duration>) {
        if self.connection.is_secured() {
            self.connection.finish();
        }
        // Where it fails or takes too long, the drop resets.
        let _ = timeout(limit, self.connection.flush()).await;
    }

    /// Ends the connection so that the client gets what it was sent, also if it goes on sending.
    pub(super) async fn close(mut self, limit: Option<Duration>) {
        let whole = self.rest_is_here();
        self.connection.finish();
        self.flush(limit).await;
        let mut cx = Context::from_waker(Waker::noop());
        if whole && self.connection.poll_receive(&mut cx).is_pending() {
            // Nothing lies unread that would make the close a reset.
            return;
        }
        let mut dropped = 0;
        let linger = async {
            while let Ok(Some(chunk)) = self.connection.receive().await {
                dropped += chunk.len();
                if dropped > LINGER_BYTES {
                    break;
                }
            }
        };
        let _ = timeout(LINGER, linger).await;
    }
}

impl Drop for Downstream {
    fn drop(&mut self) {
        self.count();
    }
}
