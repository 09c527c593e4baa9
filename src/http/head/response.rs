//! The head of a response.

use super::ResponseBody;
use crate::http::Headers;
use http::{Method, StatusCode, Version};

/// The head of a response: how it went, and how the rest of the message lies.
///
/// Made to be reused, see [`clear`](Self::clear). A new one is a 200 in HTTP/1.1.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    pub(in crate::http) status: StatusCode,
    pub(in crate::http) version: Version,
    pub(in crate::http) reason: String,
    pub(in crate::http) headers: Headers,
    pub(in crate::http) content_length: Option<u64>,
    pub(in crate::http) chunked: bool,
    pub(in crate::http) keep_alive: bool,
    /// Empty if there is none.
    pub(in crate::http) upgrade: String,
    pub(in crate::http) hop_by_hop: String,
}

impl Default for ResponseHead {
    fn default() -> Self {
        Self {
            status: StatusCode::OK,
            version: Version::HTTP_11,
            reason: String::from("OK"),
            headers: Headers::new(),
            content_length: None,
            chunked: false,
            keep_alive: true,
            upgrade: String::new(),
            hop_by_hop: String::new(),
        }
    }
}

impl ResponseHead {
    /// A 200 in HTTP/1.1 without fields.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// As new, and the memory is kept.
    pub fn clear(&mut self) {
        self.set_status(StatusCode::OK);
        self.version = Version::HTTP_11;
        self.headers.clear();
        self.content_length = None;
        self.chunked = false;
        self.keep_alive = true;
        self.upgrade.clear();
        self.hop_by_hop.clear();
    }

    /// The status, from 100 to 599.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The words after the status. Empty if there are none, or other characters than ASCII in them.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The version that the origin speaks: HTTP/1.0 or HTTP/1.1.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
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

    /// How long the body is that follows, if this answers a request with `method` (RFC 9112
    /// section 6.3).
    #[must_use]
    pub fn body(&self, method: &Method) -> ResponseBody {
        let opens_tunnel = *method == Method::CONNECT && self.status.is_success();
        if *method == Method::HEAD || opens_tunnel || self.never_has_body() {
            return ResponseBody::None;
        }
        match self.content_length {
            _ if self.chunked => ResponseBody::Chunked,
            Some(length) => ResponseBody::Exactly(length),
            None => ResponseBody::UntilClose,
        }
    }

    /// `Content-Length` as the origin declared it, which for HEAD and 304 is not the length of a body.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// Whether the origin keeps its connection after this answer. An answer whose body ends with the
    /// connection ([`ResponseBody::UntilClose`]) ends it all the same.
    #[must_use]
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// The protocol that the origin changes to: only in a 101 in HTTP/1.1 whose `Connection` names
    /// `upgrade` and that names one single protocol. A 101 without it is none.
    #[must_use]
    pub fn upgrade(&self) -> Option<&str> {
        (!self.upgrade.is_empty()).then_some(&*self.upgrade)
    }

    /// The fields that `Connection` names, which are for this hop only (RFC 9110 section 7.6.1), in a
    /// list with commas. They are not among the [`headers`](Self::headers), and must not be among the
    /// trailers: [`BodyReader::drop_trailers`](crate::http::h1::BodyReader::drop_trailers). Empty where
    /// there can be no trailers.
    #[must_use]
    pub fn hop_by_hop(&self) -> &str {
        &self.hop_by_hop
    }

    /// Changes the status, and the reason to the usual one.
    pub fn set_status(&mut self, status: StatusCode) {
        self.status = status;
        self.reason.clear();
        self.reason.push_str(status.canonical_reason().unwrap_or_default());
    }

    /// Whether the status alone says that no body follows.
    fn never_has_body(&self) -> bool {
        self.status.is_informational()
            || matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    }
}
