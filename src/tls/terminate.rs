//! TLS in front of any service.
//!
//! Flows in: connections, whose clients speak TLS or, where that is allowed, do not. Flows out: the
//! same connections with what is inside of the TLS, to the service behind. Nothing that came before
//! the end of the handshake is answered or given on. It counts every handshake.

use std::{
    cell::OnceCell,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{HandshakeError, Reason, ServerCredentials, accept};
use crate::{
    connection::Connection,
    net::Stream,
    runtime::timeout,
    service::{Service, ServiceFactory},
    shard::Shard,
    telemetry::{CloseReason, TlsCells},
};

/// How long a handshake may take unless it is told.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What a client begins TLS with: the content type of its first record, and the major version (RFC
/// 8446 section 5.1).
pub(super) const HANDSHAKE_RECORD: [u8; 2] = [22, 3];

/// Terminates TLS in front of `service`, which then serves what is inside.
///
/// ```no_run
/// # use evenkeel::{Listener, Relay, tls};
/// # fn listener(credentials: tls::ServerCredentials) -> evenkeel::Result<Listener> {
/// let service = tls::terminate(credentials, Relay::to(["127.0.0.1:8080"]));
/// # Listener::bind("0.0.0.0:8443").map(|listener| listener.serve(service))
/// # }
/// ```
pub fn terminate<S>(credentials: ServerCredentials, service: S) -> Terminate<S> {
    Terminate { credentials, service, handshake: Some(HANDSHAKE), permissive: None }
}

/// A service behind TLS: see [`terminate`].
#[derive(Clone, Debug)]
#[must_use = "give it to a listener"]
pub struct Terminate<S> {
    credentials: ServerCredentials,
    service: S,
    handshake: Option<Duration>,
    permissive: Option<Duration>,
}

impl<S> Terminate<S> {
    /// How long a handshake may take; `None`: as long as it takes. Default: 10 s.
    pub fn handshake_timeout(mut self, limit: Option<Duration>) -> Terminate<S> {
        self.handshake = limit;
        self
    }

    /// Serves connections that do not begin with TLS as well. They are told apart by their first two
    /// bytes. One on which nothing arrives within this time goes to the service as it is, since its
    /// server may be the one to speak first.
    pub fn permissive(mut self, within: Duration) -> Terminate<S> {
        self.permissive = Some(within);
        self
    }
}

impl<S: ServiceFactory> ServiceFactory for Terminate<S> {
    type Service = TerminateOnShard<S::Service>;

    fn make(&self, shard: &Shard) -> Self::Service {
        TerminateOnShard {
            credentials: self.credentials.clone(),
            service: self.service.make(shard),
            handshake: self.handshake,
            permissive: self.permissive,
            cells: OnceCell::new(),
        }
    }

    fn needs_original_destination(&self) -> bool {
        self.service.needs_original_destination()
    }

    fn check(&self) -> Result<(), String> {
        self.service.check()
    }
}

/// A [`Terminate`] on one shard.
#[derive(Debug)]
pub struct TerminateOnShard<S> {
    credentials: ServerCredentials,
    service: S,
    handshake: Option<Duration>,
    permissive: Option<Duration>,
    /// Those of the listener, which its first connection names.
    cells: OnceCell<Arc<TlsCells>>,
}

impl<S: Service> Service for TerminateOnShard<S> {
    async fn serve(&self, mut connection: Connection) {
        // Boxed, so that a served connection does not keep the room that the handshake needed.
        let ready: Pin<Box<dyn Future<Output = bool>>> = Box::pin(self.make_ready(&mut connection));
        if ready.await {
            self.service.serve(connection).await;
        }
    }
}

impl<S> TerminateOnShard<S> {
    /// Whether the connection can be served.
    async fn make_ready(&self, connection: &mut Connection) -> bool {
        if let Some(within) = self.permissive
            && !begins_with_tls(connection.uncounted(), within).await
        {
            return true;
        }
        connection.mark_served();
        let begun = Instant::now();
        let shaking = accept(connection.uncounted(), &self.credentials);
        let shaken = match timeout(self.handshake, shaking).await {
            Ok(shaken) => shaken.map_err(Failed::from),
            Err(_) => Err(Failed { reason: Reason::Timeout, error: None }),
        };
        let cells = self.cells(connection);
        match shaken {
            Ok(()) => {
                cells.ended(Ok(connection.handshake_result()), begun.elapsed());
                true
            }
            Err(failed) => {
                cells.ended(Err(failed.reason), begun.elapsed());
                self.log(connection, &failed);
                connection.set_close_reason(CloseReason::Protocol);
                false
            }
        }
    }

    fn cells(&self, connection: &Connection) -> &TlsCells {
        self.cells.get_or_init(|| {
            let shard = connection.shard();
            shard.registry().tls_listener(connection.listener(), shard.index())
        })
    }

    fn log(&self, connection: &Connection, failed: &Failed) {
        connection.shard().log_peer(|suppressed| {
            let error = failed.error.as_ref().map(tracing::field::display);
            tracing::info!(
                listener = connection.listener(),
                reason = failed.reason.as_str(),
                error,
                suppressed,
                "a TLS handshake with a client failed"
            );
        });
    }
}

struct Failed {
    reason: Reason,
    error: Option<HandshakeError>,
}

impl From<HandshakeError> for Failed {
    fn from(error: HandshakeError) -> Failed {
        Failed { reason: error.reason(), error: Some(error) }
    }
}

/// Whether a connection begins with TLS. What is looked at is received again.
async fn begins_with_tls(stream: &mut Stream, within: Duration) -> bool {
    let mut seen = Vec::new();
    let look = async {
        while let Ok(Some(chunk)) = stream.receive().await {
            seen.push(chunk);
            if let Some(is_tls) = is_tls(seen.iter().flat_map(|chunk| chunk.iter().copied())) {
                return is_tls;
            }
        }
        false
    };
    let begins = timeout(within, look).await.unwrap_or(false);
    for chunk in seen.into_iter().rev() {
        stream.unreceive(chunk);
    }
    begins
}

/// What the first bytes of a connection say; `None` where they are too few.
fn is_tls(mut bytes: impl Iterator<Item = u8>) -> Option<bool> {
    if bytes.next()? != HANDSHAKE_RECORD[0] {
        return Some(false);
    }
    Some(bytes.next()? == HANDSHAKE_RECORD[1])
}

#[cfg(test)]
mod tests {
    use super::is_tls;

    #[test]
    fn two_bytes_tell() {
        assert_eq!(is_tls([].into_iter()), None);
        for first in 0..=u8::MAX {
            let one = (first != 22).then_some(false);
            assert_eq!(is_tls([first].into_iter()), one);
            for second in 0..=u8::MAX {
                let both = Some((first, second) == (22, 3));
                assert_eq!(is_tls([first, second].into_iter()), both);
                assert_eq!(is_tls([first, second, 0].into_iter()), both);
            }
        }
    }
}
