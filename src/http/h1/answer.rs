//! Answers of the proxy itself: short, the same whatever went wrong, in plain text or JSON.
//!
//! In: a status, a stable reason, the id of the request, and what its client takes. Out: a whole
//! message. It owns nothing, and never says more about the proxy than that.

use super::{encode, fields::elements};
use crate::http::{BodyLength, Headers, Persistence};
use http::StatusCode;

/// An answer that no origin gave.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// From 200 to 599, and none that has no body (204, 304).
    pub status: StatusCode,
    /// The stable name of what went wrong, such as [`RequestError::reason`](super::RequestError::reason),
    /// in visible ASCII.
    pub reason: &'a str,
    /// The id of the request, which is named in the body and as `X-Request-Id`; empty if there is none.
    pub request_id: &'a str,
    /// What the body looks like.
    pub form: AnswerForm,
    /// What becomes of the connection.
    pub persistence: Persistence,
    /// Whether it answers HEAD: all but the body is written then.
    pub to_head: bool,
}

/// What the body of an [`Answer`] looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AnswerForm {
    /// Lines of text: status and reason, then the request id.
    #[default]
    Text,
    /// An object with `status`, a number, and `reason` and `request_id`, strings.
    Json,
}

impl AnswerForm {
    /// The form for a request with these fields: JSON if its `Accept` (RFC 9110 section 12.5.1) names
    /// `application/json` and no kind of text, as programs do and browsers do not. Weights are not
    /// looked at.
    #[must_use]
    pub fn wanted_by(headers: &Headers) -> AnswerForm {
        let (mut json, mut text) = (false, false);
        for range in headers.get_all("accept").flat_map(elements) {
            let media_type = range.split(|&byte| byte == b';').next().unwrap_or_default();
            json |= media_type.trim_ascii().eq_ignore_ascii_case(b"application/json");
            text |= media_type.get(..5).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/"));
        }
        if json && !text { AnswerForm::Json } else { AnswerForm::Text }
    }

    fn media_type(self) -> &'static str {
        match self {
            AnswerForm::Text => "text/plain; charset=utf-8",
            AnswerForm::Json => "application/json",
        }
    }
}

/// Writes `answer` at the end of `out`, head and body.
///
/// A request id that cannot stand in a field (it holds other characters than visible ASCII) is left
/// out.
pub fn write_answer(answer: &Answer<'_>, out: &mut Vec<u8>) {
    let phrase = answer.status.canonical_reason().unwrap_or_default();
    let id = Some(answer.request_id)
        .filter(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic()));
    let status = answer.status.as_str();
    // The body comes first, as the head says how long it is.
    let start = out.len();
    match answer.form {
        AnswerForm::Text => {
            write_all([status, " ", phrase, ": ", answer.reason, "\n"], out);
            write_all(id.map_or([""; 3], |id| ["request id: ", id, "\n"]), out);
        }
        AnswerForm::Json => {
            write_all(["{\"status\":", status, ",\"reason\":"], out);
            write_json_string(answer.reason, out);
            if let Some(id) = id {
                write_all([",\"request_id\":"], out);
                write_json_string(id, out);
            }
            write_all(["}\n"], out);
        }
    }
    let length = out.len() - start;

    write_all(["HTTP/1.1 ", status, " ", phrase, "\r\n"], out);
    write_all(["Content-Type: ", answer.form.media_type(), "\r\nVary: Accept\r\n"], out);
    if let Some(id) = id {
        write_all(["X-Request-Id: ", id, "\r\n"], out);
    }
    encode::body_length(BodyLength::Exactly(length as u64), out);
    encode::connection(answer.persistence, false, None, out);
    write_all(["\r\n"], out);
    out[start..].rotate_left(length);
    if answer.to_head {
        out.truncate(out.len() - length);
    }
}

fn write_all<'a>(parts: impl IntoIterator<Item = &'a str>, out: &mut Vec<u8>) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Of visible ASCII, only these two need an escape (RFC 8259 section 7).
fn write_json_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}
