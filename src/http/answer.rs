//! Answers that come from this proxy or its filters instead of an upstream.

use http::StatusCode;

use super::{Headers, InvalidHeader, Persistence, ResponseBody, ResponseHead};

/// A whole answer: status, fields and body.
#[derive(Clone, Debug)]
pub struct Answer {
    status: StatusCode,
    headers: Headers,
    body: Vec<u8>,
}

impl Answer {
    /// A status, with a short text that names it for a body.
    ///
    /// # Panics
    ///
    /// If `status` is not from 200 to 599.
    #[track_caller]
    pub fn status(status: u16) -> Answer {
        assert!((200..600).contains(&status), "{status} is no status of a final answer");
        let status = StatusCode::from_u16(status).unwrap_or_default();
        let answer = Answer { status, headers: Headers::new(), body: Vec::new() };
        if !answer.has_body() {
            return answer;
        }
        let text = format!("{}\n", status.canonical_reason().unwrap_or("answered by the proxy"));
        answer.body("text/plain; charset=utf-8", text)
    }

    /// With this body, of this media type; empty for none. It is not sent with a 204 or 304.
    #[must_use]
    pub fn body(mut self, media_type: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.headers.remove("content-type");
        if !media_type.is_empty() {
            // A type that is no field value is left out, too.
            let _ = self.headers.insert("Content-Type", media_type);
        }
        self.body = body.into();
        self
    }

    /// With this field besides.
    ///
    /// # Errors
    ///
    /// It cannot be a field, or is one that the framing of messages owns.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Result<Answer, InvalidHeader> {
        self.headers.append(name, value)?;
        Ok(self)
    }

    /// Its fields, `Content-Type` among them, to be changed.
    pub(super) fn headers_mut(&mut self) -> &mut Headers {
        &mut self.headers
    }

    /// The status.
    pub fn code(&self) -> StatusCode {
        self.status
    }

    /// How long the body is that is sent, in bytes.
    pub(super) fn length(&self) -> u64 {
        if self.has_body() { self.body.len() as u64 } else { 0 }
    }

    /// A 204 and a 304 have none, whatever they were given (RFC 9112 section 6.3).
    fn has_body(&self) -> bool {
        !matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    }

    /// Writes head and body.
    pub(super) fn write(&self, persistence: Persistence, to_head: bool, out: &mut Vec<u8>) {
        let mut head = ResponseHead::new();
        head.set_status(self.status);
        for (name, value) in self.headers.iter() {
            // They were checked when they came into `headers`.
            let _ = head.headers_mut().append(name, value);
        }
        let length = match self.has_body() {
            true => ResponseBody::Exactly(self.body.len() as u64),
            false => ResponseBody::None,
        };
        head.encode(length, persistence, out);
        if !to_head && self.has_body() {
            out.extend_from_slice(&self.body);
        }
    }
}
