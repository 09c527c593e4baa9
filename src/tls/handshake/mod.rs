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

use rustls::{
    ClientConfig, Error, ServerConfig, client::UnbufferedClientConnection, pki_types::ServerName,
    server::UnbufferedServerConnection,
};

use super::client_hello::Reader;
use crate::net::Stream;

/// Why there is no connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The two ends cannot agree, or one does not trust the other. The peer was told which.
    Refused(Error),
    /// The connection failed below TLS.
    Transport(io::Error),
    /// The peer ended the connection before the end of the handshake, without a word.
    Closed,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandshakeError::Refused(error) => write!(f, "the TLS handshake failed: {error}"),
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
            HandshakeError::Closed => None,
        }
    }
}

/// Makes a TLS connection of a stream, as its server. The stream then carries what is inside.
///
/// `config` must allow that secrets are extracted (`enable_secret_extraction`). It has no timeout;
/// put it in a [`timeout`](crate::runtime::timeout). A peer that is refused is told why, and is given
/// a moment to read that.
///
/// # Errors
///
/// Why there is no connection. The stream is of no further use then.
///
/// # Cancel safety
///
/// None: a stream on which a handshake has begun is of no other use.
pub async fn accept(stream: &mut Stream, config: Arc<ServerConfig>) -> Result<(), HandshakeError> {
    let connection = UnbufferedServerConnection::new(config).map_err(HandshakeError::Refused)?;
    Box::pin(drive::drive(stream, connection, Some(Reader::default()))).await
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
pub async fn connect(
    stream: &mut Stream,
    config: Arc<ClientConfig>,
    server: ServerName<'static>,
) -> Result<(), HandshakeError> {
    let connection =
        UnbufferedClientConnection::new(config, server).map_err(HandshakeError::Refused)?;
    Box::pin(drive::drive(stream, connection, None)).await
}
