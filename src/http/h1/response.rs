//! Responses: from bytes to a head, and from a head to bytes.

use super::{
    FieldError, HeadLimits, Parsed, ResponseError, encode,
    fields::{Facts, MAX_FIELDS, check_line_ends, field_error, storage},
};
use crate::http::{BodyLength, Persistence, ResponseBody, ResponseHead};
use http::{StatusCode, Version};
use httparse::Status;

impl ResponseHead {
    /// Parses the head at the start of `bytes` in place of what this head was.
    ///
    /// A status without a reason may lack the space after it, too, which many origins leave out; any
    /// other deviation is refused. Unless the head is complete, this one is as new afterwards. What is
    /// refused once is refused however many bytes follow, and with the same error.
    ///
    /// # Errors
    ///
    /// The head is malformed, or more than `limits` allow. The connection is of no use any more.
    pub fn parse(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Parsed, ResponseError> {
        self.clear();
        let (allowed, is_full) = limits.cut(bytes);
        match self.parse_within(allowed, limits) {
            Ok(Parsed::Partial) if is_full => Err(FieldError::TooLarge.into()),
            Ok(parsed) => Ok(parsed),
            Err(error) => {
                self.clear();
                Err(error)
            }
        }
    }

    fn parse_within(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Parsed, ResponseError> {
        if matches!(bytes, [b'\r' | b'\n', ..]) {
            return Err(ResponseError::StatusLine);
        }
        let mut storage = storage();
        let fields = &mut storage[..limits.fields.min(MAX_FIELDS)];
        let mut parsed = httparse::Response::new(&mut []);
        let outcome = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut parsed,
            bytes,
            fields,
        );
        let length = match outcome {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) => return Ok(Parsed::Partial),
            Err(error) => return Err(refusal(error)),
        };
        let (Some(minor), Some(status), Some(reason)) =
            (parsed.version, parsed.code, parsed.reason)
        else {
            return Err(ResponseError::StatusLine);
        };
        check_line_ends(&bytes[..length], parsed.headers)?;
        self.version = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
        self.status = StatusCode::from_u16(status)
            .ok()
            .filter(|status| status.as_u16() < 600)
            .ok_or(ResponseError::Status)?;
        self.reason.clear();
        self.reason.push_str(reason);
        self.headers.reserve(length);
        let facts = Facts::read(self.version, parsed.headers, &mut self.headers)?;
        facts.write_nominated(parsed.headers, &mut self.hop_by_hop);
        self.content_length = facts.content_length;
        self.chunked = facts.chunked;
        self.keep_alive = facts.keeps_alive(self.version);
        if self.status == StatusCode::SWITCHING_PROTOCOLS
            && let Some(protocol) = facts.upgrade(self.version)
        {
            self.upgrade.push_str(protocol);
        }
        Ok(Parsed::Complete(length))
    }

    /// Writes the head at the end of `out`, in HTTP/1.1 and canonical form: the fields, the framing of
    /// `body`, and what `persistence` says.
    ///
    /// [`ResponseBody::None`] is for the answers that have no body by their nature, and writes the
    /// declared `Content-Length` for HEAD and 304; an empty body is
    /// [`Exactly(0)`](ResponseBody::Exactly). 1xx, 204 and the start of a tunnel get no framing
    /// whatever `body` is (RFC 9112 section 6.1 and 6.2), and a body up to the end of the connection
    /// says `Connection: close` whatever `persistence` is.
    pub fn encode(&self, body: ResponseBody, persistence: Persistence, out: &mut Vec<u8>) {
        out.reserve(self.headers.as_wire().len() + self.reason.len() + 160);
        let line = ["HTTP/1.1 ", self.status.as_str(), " ", &self.reason, "\r\n"];
        for part in line {
            out.extend_from_slice(part.as_bytes());
        }
        out.extend_from_slice(self.headers.as_wire());
        let has_framing = !self.status.is_informational()
            && self.status != StatusCode::NO_CONTENT
            && persistence != Persistence::Upgrade;
        let framing = match body {
            _ if !has_framing => BodyLength::None,
            ResponseBody::None => self.content_length.map_or(BodyLength::None, BodyLength::Exactly),
            ResponseBody::Exactly(length) => BodyLength::Exactly(length),
            ResponseBody::Chunked => BodyLength::Chunked,
            ResponseBody::UntilClose => BodyLength::None,
        };
        encode::body_length(framing, out);
        let persistence = match body {
            ResponseBody::UntilClose if has_framing => Persistence::Close,
            _ => persistence,
        };
        encode::connection(persistence, false, self.upgrade(), out);
        out.extend_from_slice(b"\r\n");
    }
}

/// Our name for what `httparse` found wrong.
fn refusal(error: httparse::Error) -> ResponseError {
    match field_error(error) {
        Some(error) => ResponseError::Field(error),
        None if error == httparse::Error::Version => ResponseError::Version,
        None => ResponseError::StatusLine,
    }
}
