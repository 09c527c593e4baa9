//! The lines that the codec writes itself: lengths and what becomes of the connection.

use crate::http::{BodyLength, Persistence};

pub(super) fn body_length(body: BodyLength, out: &mut Vec<u8>) {
    match body {
        BodyLength::None => {}
        BodyLength::Exactly(length) => {
            out.extend_from_slice(b"Content-Length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        BodyLength::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
}

/// `Connection`, which must name `TE` if that is sent (RFC 9110 section 10.1.4), and `Upgrade`.
pub(super) fn connection(
    persistence: Persistence,
    te: bool,
    upgrade: Option<&str>,
    out: &mut Vec<u8>,
) {
    let option = match (persistence, upgrade) {
        (Persistence::Close, _) => "close",
        (Persistence::KeepAlive, _) => "keep-alive",
        (Persistence::Upgrade, Some(_)) => "upgrade",
        (Persistence::Upgrade, None) | (Persistence::Implied, _) => "",
    };
    let separator = if te && !option.is_empty() { ", " } else { "" };
    let te = if te { "TE" } else { "" };
    if !te.is_empty() || !option.is_empty() {
        for part in ["Connection: ", te, separator, option, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    if let (Persistence::Upgrade, Some(protocol)) = (persistence, upgrade) {
        for part in ["Upgrade: ", protocol, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
}
