//! Where a body lies in the bytes that follow a head.

use super::{BodyError, ChunkedDecoder, HeadLimits};
use crate::http::{Headers, ResponseBody};

/// What the bytes at the front are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyPart {
    /// So many bytes of framing, to be passed over. Zero only if there were no bytes.
    Framing(usize),
    /// So many bytes of data, to be forwarded. Never zero.
    Data(usize),
    /// The body ends after so many bytes of framing. What follows is the next message, or nothing.
    End(usize),
}

impl BodyPart {
    /// The number of bytes, whatever they are.
    #[must_use]
    pub fn length(self) -> usize {
        let (Self::Framing(length) | Self::Data(length) | Self::End(length)) = self;
        length
    }
}

/// Follows a body through the bytes as they are received, and copies none of them.
///
/// ```
/// # use evenkeel::http::{BodyLength, h1::{BodyError, BodyPart, BodyReader, HeadLimits}};
/// let mut body = BodyReader::new(BodyLength::Chunked, HeadLimits::default());
/// let (mut received, mut data) = (&b"3\r\nabc\r\n0\r\n\r\nGET / "[..], Vec::new());
/// while !body.is_done() {
///     let part = body.step(received)?;
///     let (front, rest) = received.split_at(part.length());
///     if let BodyPart::Data(_) = part {
///         data.extend_from_slice(front);
///     }
///     received = rest;
/// }
/// assert_eq!((&*data, received), (&b"abc"[..], &b"GET / "[..]));
/// # Ok::<(), BodyError>(())
/// ```
#[derive(Debug)]
pub struct BodyReader(Kind);

#[derive(Debug)]
enum Kind {
    /// What is left, in bytes.
    Exactly(u64),
    Chunked(ChunkedDecoder),
    UntilClose,
}

impl BodyReader {
    /// At the start of a body, of a request ([`BodyLength`](crate::http::BodyLength)) or a response ([`ResponseBody`]). Trailers
    /// are limited as the fields of heads are.
    #[must_use]
    pub fn new(body: impl Into<ResponseBody>, limits: HeadLimits) -> Self {
        Self(match body.into() {
            ResponseBody::None => Kind::Exactly(0),
            ResponseBody::Exactly(length) => Kind::Exactly(length),
            ResponseBody::Chunked => Kind::Chunked(ChunkedDecoder::new(limits)),
            ResponseBody::UntilClose => Kind::UntilClose,
        })
    }

    /// Drops trailers that are called as one of `names`, a list with commas in any case: the fields
    /// that `Connection` names in the head ([`RequestHead::hop_by_hop`](crate::http::RequestHead::hop_by_hop)).
    pub fn drop_trailers(&mut self, names: &str) {
        if let Kind::Chunked(decoder) = &mut self.0 {
            decoder.drop_trailers(names);
        }
    }

    /// What the first of `bytes` are, which follow those that earlier steps have told about. As many as
    /// possible are told about at once, and never more than there are.
    ///
    /// # Errors
    ///
    /// The framing is malformed or too long. Where the body ends is not known then: the connection is of
    /// no use any more.
    pub fn step(&mut self, bytes: &[u8]) -> Result<BodyPart, BodyError> {
        let length = match &mut self.0 {
            Kind::Chunked(decoder) => return decoder.step(bytes),
            Kind::Exactly(0) => return Ok(BodyPart::End(0)),
            Kind::Exactly(left) => {
                let length = usize::try_from(*left).map_or(bytes.len(), |l| l.min(bytes.len()));
                *left -= length as u64;
                length
            }
            Kind::UntilClose => bytes.len(),
        };
        Ok(if length == 0 { BodyPart::Framing(0) } else { BodyPart::Data(length) })
    }

    /// Whether the body has ended. One that ends with the connection never has by itself.
    #[must_use]
    pub fn is_done(&self) -> bool {
        match &self.0 {
            Kind::Exactly(left) => *left == 0,
            Kind::Chunked(decoder) => decoder.is_done(),
            Kind::UntilClose => false,
        }
    }

    /// The peer sends nothing any more.
    ///
    /// # Errors
    ///
    /// The body is not complete. Whoever gets it further on must see that: close the connection instead
    /// of ending the body.
    pub fn end_of_stream(&self) -> Result<(), BodyError> {
        if self.is_done() || matches!(self.0, Kind::UntilClose) {
            Ok(())
        } else {
            Err(BodyError::Truncated)
        }
    }

    /// How many bytes of data are still to come, if the head said so.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        match &self.0 {
            Kind::Exactly(left) => Some(*left),
            Kind::Chunked(_) | Kind::UntilClose => None,
        }
    }

    /// The trailers, once a chunked body has ended; other bodies have none.
    #[must_use]
    pub fn trailers(&self) -> Option<&Headers> {
        match &self.0 {
            Kind::Chunked(decoder) => Some(decoder.trailers()),
            Kind::Exactly(_) | Kind::UntilClose => None,
        }
    }
}
