//! The head of a request.

use super::{Authority, BodyLength};
use crate::http::Headers;
use http::{Method, Version};
use std::fmt;

/// The head of a request: what is asked, of whom, and how the rest of the message lies.
///
/// Made to be reused, see [`clear`](Self::clear). A new one is `GET /` in HTTP/1.1 to nobody.
#[derive(Debug, Clone)]
pub struct RequestHead {
    pub(in crate::http) method: Method,
    pub(in crate::http) version: Version,
    pub(in crate::http) scheme: Option<&'static str>,
    /// Empty for CONNECT only.
    path_and_query: String,
    path_length: usize,
    authority: String,
    pub(in crate::http) headers: Headers,
    pub(in crate::http) body: BodyLength,
    pub(in crate::http) keep_alive: bool,
    pub(in crate::http) expects_continue: bool,
    pub(in crate::http) te_trailers: bool,
    /// Empty if none is asked for.
    pub(in crate::http) upgrade: String,
    pub(in crate::http) hop_by_hop: String,
}

impl Default for RequestHead {
    fn default() -> Self {
        Self {
            method: Method::GET,
            version: Version::HTTP_11,
            scheme: None,
            path_and_query: String::from("/"),
            path_length: 1,
            authority: String::new(),
            headers: Headers::new(),
            body: BodyLength::None,
            keep_alive: true,
            expects_continue: false,
            te_trailers: false,
            upgrade: String::new(),
            hop_by_hop: String::new(),
        }
    }
}

impl RequestHead {
    /// `GET /` in HTTP/1.1, without an authority, fields and body.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// As new, and the memory is kept.
    pub fn clear(&mut self) {
        self.method = Method::GET;
        self.version = Version::HTTP_11;
        self.scheme = None;
        self.store_path("/");
        self.authority.clear();
        self.headers.clear();
        self.body = BodyLength::None;
        self.keep_alive = true;
        self.expects_continue = false;
        self.te_trailers = false;
        self.upgrade.clear();
        self.hop_by_hop.clear();
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The version that the client speaks: HTTP/1.0 or HTTP/1.1.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The path, as it was sent: not decoded, not normalized. It starts with `/`, but for `*`, and for
    /// CONNECT, which has none (it is empty then).
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path_and_query[..self.path_length]
    }

