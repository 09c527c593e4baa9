//! What a line is made from.

use std::{fmt, net::SocketAddr};

use super::{super::outcome::Outcome, tls::TlsSession};

/// One line's worth: a view of what its owner has anyway. Make one with [`new`](Self::new) and set
/// what there is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Entry<'a> {
    /// How it went.
    pub outcome: &'a Outcome<'a>,
    /// The request; `None` for a relayed connection, and for a request whose head was not understood.
    pub request: Option<Request<'a>>,
    /// The fields of the answer that the client was sent.
    pub response: Option<&'a dyn Fields>,
    /// Where the client was connecting to: the original destination if there is one, else this end
    /// of its connection.
    pub downstream_local: Option<SocketAddr>,
    /// The client.
    pub downstream_remote: Option<SocketAddr>,
    /// The server name that the client asked for, where the TLS that it did so in ends elsewhere.
    pub server_name: Option<&'a str>,
    /// What TLS has settled with the client, where it ends here.
    pub downstream_tls: Option<&'a dyn TlsSession>,
    /// What TLS has settled with the upstream.
    pub upstream_tls: Option<&'a dyn TlsSession>,
}

impl<'a> Entry<'a> {
    /// An entry that knows the outcome only.
    #[must_use]
    pub const fn new(outcome: &'a Outcome<'a>) -> Entry<'a> {
        Entry {
            outcome,
            request: None,
            response: None,
            downstream_local: None,
            downstream_remote: None,
            server_name: None,
            downstream_tls: None,
            upstream_tls: None,
        }
    }
}

/// A request, as it was sent on.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query, as they were sent on.
    pub path: &'a [u8],
    /// Path and query as the client sent them, where a route rewrote them.
    pub original_path: Option<&'a [u8]>,
    /// The authority.
    pub authority: &'a [u8],
    /// `HTTP/1.1` and the like.
    pub protocol: &'a str,
    /// The other fields.
    pub fields: &'a dyn Fields,
}

/// The fields of a head, where they are.
///
/// Also implemented for slices of names and values, and for `()`, which has none.
pub trait Fields {
    /// The value of the field of this name, which is in lower case and is compared without regard to
    /// case: the first one where there are several.
    fn field(&self, name: &str) -> Option<&[u8]>;
}

impl Fields for () {
    fn field(&self, _: &str) -> Option<&[u8]> {
        None
    }
}

impl Fields for &[(&str, &[u8])] {
    fn field(&self, name: &str) -> Option<&[u8]> {
        let (_, value) = self.iter().find(|(other, _)| other.eq_ignore_ascii_case(name))?;
        Some(value)
    }
}

impl fmt::Debug for dyn Fields + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fields").finish_non_exhaustive()
    }
}
