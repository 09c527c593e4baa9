//! The PROXY protocol, versions 1 and 2: one header before a connection's first byte, in which a proxy tells the next
//! one who the client is and whom it called.
//!
//! **In**: the bytes received so far, or two addresses. **Out**: a [`Header`] and how many bytes it took, or the bytes
//! of one. No sockets, no clock, no state: [`parse`] is asked again with all bytes when more have come. **Never** asks
//! for more bytes where none could make the header right: a peer that does not speak the protocol is found out at its
//! first wrong byte.
//!
//! The rules are those of HAProxy's `doc/proxy-protocol.txt`, "The PROXY protocol, Versions 1 & 2", revision of 2020;
//! the sections named in this module are that document's. The header is only as trustworthy as its sender: take it
//! from known proxies only.
//!
//! ```
//! use evenkeel::proxy_protocol::{Parsed, encode_v1, parse};
//!
//! let client = "192.0.2.1:4711".parse()?;
//! let server = "198.51.100.1:443".parse()?;
//! let mut bytes = encode_v1(client, server);
//! bytes.extend(b"GET /");
//! let Parsed::Done { header, consumed } = parse(&bytes)? else { panic!("all of it is there") };
//! assert_eq!(header.addresses(), Some((client, server)));
//! assert_eq!(&bytes[consumed..], b"GET /");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{error, fmt, net::SocketAddr, path::PathBuf};

mod bytes;
mod v1;
mod v2;

pub use v1::{V1_UNKNOWN, encode_v1};
pub use v2::{V2_LOCAL, encode_v2};

use bytes::{Bytes, Stop};

/// Longest header of version 1 in bytes, CRLF included (section 2.1).
pub const V1_MAX: usize = 107;

/// Longest header of version 2 in bytes that [`parse`] accepts.
///
/// The format allows 65,551. Addresses need 232 at most; the rest is for extensions such as a client certificate. A
/// caller that keeps the bytes of an unfinished header keeps at most this many a connection.
pub const V2_MAX: usize = 16 * 1024;

/// What a PROXY header says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Header {
    /// Whom an IP connection was between.
    Inet {
        /// The client.
        source: SocketAddr,
        /// The address that the client connected to.
        destination: SocketAddr,
    },
    /// Whom a unix-socket connection was between; version 2 only. Paths are cut at the first NUL, and may be empty; one
    /// that begins with NUL, an abstract name, is given as empty.
    Unix {
        /// The client.
        source: PathBuf,
        /// The socket that the client connected to.
        destination: PathBuf,
    },
    /// The sender forwards a connection and does not say whose: `UNKNOWN` of version 1, `UNSPEC` of version 2.
    Unknown,
    /// The sender connected on its own account, for a health check as a rule: `LOCAL` of version 2.
    Local,
}

impl Header {
    /// The client's address and the one it connected to; `None` where the connection's own addresses are to be used.
    pub fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        match self {
            Header::Inet { source, destination } => Some((*source, *destination)),
            _ => None,
        }
    }
}

/// What [`parse`] made of the bytes so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// All is right so far, and more is needed. Never for [`V1_MAX`] bytes or more that begin with `PROXY`, and never
    /// for [`V2_MAX`] bytes or more.
    Incomplete,
    /// The header is complete.
    Done {
        /// What it says.
        header: Header,
        /// Its length in bytes; what follows is the connection's own data.
        consumed: usize,
    },
}

/// The bytes are not a PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Position of the first byte that cannot be right, counted from 0.
    pub at: usize,
    /// What is wrong there.
    pub kind: ParseErrorKind,
}

/// What is wrong with a PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// The bytes begin neither like version 1 nor like version 2: the peer does not speak the protocol.
    Signature,
    /// The version or command is not one that exists.
    Command,
    /// The address family or transport is not one that exists.
    Family,
    /// An address or port is not written as it must be.
    Address,
    /// A separator or the line's end is missing.
    Separator,
    /// The header is longer than allowed, or too short for its addresses.
    Length,
    /// An extension (TLV) reaches beyond the header, or is malformed.
    Extension,
    /// The checksum does not fit the bytes.
    Checksum,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            ParseErrorKind::Signature => "no PROXY header begins like this",
            ParseErrorKind::Command => "unknown version or command",
            ParseErrorKind::Family => "unknown address family or transport",
            ParseErrorKind::Address => "malformed address or port",
            ParseErrorKind::Separator => "separator or line end expected",
            ParseErrorKind::Length => "wrong length",
            ParseErrorKind::Extension => "malformed extension",
            ParseErrorKind::Checksum => "wrong checksum",
        };
        write!(f, "not a PROXY protocol header: {what} (byte {})", self.at)
    }
}

impl error::Error for ParseError {}

/// Parses the header at the beginning of `bytes`, of either version. What follows it is not looked at.
///
/// # Errors
/// As soon as `bytes` holds a byte that no valid header has in its place, however little has come yet.
pub fn parse(bytes: &[u8]) -> Result<Parsed, ParseError> {
    let is_v1 = bytes.first() == Some(&b'P');
    let mut so_far = Bytes::new(if is_v1 { &bytes[..bytes.len().min(V1_MAX)] } else { bytes });
    let header = if is_v1 { v1::header(&mut so_far) } else { v2::header(&mut so_far) };
    match header {
        Ok(header) => Ok(Parsed::Done { header, consumed: so_far.position() }),
        Err(Stop::Incomplete) if is_v1 && bytes.len() >= V1_MAX => {
            Err(ParseError { at: V1_MAX - 1, kind: ParseErrorKind::Length })
        }
        Err(Stop::Incomplete) => Ok(Parsed::Incomplete),
        Err(Stop::Invalid(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests;