    /// What follows the first `?` of the target.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.path_and_query.get(self.path_length + 1..)
    }

    /// Path and query as one, as they are sent on; `*` for [`is_asterisk`](Self::is_asterisk).
    #[must_use]
    pub fn path_and_query(&self) -> &str {
        &self.path_and_query
    }

    /// Whether the server as a whole is meant: `OPTIONS *` (RFC 9112 section 3.2.4).
    #[must_use]
    pub fn is_asterisk(&self) -> bool {
        self.path_and_query == "*"
    }

    /// Who is asked: host, and port if one was given, from the target in absolute form or else from
    /// `Host`. Spelled as it came. Empty only for HTTP/1.0 without `Host`.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// `http` or `https`, if the target had the absolute form.
    #[must_use]
    pub fn scheme(&self) -> Option<&'static str> {
        self.scheme
    }

    /// The fields that are forwarded.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The fields that are forwarded, to be changed.
    pub fn headers_mut(&mut self) -> &mut Headers {
        &mut self.headers
    }

    /// How long the body is that follows.
    #[must_use]
    pub fn body(&self) -> BodyLength {
        self.body
    }

    /// Whether the client keeps its connection after this exchange.
    #[must_use]
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Whether the client may wait for a 100 before it sends the body (RFC 9110 section 10.1.1).
    /// Never for HTTP/1.0, nor without a body.
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// Takes the expectation away, so that the upstream is not told of it: for who has sent the 100
    /// itself.
    pub fn drop_expectation(&mut self) {
        self.expects_continue = false;
    }

    /// The protocol that the client asks to change to, such as `websocket`, spelled as it came.
    ///
    /// Only for a GET in HTTP/1.1 without a body whose `Connection` names `upgrade` and that asks for
    /// one single protocol. Other versions of HTTP (`h2c`) are never given: what a tunnel carries is
    /// not looked at.
    #[must_use]
    pub fn upgrade(&self) -> Option<&str> {
        (!self.upgrade.is_empty()).then_some(&*self.upgrade)
    }

    /// Whether the client takes trailers (`TE: trailers`).
    #[must_use]
    pub fn te_trailers(&self) -> bool {
        self.te_trailers
    }

    /// Changes path and query.
    ///
    /// # Errors
    ///
    /// They do not start with `/`, or hold other bytes than the visible ones of ASCII, or `#`; or the
    /// method is CONNECT, which has no path.
    pub fn set_path_and_query(&mut self, path_and_query: &str) -> Result<(), InvalidTarget> {
        let is_valid =
            path_and_query.starts_with('/') && path_and_query.bytes().all(is_target_byte);
        if !is_valid || self.method == Method::CONNECT {
            return Err(InvalidTarget::Path);
        }
        self.store_path(path_and_query);
        Ok(())
    }

    /// Changes who is asked, and so `Host`.
    ///
    /// # Errors
    ///
    /// It is no host with or without a port.
    pub fn set_authority(&mut self, authority: &str) -> Result<(), InvalidTarget> {
        let authority = Authority::parse(authority.as_bytes()).ok_or(InvalidTarget::Authority)?;
        self.store_authority(authority);
        Ok(())
    }

    /// The fields that `Connection` names, which are for this hop only (RFC 9110 section 7.6.1), in a
    /// list with commas. They are not among the [`headers`](Self::headers), and must not be among the
    /// trailers: [`BodyReader::drop_trailers`](crate::http::h1::BodyReader::drop_trailers). Empty where
    /// there can be no trailers.
    #[must_use]
    pub fn hop_by_hop(&self) -> &str {
        &self.hop_by_hop
    }

    /// Changes the method.
    ///
    /// # Errors
    ///
    /// The target has a form that only the old or the new method has: `*` belongs to OPTIONS, a lone
    /// authority to CONNECT.
    pub fn set_method(&mut self, method: Method) -> Result<(), InvalidTarget> {
        let is_connect = |method: &Method| *method == Method::CONNECT;
        if is_connect(&method) != is_connect(&self.method)
            || (self.is_asterisk() && method != Method::OPTIONS)
        {
            return Err(InvalidTarget::Method);
        }
        self.method = method;
        Ok(())
    }

    /// `path_and_query` is valid, or `*`, or empty.
    pub(in crate::http) fn store_path(&mut self, path_and_query: &str) {
        self.path_and_query.clear();
        self.path_and_query.push_str(path_and_query);
        self.path_length = path_and_query.find('?').unwrap_or(path_and_query.len());
    }

    /// The path of a target in absolute form that has a query only: `/` before the `?`.
    pub(in crate::http) fn store_query(&mut self, query: &str) {
        self.path_and_query.clear();
        self.path_and_query.push('/');
        self.path_and_query.push_str(query);
        self.path_length = 1;
    }

    pub(in crate::http) fn store_authority(&mut self, authority: Authority<'_>) {
        self.authority.clear();
        self.authority.push_str(authority.as_str());
    }
}

/// Whether `byte` may stand in a target: visible ASCII, and no fragment, which is never sent.
pub(in crate::http) fn is_target_byte(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~') && byte != b'#'
}

/// Why a request cannot be directed there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidTarget {
    /// Not a path with or without a query.
    Path,
    /// Not a host with or without a port.
    Authority,
    /// The method does not go with the form of the target.
    Method,
}

impl fmt::Display for InvalidTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Path => {
                "not a path: it starts with `/`, and other characters than visible ASCII, and `#`, \
                 are percent-encoded"
            }
            Self::Authority => "not an authority: write `host`, `host:port` or `[address]:port`",
            Self::Method => {
                "the method does not go with the target: `*` is for OPTIONS, a lone authority for \
                 CONNECT"
            }
        })
    }
}

impl std::error::Error for InvalidTarget {}
