//! What the two ends say to each other through a proxy: one request over and over, and how to tell
//! where its response ends.
//!
//! Relays carry [`Order`]s, whose responses are so many bytes. HTTP proxies carry a GET without a
//! body, answered by a head with a Content-Length and a short body. A client has one request under
//! way on a connection, never two.

use crate::message::{Order, REQUEST_LEN};

const SMALL: Order = Order { response_len: 128, last: false };
const LAST: Order = Order { response_len: 128, last: true };
/// Bytes of a bulk response.
pub(crate) const BODY_LEN: u64 = 64 << 20;
const BODY: Order = Order { response_len: BODY_LEN, last: false };

static SMALL_REQUEST: [u8; REQUEST_LEN] = SMALL.encode();
static LAST_REQUEST: [u8; REQUEST_LEN] = LAST.encode();
static BODY_REQUEST: [u8; REQUEST_LEN] = BODY.encode();
static GET: &[u8] = b"GET /x HTTP/1.1\r\nHost: origin\r\nUser-Agent: peers\r\nAccept: */*\r\n\r\n";
static GET_LAST: &[u8] =
    b"GET /x HTTP/1.1\r\nHost: origin\r\nUser-Agent: peers\r\nAccept: */*\r\nConnection: close\r\n\r\n";

const HEAD_LIMIT: usize = 16 << 10;
const FIELDS: usize = 32;

/// A request, and what comes back.
#[derive(Clone, Copy)]
pub(crate) struct Exchange {
    pub(crate) request: &'static [u8],
    /// Bytes of the response; `None`: it is HTTP, and says so itself.
    pub(crate) response_len: Option<u64>,
    /// The other side ends the connection behind the response.
    pub(crate) last: bool,
}

impl Exchange {
    /// 64 bytes there, 128 back.
    pub(crate) const SMALL: Self =
        Self { request: &SMALL_REQUEST, response_len: Some(SMALL.response_len), last: false };
    /// The same on a connection of its own.
    pub(crate) const SMALL_LAST: Self =
        Self { request: &LAST_REQUEST, response_len: Some(LAST.response_len), last: true };
    /// 64 MiB back.
    pub(crate) const BULK: Self =
        Self { request: &BODY_REQUEST, response_len: Some(BODY_LEN), last: false };
    pub(crate) const HTTP: Self = Self { request: GET, response_len: None, last: false };
    /// The same on a connection of its own.
    pub(crate) const HTTP_LAST: Self = Self { request: GET_LAST, response_len: None, last: true };

    pub(crate) fn response(&self) -> Response {
        match self.response_len {
            Some(len) => Response::Counted { len, received: 0 },
            None => Response::Http { head: Vec::new(), body_left: None },
        }
    }
}

/// How far the response on a connection has come. It starts over by itself behind the end.
pub(crate) enum Response {
    Counted {
        len: u64,
        received: u64,
    },
    Http {
        /// Of a head in pieces; empty as long as heads come whole.
        head: Vec<u8>,
        /// `None` before the end of the head.
        body_left: Option<usize>,
    },
}

impl Response {
    /// Whether a part of a response is here, and the rest is not.
    pub(crate) fn is_partial(&self) -> bool {
        match self {
            Self::Counted { received, .. } => *received > 0,
            Self::Http { head, body_left } => !head.is_empty() || body_left.is_some(),
        }
    }

    /// Takes what was received. True: the response is complete.
    ///
    /// # Errors
    /// What is wrong with it: bytes beyond the end, an HTTP response that is malformed, has no
    /// Content-Length, or a status other than 200.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<bool, String> {
        match self {
            Self::Counted { len, received } => {
                *received += bytes.len() as u64;
                if *received > *len {
                    return Err(format!("{received} bytes came in place of {len}"));
                }
                let complete = *received == *len;
                if complete {
                    *received = 0;
                }
                Ok(complete)
            }
            Self::Http { head, body_left } => feed_http(head, body_left, bytes),
        }
    }
}

fn feed_http(
    head: &mut Vec<u8>,
    body_left: &mut Option<usize>,
    bytes: &[u8],
) -> Result<bool, String> {
    let (expected, here) = match *body_left {
        Some(left) => (left, bytes.len()),
        None => {
            let whole = if head.is_empty() {
                bytes
            } else {
                head.extend_from_slice(bytes);
                head.as_slice()
            };
            match parse_head(whole)? {
                Some((head_len, body_len)) => (body_len, whole.len() - head_len),
                None if whole.len() > HEAD_LIMIT => return Err("a head without an end".to_owned()),
                None => {
                    if head.is_empty() {
                        head.extend_from_slice(bytes);
                    }
                    return Ok(false);
                }
            }
        }
    };
    head.clear();
    let left = expected.checked_sub(here).ok_or("more bytes than Content-Length says")?;
    *body_left = (left > 0).then_some(left);
    Ok(left == 0)
}

/// The lengths of head and body, once the head is whole.
fn parse_head(bytes: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let parsed = response.parse(bytes).map_err(|error| format!("malformed response: {error}"))?;
    let httparse::Status::Complete(head_len) = parsed else { return Ok(None) };
    if response.code != Some(200) {
        let body = String::from_utf8_lossy(&bytes[head_len..]);
        return Err(format!("status {}: {}", response.code.unwrap_or(0), body.trim_end()));
    }
    let content_length =
        response.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let body_len = content_length
        .and_then(|field| str::from_utf8(field.value).ok()?.parse().ok())
        .ok_or("a response without a Content-Length")?;
    Ok(Some((head_len, body_len)))
}
