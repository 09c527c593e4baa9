//! Handshakes of which the server has yet to say how they ended.
//!
//! In TLS 1.3 a client is done before the server has seen its certificate (RFC 8446 section 2), and a
//! refusal comes behind the handshake, as an alert. So such a handshake is counted when the first
//! records come from the server: whatever they say if it is no alert, the server goes on.

use std::{sync::Arc, time::Duration};

use rustls::Error;

use super::StreamError;
use crate::{
    telemetry::{HandshakeResult, TlsCells},
    tls::Reason,
};

/// A handshake to be counted. Where it is dropped nobody has refused it, and it counts as one that
/// succeeded.
pub(super) struct Unsettled {
    cells: Arc<TlsCells>,
    result: Result<HandshakeResult, Reason>,
    took: Duration,
}

impl Unsettled {
    pub(super) fn new(cells: Arc<TlsCells>, result: HandshakeResult, took: Duration) -> Unsettled {
        Unsettled { cells, result: Ok(result), took }
    }

    /// The connection has ended so, and nothing came before.
    pub(super) fn fail(mut self, error: &StreamError) {
        self.result = Err(match error {
            StreamError::AlertReceived(alert) => {
                match Reason::from(&Error::AlertReceived(*alert)) {
                    Reason::RefusedByPeer => Reason::RefusedByPeer,
                    // Version, cipher suite and protocol are agreed upon by now.
                    _ => Reason::Alert,
                }
            }
            StreamError::Invalid(error) => error.into(),
            StreamError::Truncated | StreamError::KeysExhausted => Reason::Closed,
        });
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        self.cells.ended(self.result, self.took);
    }
}
