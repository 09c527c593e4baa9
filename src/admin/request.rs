//! Requests: from bytes to a value, without a socket.

use super::response::Response;

/// The longest head that is read, in bytes.
pub(super) const MAX_HEAD_BYTES: usize = 16 * 1024;
/// The longest body that is read, in bytes.
pub(super) const MAX_BODY_BYTES: usize = 64 * 1024;
const MAX_FIELDS: usize = 64;

/// A request as a handler sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    method: String,
    path: String,
    query: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    /// The method, as sent: methods are case-sensitive.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The path, percent-decoded, without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The first value of `name` in the query, decoded; empty if it has none, as in `?exit`.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<&str> {
        self.queries().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// All names and values of the query, decoded, in their order.
    pub fn queries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.query.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The body, at most 64 KiB.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    pub(super) fn with_body(self, body: Vec<u8>) -> Self {
        Self { body, ..self }
    }
}

/// A parsed head and how the rest of the message lies.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The request, its body not read yet.
    pub(super) request: Request,
    /// How many bytes the head has.
    pub(super) length: usize,
    /// How many bytes of body follow.
    pub(super) body_length: usize,
    /// The client waits for a 100 before it sends the body.
    pub(super) expects_continue: bool,
}

/// Why a request is not looked at any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It breaks the protocol, in this way.
    Bad(&'static str),
    /// Its head is larger than is read.
    HeadTooLarge,
    /// Its body is larger than is read.
    BodyTooLarge,
    /// Its body has no length known in advance.
    NoLength,
    /// A web page sent it.
    FromWebPage,
    /// It did not arrive in time.
    TooSlow,
}

impl Refusal {
    pub(super) fn response(self) -> Response {
        match self {
            Self::Bad(why) => Response::text(400, format!("bad request: {why}\n")),
            Self::HeadTooLarge => Response::text(
                431,
                format!("the head has more than {MAX_HEAD_BYTES} bytes or {MAX_FIELDS} fields\n"),
            ),
            Self::BodyTooLarge => {
                Response::text(413, format!("the body has more than {MAX_BODY_BYTES} bytes\n"))
            }
            Self::NoLength => Response::text(411, "a body needs Content-Length\n"),
            Self::FromWebPage => {
                Response::text(403, "refused: the request comes from a web page (Origin)\n")
            }
            Self::TooSlow => Response::text(408, "the request did not arrive in time\n"),
        }
    }
}

/// Parses the head at the start of `bytes`; `None` while it is incomplete.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Head>, Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut fields);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length > MAX_HEAD_BYTES => {
            return Err(Refusal::HeadTooLarge);
        }
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() >= MAX_HEAD_BYTES => {
            return Err(Refusal::HeadTooLarge);
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::HeadTooLarge),
        Err(httparse::Error::Version) => return Err(Refusal::Bad("not HTTP/1.0 or HTTP/1.1")),
        Err(_) => return Err(Refusal::Bad("malformed head")),
    };
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Refusal::Bad("malformed head"));
    };
    let fields = Fields(parsed.headers);
    // RFC 9112 section 3.2: exactly one Host in HTTP/1.1.
    if version == 1 && fields.all("host").count() != 1 {
        return Err(Refusal::Bad("HTTP/1.1 needs one Host"));
    }
    if method != "GET" && method != "HEAD" && fields.all("origin").next().is_some() {
        return Err(Refusal::FromWebPage);
    }
    let body_length = body_length(&fields)?;
    let expects_continue = version == 1
        && body_length > 0
        && fields.all("expect").any(|value| value.eq_ignore_ascii_case(b"100-continue"));
    let (path, query) = split_target(target)?;
    let request = Request { method: method.to_owned(), path, query, body: Vec::new() };
    Ok(Some(Head { request, length, body_length, expects_continue }))
}

struct Fields<'a>(&'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    fn all(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        let matching = move |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case(name);
        self.0.iter().filter(matching).map(|field| field.value)
    }
}

/// The length of the body, RFC 9112 section 6.3. Chunked bodies are not read, and a length that is
/// said twice must be the same.
fn body_length(fields: &Fields<'_>) -> Result<usize, Refusal> {
    if fields.all("transfer-encoding").next().is_some() {
        return Err(Refusal::NoLength);
    }
    let mut lengths = fields.all("content-length");
    let Some(length) = lengths.next() else { return Ok(0) };
    if length.is_empty() || !length.iter().all(u8::is_ascii_digit) || lengths.any(|l| l != length) {
        return Err(Refusal::Bad("malformed Content-Length"));
    }
    let length = str::from_utf8(length).ok().and_then(|digits| digits.parse().ok());
    match length {
        Some(length) if length <= MAX_BODY_BYTES => Ok(length),
        // Digits that do not fit a usize are a large number all the same.
        _ => Err(Refusal::BodyTooLarge),
    }
}

type Target = (String, Vec<(String, String)>);

/// Path and query of a request target, in origin form or absolute form (RFC 9112 section 3.2).
fn split_target(target: &str) -> Result<Target, Refusal> {
    let origin_form = match target.split_once("://") {
        Some((scheme, rest))
            if ["http", "https"].iter().any(|s| s.eq_ignore_ascii_case(scheme)) =>
        {
            rest.find(['/', '?']).map_or("/", |start| &rest[start..])
        }
        _ if target.starts_with('/') => target,
        _ => return Err(Refusal::Bad("the target is not a path")),
    };
    let (path, query) = origin_form.split_once('?').unwrap_or((origin_form, ""));
    let path = if path.is_empty() { "/" } else { path };
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.push((decode(&name.replace('+', " "))?, decode(&value.replace('+', " "))?));
    }
    Ok((decode(path)?, pairs))
}

/// Percent-decoding, RFC 3986 section 2.1.
fn decode(text: &str) -> Result<String, Refusal> {
    const MALFORMED: Refusal = Refusal::Bad("malformed percent-encoding");
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(MALFORMED) };
        decoded.push(u8::try_from(high * 16 + low).map_err(|_| MALFORMED)?);
    }
    String::from_utf8(decoded).map_err(|_| MALFORMED)
}

#[cfg(test)]
mod tests;
