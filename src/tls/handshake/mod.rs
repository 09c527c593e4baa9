//! From a connected stream to an established one.
//!
//! rustls is fed with what arrives and says what to send. When it is done, its keys go over to
//! [`record`](super::record) and its own state is freed.
//!
//! A handshake costs a shard as much as a few hundred requests, so a flood of them must not stand in
//! the way of connections that are established: see [`pace`].

mod drive;
mod pace;
mod side;

use std::{fmt, io, sync::Arc};

use rustls::{Error, client::UnbufferedClientConnection, server::UnbufferedServerConnection};

use super::{
    ClientCredentials, Reason, ServerCredentials, client_hello::Reader, established::Used,
};
use crate::net::Stream;

/// Why there is no connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The two ends cannot agree, or one does not trust the other. The peer was told which.
    Refused(Error),
    /// The peer is who it says, and may not be here. It was told so.
    NotAllowed(Reason),
    /// The connection failed below TLS.
    Transport(io::Error),
    /// The peer ended the connection before the end of the handshake, without a word.
    Closed,
}

impl HandshakeError {
    /// The same as a label of the metrics.
    pub fn reason(&self) -> Reason {
        match self {
            HandshakeError::Refused(error) => error.into(),
            HandshakeError::NotAllowed(reason) => *reason,
            HandshakeError::Transport(_) | HandshakeError::Closed => Reason::Closed,
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandshakeError::Refused(error) => write!(f, "the TLS handshake failed: {error}"),
            HandshakeError::NotAllowed(reason) => write!(f, "the peer is refused: {reason}"),
            HandshakeError::Transport(error) => {
                write!(f, "the connection failed in the TLS handshake: {error}")
            }
            HandshakeError::Closed => {
                f.write_str("the peer closed the connection in the TLS handshake")
            }
        }
    }
}

impl std::error::Error for HandshakeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            HandshakeError::Refused(error) => Some(error),
            HandshakeError::Transport(error) => Some(error),
            HandshakeError::NotAllowed(_) | HandshakeError::Closed => None,
        }
    }
}

/// Makes a TLS connection of a stream, as its server. The stream then carries what is inside, and
/// tells by [`Stream::tls`] what was settled.
///
/// It has no timeout: put it in a [`timeout`](crate::runtime::timeout). A peer that is refused is told
/// why, and is given a moment to read that.
///
/// # Errors
///
/// Why there is no connection. The stream is of no further use then.
///
/// # Cancel safety
///
/// None: a stream on which a handshake has begun is of no other use.
///
/// # Panics
///
/// Outside of a shard, where there is no executor.
pub async fn accept(
    stream: &mut Stream,
    credentials: &ServerCredentials,
) -> Result<(), HandshakeError> {
    let snapshot = credentials.current();
    let connection = UnbufferedServerConnection::new(Arc::clone(snapshot.config()))
        .map_err(HandshakeError::Refused)?;
    let hello = Some(Reader::default());
    let used = Used::Server(Arc::clone(&snapshot));
    Box::pin(drive::drive(stream, connection, hello, used, |peer| snapshot.judge(peer))).await
}

/// Makes a TLS connection of a stream, as its client. See [`accept`].
///
/// # Errors
///
/// Why there is no connection. The stream is of no further use then.
///
/// # Cancel safety
///
/// None: a stream on which a handshake has begun is of no other use.
///
/// # Panics
///
/// Outside of a shard, where there is no executor.
pub async fn connect(
    stream: &mut Stream,
    credentials: &ClientCredentials,
) -> Result<(), HandshakeError> {
    let snapshot = credentials.current();
    let config = Arc::clone(snapshot.config());
    let connection = UnbufferedClientConnection::new(config, credentials.server_name())
        .map_err(HandshakeError::Refused)?;
    let used = Used::Client(Arc::clone(&snapshot));
    Box::pin(drive::drive(stream, connection, None, used, |peer| snapshot.judge(peer))).await
}
