//! Answers of the proxy itself: short, in plain text, and the same whatever went wrong.

use super::encode;
use crate::http::{BodyLength, Persistence};
use http::StatusCode;

/// An answer that no origin gave.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// From 200 to 599, and none that has no body (204, 304).
    pub status: StatusCode,
    /// The stable name of what went wrong, such as [`RequestError::reason`](super::RequestError::reason).
    pub reason: &'a str,
    /// The id of the request, which is named in the body and as `X-Request-Id`; empty if there is none.
    pub request_id: &'a str,
    /// What becomes of the connection.
    pub persistence: Persistence,
    /// Whether it answers HEAD: all but the body is written then.
    pub to_head: bool,
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
    let id_parts = id.map_or([""; 3], |id| ["request id: ", id, "\n"]);
    let body = [status, " ", phrase, ": ", answer.reason, "\n"].into_iter().chain(id_parts);

    write_all(["HTTP/1.1 ", status, " ", phrase, "\r\n"], out);
    write_all(["Content-Type: text/plain; charset=utf-8\r\n"], out);
    if let Some(id) = id {
        write_all(["X-Request-Id: ", id, "\r\n"], out);
    }
    let length = body.clone().map(str::len).sum::<usize>() as u64;
    encode::body_length(BodyLength::Exactly(length), out);
    encode::connection(answer.persistence, false, None, out);
    write_all(["\r\n"], out);
    if !answer.to_head {
        write_all(body, out);
    }
}

fn write_all<'a>(parts: impl IntoIterator<Item = &'a str>, out: &mut Vec<u8>) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}
