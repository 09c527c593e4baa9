//! What a line is made from.

use std::{fmt, net::SocketAddr};

use super::super::outcome::Outcome;

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
    pub response: Option<Fields<'a>>,
    /// Where the client was connecting to: the original destination if there is one, else this end
    /// of its connection.
    pub downstream_local: Option<SocketAddr>,
    /// The client.
    pub downstream_remote: Option<SocketAddr>,
    /// The server name that the client's TLS handshake asked for.
    pub server_name: Option<&'a str>,
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
    pub fields: Fields<'a>,
}

/// Finds the value of a field by its name, which is compared without regard to case: the first one
/// where there are several.
#[derive(Clone, Copy)]
pub struct Fields<'a>(&'a dyn Fn(&str) -> Option<&'a [u8]>);

impl<'a> Fields<'a> {
    /// The fields that `find` finds.
    #[must_use]
    pub fn new(find: &'a dyn Fn(&str) -> Option<&'a [u8]>) -> Fields<'a> {
        Fields(find)
    }

    /// No fields.
    #[must_use]
    pub fn none() -> Fields<'a> {
        Fields(&|_| None)
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a [u8]> {
        (self.0)(name)
    }
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fields").finish_non_exhaustive()
    }
}
