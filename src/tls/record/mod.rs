//! An established connection: records in and out, without I/O.
//!
//! rustls makes the connection (`tls/handshake`) and hands its keys over; from then on records are
//! opened in the buffers that they were received into and sealed into the memory that is sent. So
//! bulk costs the cipher and little else, and an idle connection holds two keys and no buffer. Of the
//! protocol this leaves what may come after a handshake: alerts, key updates and session tickets
//! (RFC 8446 sections 4.6, 5 and 6; RFC 5246 section 7.2).
//!
//! Flows in: received chunks, and what is to be sent. Flows out: plaintext chunks, and records. The
//! ciphers are those of rustls's provider.

mod incoming;
mod keys;
mod layer;
mod outgoing;
mod post_handshake;
mod seal;
mod unsettled;

pub(super) use self::{
    keys::{Kernel, Keys},
    layer::RecordLayer,
    post_handshake::give_up,
};

use std::{fmt, io};

use rustls::{AlertDescription, Error};

/// The header of a record: content type, version, length (RFC 8446 section 5.1).
const HEADER: usize = 5;

/// Why an established connection ended other than in order.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StreamError {
    /// A record, or what was in it, is not what the protocol allows. The peer was told so.
    Invalid(Error),
    /// The peer gave the connection up.
    AlertReceived(AlertDescription),
    /// The transport ended without the peer's close_notify: there may have been more.
    Truncated,
    /// The keys have protected as much as they safely can, and TLS 1.2 has no way to change them.
    KeysExhausted,
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamError::Invalid(error) => write!(f, "invalid TLS from the peer: {error}"),
            StreamError::AlertReceived(alert) => write!(f, "the peer sent a TLS alert: {alert:?}"),
            StreamError::Truncated => f.write_str("the connection ended without a close_notify"),
            StreamError::KeysExhausted => {
                f.write_str("the keys of a TLS 1.2 connection are used up")
            }
        }
    }
}

impl std::error::Error for StreamError {}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> io::Error {
        let kind = match error {
            StreamError::Invalid(_) => io::ErrorKind::InvalidData,
            StreamError::AlertReceived(_) => io::ErrorKind::ConnectionAborted,
            StreamError::Truncated => io::ErrorKind::UnexpectedEof,
            StreamError::KeysExhausted => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

impl From<Error> for StreamError {
    fn from(error: Error) -> StreamError {
        StreamError::Invalid(error)
    }
}

#[cfg(test)]
mod tests;
