//! HTTP/1.0 and HTTP/1.1 on the wire: bytes in, heads and body pieces out, and back (RFC 9112).
//!
//! In: bytes as they were received, in any pieces. Out: [`RequestHead`](super::RequestHead) and
//! [`ResponseHead`](super::ResponseHead), where a body's data lies in the received bytes
//! ([`BodyReader`]), and messages written anew. It owns nothing but what a head or a line that is split
//! over pieces needs. It never does I/O, asks for the time, or forwards a byte of a head or of a
//! chunk's framing that it has not understood: every message is written from its parsed form.
//!
//! Heads are parsed in place ([`HeadReader`] copies only those that are split). The grammar is
//! `httparse`'s; on top of it this module is strict where the RFC lets a recipient be lenient, because
//! two parsers that read one message differently are how requests are smuggled:
//!
//! - Lines end in CRLF. A lone LF or CR is refused.
//! - At most one empty line before a request is passed over (RFC 9112 section 2.2); none before a
//!   response.
//! - Targets are visible ASCII without `#`, in the form that the method wants.
//! - HTTP/1.1 needs exactly one `Host`, and it is a host.
//! - One `Content-Length` of digits only, or one `Transfer-Encoding: chunked`, never both.
//! - No folded lines, no space around names, no control characters. Bytes from 0x80 on are let through
//!   in values, as RFC 9110 section 5.5 wants it, and nowhere else.
//!
//! What is refused is refused with one status and one reason ([`RequestError`], [`ResponseError`],
//! [`BodyError`]); whoever refuses closes the connection, for nobody knows where the next message
//! starts.

mod answer;
mod body;
mod chunked;
mod encode;
mod error;
mod fields;
mod reader;
mod request;
mod response;

pub use self::{
    answer::{Answer, AnswerForm, write_answer},
    body::{BodyPart, BodyReader},
    chunked::{CHUNK_END, ChunkedDecoder, write_chunk_head, write_last_chunk},
    error::{BodyError, FieldError, RequestError, ResponseError},
    reader::{HeadProgress, HeadReader},
};

/// How large a head may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// The whole head in bytes, the empty line at its end included. 64 KiB by default; more than 8 MiB
    /// counts as 8 MiB. A head that is split over received pieces takes up to this much memory until it
    /// is complete, and the section of trailers behind a chunked body as much.
    pub bytes: usize,
    /// The number of fields. 100 by default; more than 256 counts as 256.
    pub fields: usize,
    /// Whether CONNECT is a method at all. Not by default: a proxy that opens tunnels to wherever a
    /// client says is an open relay unless somebody has thought about it.
    pub connect: bool,
}

/// The most bytes that any head may have.
const MAX_HEAD_BYTES: usize = 8 << 20;

impl HeadLimits {
    /// The front of `bytes`, as far as a head may reach; whether it may not reach any further.
    fn cut<'a>(&self, bytes: &'a [u8]) -> (&'a [u8], bool) {
        let limit = self.bytes.min(MAX_HEAD_BYTES);
        (&bytes[..bytes.len().min(limit)], bytes.len() >= limit)
    }
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { bytes: 64 * 1024, fields: 100, connect: false }
    }
}

/// What came of parsing a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// Nothing wrong so far, and the end is not there yet.
    Partial,
    /// The head is complete: this many bytes.
    Complete(usize),
}

#[cfg(test)]
mod tests;
