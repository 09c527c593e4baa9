//! The peers' reader: HTTP/1.1 in the one spelling in which the proxy writes it.
//!
//! Flows in: all bytes of a connection so far. Flows out: the first message, and its length; nothing
//! where it is not all there yet. It knows nothing of the library's parsers, and panics at whatever could
//! be read in another way.

/// Names in lower case, and values with a character for each byte.
type Fields = Vec<(String, String)>;

/// A request, as an origin reads it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) fields: Fields,
    pub(super) body: Vec<u8>,
}

/// An answer, as a client reads it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) fields: Fields,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// Its head alone, whatever is there of the body.
    pub(super) fn head(bytes: &[u8]) -> Option<(Request, usize)> {
        let mut reader = Reader(bytes);
        let line = reader.line()?;
        let words: Vec<_> = line.split(' ').collect();
        let [method, target, "HTTP/1.1"] = words[..] else { panic!("a request line: {line:?}") };
        assert!(!method.is_empty() && method.bytes().all(is_token), "a method: {method:?}");
        let is_path = target.starts_with('/') || (target == "*" && method == "OPTIONS");
        let is_printed = target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        assert!(is_path && is_printed, "a target: {target:?}");
        let (method, target) = (method.to_owned(), target.to_owned());
        let fields = reader.fields()?;
        assert_eq!(fields[0].0, "host", "the first field");
        one(&fields, "host");
        for gone in ["keep-alive", "proxy-connection", "http2-settings", "proxy-authenticate"] {
            assert_eq!(one(&fields, gone), None);
        }
        let connection = one(&fields, "connection").unwrap_or_default();
        assert!(["", "TE", "upgrade", "TE, upgrade"].contains(&connection), "{connection:?}");
        assert_eq!(one(&fields, "upgrade").is_some(), connection.ends_with("upgrade"));
        let request = Request { method, target, fields, body: Vec::new() };
        Some((request, bytes.len() - reader.0.len()))
    }

    /// All of it.
    pub(super) fn whole(bytes: &[u8]) -> Option<(Request, usize)> {
        let (mut request, head) = Request::head(bytes)?;
        let mut reader = Reader(&bytes[head..]);
        request.body = match framing(&request.fields) {
            Framing::None => Vec::new(),
            Framing::Length(length) => reader.take(length)?.to_vec(),
            Framing::Chunked => reader.chunks()?,
        };
        Some((request, bytes.len() - reader.0.len()))
    }

    pub(super) fn asks_to_switch(&self) -> bool {
        one(&self.fields, "upgrade").is_some()
    }
}

impl Answer {
    /// All of the answer to a request with this method. `ended` says that the peer has ended its
    /// direction in order.
    pub(super) fn whole(bytes: &[u8], method: &str, ended: bool) -> Option<(Answer, usize)> {
        let mut reader = Reader(bytes);
        let line = reader.line()?;
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.split_once(' '));
        let Some((status, _)) = status else { panic!("a status line: {line:?}") };
        assert_eq!(status.len(), 3, "{line:?}");
        let status: u16 = status.parse().expect("a status");
        let fields = reader.fields()?;
        let connection = one(&fields, "connection").unwrap_or_default().to_owned();
        let framing = framing(&fields);
        let is_bare = method == "HEAD" || status < 200 || status == 204 || status == 304;
        let body = if is_bare {
            assert!(status >= 200 && status != 204 || matches!(framing, Framing::None), "{line:?}");
            Vec::new()
        } else {
            match framing {
                Framing::Length(length) => reader.take(length)?.to_vec(),
                Framing::Chunked => reader.chunks()?,
                Framing::None => {
                    assert_eq!(connection, "close", "an answer without an end");
                    if !ended {
                        return None;
                    }
                    reader.take(reader.0.len())?.to_vec()
                }
            }
        };
        Some((Answer { status, fields, body }, bytes.len() - reader.0.len()))
    }

    /// Whether an answer is to what never had its whole head, which is no HEAD to the proxy: a 408 that
    /// names no request.
    pub(super) fn is_to_no_request(bytes: &[u8]) -> bool {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
        let named = bytes[..end].windows(14).any(|name| name == b"\r\nX-Request-Id");
        bytes.starts_with(b"HTTP/1.1 408 ") && !named
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        one(&self.fields, name)
    }

    pub(super) fn closes(&self) -> bool {
        self.field("connection") == Some("close")
    }
}

enum Framing {
    None,
    Length(usize),
    Chunked,
}

fn framing(fields: &Fields) -> Framing {
    match (one(fields, "content-length"), one(fields, "transfer-encoding")) {
        (None, None) => Framing::None,
        (Some(length), None) => {
            let number: u64 = length.parse().expect("a length");
            assert_eq!(number.to_string(), length);
            Framing::Length(number as usize)
        }
        (None, Some("chunked")) => Framing::Chunked,
        ambiguous => panic!("the end of a message: {ambiguous:?}"),
    }
}

/// The value of a field that may be there once.
fn one<'f>(fields: &'f Fields, name: &str) -> Option<&'f str> {
    let mut named = fields.iter().filter(|(known, _)| known == name);
    let value = named.next().map(|(_, value)| value.as_str());
    assert!(named.next().is_none(), "{name} is there twice");
    value
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Bytes that were not read yet.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (front, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(front)
    }

    /// A line without its end.
    fn line(&mut self) -> Option<String> {
        let end = self.0.iter().position(|&byte| byte == b'\r' || byte == b'\n');
        let end = end.filter(|end| end + 1 < self.0.len())?;
        assert_eq!(&self.0[end..end + 2], b"\r\n", "a line in a line");
        let line = self.take(end)?.iter().copied().map(char::from).collect();
        self.take(2)?;
        Some(line)
    }

    /// Fields up to the empty line.
    fn fields(&mut self) -> Option<Fields> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Some(fields);
            }
            let (name, value) = line.split_once(':').expect("a colon");
            assert!(!name.is_empty() && name.bytes().all(is_token), "a name: {line:?}");
            let value = value.strip_prefix(' ').expect("a space");
            assert_eq!(value.trim_matches([' ', '\t']), value);
            assert!(value.chars().all(|char| char == '\t' || !char.is_ascii_control()), "{line:?}");
            fields.push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }

    /// A chunked body, decoded.
    fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(&line, 16).expect("a size");
            assert_eq!(format!("{size:x}"), line);
            if size == 0 {
                let trailers = self.fields()?;
                let framing = ["content-length", "transfer-encoding", "host", "connection"];
                assert!(trailers.iter().all(|(name, _)| !framing.contains(&name.as_str())));
                return Some(body);
            }
            body.extend_from_slice(self.take(size)?);
            assert_eq!(self.take(2)?, b"\r\n", "the end of a chunk");
        }
    }
}
