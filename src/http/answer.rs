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
        if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return answer;
        }
        let text = format!("{}\n", status.canonical_reason().unwrap_or("answered by the proxy"));
        answer.body("text/plain; charset=utf-8", text)
    }

    /// With this body, of this media type; empty for none.
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

    /// The status.
    pub fn code(&self) -> StatusCode {
        self.status
    }

    /// How long the body is.
    pub(super) fn length(&self) -> u64 {
        self.body.len() as u64
    }

    /// Writes head and body.
    pub(super) fn write(&self, persistence: Persistence, to_head: bool, out: &mut Vec<u8>) {
        let mut head = ResponseHead::new();
        head.set_status(self.status);
        for (name, value) in self.headers.iter() {
            // They were checked when they came into `headers`.
            let _ = head.headers_mut().append(name, value);
        }
        head.encode(ResponseBody::Exactly(self.length()), persistence, out);
        if !to_head {
            out.extend_from_slice(&self.body);
        }
    }
}
