//! A second parser: slow, whole messages only, and straight from RFC 9112 and RFC 9110.

/// A message as the other side understands it.
#[derive(Debug, PartialEq)]
pub(super) struct Message {
    pub(super) start: [String; 3],
    pub(super) fields: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Vec<(String, Vec<u8>)>,
    /// What follows the message.
    pub(super) rest: Vec<u8>,
}

impl Message {
    /// The values of all fields with this name, in lower case.
    pub(super) fn all(&self, name: &str) -> Vec<&[u8]> {
        let named = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        named.map(|(_, value)| &**value).collect()
    }
}

/// Reads the first message of `bytes`; `None` if it is malformed or not complete.
pub(super) fn read(bytes: &[u8]) -> Option<Message> {
    let (start, rest) = line(bytes)?;
    let start = str::from_utf8(start).ok()?;
    let mut words = start.splitn(3, ' ').map(str::to_owned);
    let start = [words.next()?, words.next()?, words.next()?];
    let (fields, rest) = section(rest)?;
    let mut message =
        Message { start, fields, body: Vec::new(), trailers: Vec::new(), rest: Vec::new() };
    let rest = match (&*message.all("transfer-encoding"), &*message.all("content-length")) {
        ([], []) => rest,
        ([], [length]) => {
            let length = str::from_utf8(length).ok()?.parse().ok()?;
            message.body = rest.get(..length)?.to_vec();
            &rest[length..]
        }
        ([coding], []) if coding.eq_ignore_ascii_case(b"chunked") => {
            let (body, trailers, rest) = chunked(rest)?;
            message.body = body;
            message.trailers = trailers;
            rest
        }
        _ => return None,
    };
    message.rest = rest.to_vec();
    Some(message)
}

type Fields = Vec<(String, Vec<u8>)>;

/// `chunked-body = *chunk last-chunk trailer-section CRLF`
pub(super) fn chunked(mut bytes: &[u8]) -> Option<(Vec<u8>, Fields, &[u8])> {
    let mut body = Vec::new();
    loop {
        let (size_line, rest) = line(bytes)?;
        let size = size_line.split(|byte| b"; \t".contains(byte)).next()?;
        if size.is_empty() || size.len() > 16 || !size.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let size = usize::from_str_radix(str::from_utf8(size).ok()?, 16).ok()?;
        if size == 0 {
            let (trailers, rest) = section(rest)?;
            return Some((body, trailers, rest));
        }
        body.extend_from_slice(rest.get(..size)?);
        bytes = rest[size..].strip_prefix(b"\r\n")?;
    }
}

/// `*( field-line CRLF ) CRLF`
fn section(mut bytes: &[u8]) -> Option<(Fields, &[u8])> {
    let mut fields = Vec::new();
    loop {
        let (field, rest) = line(bytes)?;
        bytes = rest;
        if field.is_empty() {
            return Some((fields, bytes));
        }
        let colon = field.iter().position(|&byte| byte == b':')?;
        let name = str::from_utf8(&field[..colon]).ok()?;
        let is_tchar = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(is_tchar) {
            return None;
        }
        let value = field[colon + 1..].trim_ascii();
        if value.iter().any(|&byte| byte == 0x7f || (byte < 0x20 && byte != b'\t')) {
            return None;
        }
        fields.push((name.to_owned(), value.to_vec()));
    }
}

/// The bytes up to the first CR or LF, which must be a CRLF, and those after it.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| b"\r\n".contains(byte))?;
    Some((&bytes[..end], bytes[end..].strip_prefix(b"\r\n")?))
}
