//! Answers, and their bytes.

/// What a handler answers. Connection, length and framing are the server's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    status: u16,
    content_type: &'static str,
    allow: Option<String>,
    body: Vec<u8>,
}

impl Response {
    /// An answer with `status`, for instance 200, and a body of the media type `content_type`.
    /// A status outside 200 to 599 is sent as 500.
    #[must_use]
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        let status = if (200..600).contains(&status) { status } else { 500 };
        Self { status, content_type, allow: None, body: body.into() }
    }

    /// An answer of plain text.
    #[must_use]
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body.into())
    }

    /// An answer of JSON, which `body` is.
    #[must_use]
    pub fn json(status: u16, body: impl Into<String>) -> Self {
        Self::new(status, "application/json", body.into())
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The media type of the body.
    #[must_use]
    pub fn content_type(&self) -> &str {
        self.content_type
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// 405 with the methods that the path has, RFC 9110 section 15.5.6.
    pub(super) fn method_not_allowed(allow: &str) -> Self {
        let text = format!("method not allowed; use {allow}\n");
        Self { allow: Some(allow.to_owned()), ..Self::text(405, text) }
    }

    /// The message as it goes on the wire; to HEAD without its body, RFC 9110 section 9.3.2.
    pub(super) fn encode(&self, to_head: bool) -> Vec<u8> {
        let Self { status, content_type, allow, body } = self;
        let reason = reason(*status);
        let length = body.len();
        let allow = allow.as_ref().map(|methods| format!("Allow: {methods}\r\n"));
        let allow = allow.as_deref().unwrap_or_default();
        let head = format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\n\
             Content-Length: {length}\r\n{allow}Cache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
        );
        let mut message = head.into_bytes();
        if !to_head {
            message.extend_from_slice(body);
        }
        message
    }
}

/// Reason phrases are decoration, RFC 9112 section 4: those of the statuses in use.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "",
    }
}
