//! Requests: from bytes to a head, and from a head to bytes.

use super::{
    FieldError, HeadLimits, Parsed, RequestError,
    fields::{Facts, MAX_FIELDS, check_line_ends, field_error, storage},
};
use crate::http::{
    BodyLength, Persistence, RequestHead,
    head::{Authority, is_target_byte},
};
use http::{Method, Version};
use httparse::Status;

impl RequestHead {
    /// Parses the head at the start of `bytes` in place of what this head was.
    ///
    /// One empty line before it is passed over and counts as part of it. Unless the head is complete,
    /// this one is as new afterwards. What is refused once is refused however many bytes follow, and
    /// with the same error.
    ///
    /// # Errors
    ///
    /// The head is malformed, more than `limits` allow, or something that is not served. Nothing can be
    /// read from the connection any more: answer, say `Connection: close`, and close it.
    pub fn parse(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Parsed, RequestError> {
        self.clear();
        let (allowed, is_full) = limits.cut(bytes);
        match self.parse_within(allowed, limits) {
            Ok(Parsed::Partial) if is_full => Err(too_large(allowed)),
            Ok(parsed) => Ok(parsed),
            Err(error) => {
                self.clear();
                Err(error)
            }
        }
    }

    fn parse_within(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Parsed, RequestError> {
        let head = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
        if matches!(head, [b'\r' | b'\n', ..]) && bytes != b"\r" {
            return Err(RequestError::RequestLine);
        }
        let mut storage = storage();
        let fields = &mut storage[..limits.fields.min(MAX_FIELDS)];
        let mut parsed = httparse::Request::new(&mut []);
        let length = match parsed.parse_with_uninit_headers(head, fields) {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) => return Ok(Parsed::Partial),
            Err(error) => return Err(refusal(error, head)),
        };
        let (Some(method), Some(target), Some(minor)) =
            (parsed.method, parsed.path, parsed.version)
        else {
            return Err(RequestError::RequestLine);
        };
        check_line_ends(&head[..length], parsed.headers)?;
        self.version = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
        self.method =
            Method::from_bytes(method.as_bytes()).map_err(|_| RequestError::RequestLine)?;
        self.read_target(target, limits.connect)?;
        self.headers.reserve(length);
        let facts = Facts::read(self.version, parsed.headers, &mut self.headers)?;
        facts.write_nominated(parsed.headers, &mut self.hop_by_hop);
        self.read_facts(&facts)?;
        Ok(Parsed::Complete(bytes.len() - head.len() + length))
    }

    /// The four forms of RFC 9112 section 3.2.
    fn read_target(&mut self, target: &str, connect: bool) -> Result<(), RequestError> {
        if !target.bytes().all(is_target_byte) {
            return Err(RequestError::Target);
        }
        if self.method == Method::CONNECT {
            return match Authority::parse(target.as_bytes()) {
                _ if !connect => Err(RequestError::Connect),
                Some(authority) if authority.has_port() => {
                    self.store_path("");
                    self.store_authority(authority);
                    Ok(())
                }
                _ => Err(RequestError::Target),
            };
        }
        if target.starts_with('/') || (target == "*" && self.method == Method::OPTIONS) {
            self.store_path(target);
            return Ok(());
        }
        self.read_absolute(target)
    }

    fn read_absolute(&mut self, target: &str) -> Result<(), RequestError> {
        let (scheme, rest) = target.split_once("://").ok_or(RequestError::Target)?;
        self.scheme = ["http", "https"]
            .into_iter()
            .find(|known| known.eq_ignore_ascii_case(scheme))
            .ok_or(RequestError::Target)
            .map(Some)?;
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let authority = Authority::parse(authority.as_bytes()).ok_or(RequestError::Target)?;
        self.store_authority(authority);
        match path.as_bytes().first() {
            Some(b'/') => self.store_path(path),
            Some(_) => self.store_query(path),
            None if self.method == Method::OPTIONS => self.store_path("*"),
            None => self.store_path("/"),
        }
        Ok(())
    }

    fn read_facts(&mut self, facts: &Facts<'_>) -> Result<(), RequestError> {
        self.read_host(facts)?;
        if facts.expects_unknown {
            return Err(RequestError::Expectation);
        }
        self.body = match facts.content_length {
            _ if facts.chunked => BodyLength::Chunked,
            Some(length) => BodyLength::Exactly(length),
            None => BodyLength::None,
        };
        // RFC 9110 section 9.3.6: a CONNECT has no content.
        if self.method == Method::CONNECT && self.body != BodyLength::None {
            return Err(RequestError::Target);
        }
        let is_http_11 = self.version == Version::HTTP_11;
        self.keep_alive = facts.keeps_alive(self.version);
        self.expects_continue = facts.expects_continue && is_http_11 && !self.body.is_empty();
        self.te_trailers = facts.te_trailers && is_http_11;
        if self.method == Method::GET
            && self.body.is_empty()
            && let Some(protocol) = facts.upgrade(self.version)
        {
            self.upgrade.push_str(protocol);
        }
        Ok(())
    }

    /// RFC 9112 section 3.2: the authority of the target wins over `Host`, which must be valid all the
    /// same.
    fn read_host(&mut self, facts: &Facts<'_>) -> Result<(), RequestError> {
        let host = match facts.host {
            _ if facts.hosts > 1 => return Err(RequestError::RepeatedHost),
            Some(host) => Authority::parse(host).ok_or(RequestError::Host)?,
            None if self.version == Version::HTTP_11 => return Err(RequestError::MissingHost),
            None => return Ok(()),
        };
        if self.authority().is_empty() {
            self.store_authority(host);
        }
        Ok(())
    }

    /// Writes the head at the end of `out`, in HTTP/1.1 and canonical form: one `Host`, the fields, the
    /// framing of `body`, and what `persistence` says. The target has the origin form.
    ///
    /// A head without an authority (HTTP/1.0 without `Host`) gets an empty `Host`, which most origins
    /// refuse: set one first. `Upgrade` goes only with [`Persistence::Upgrade`], and only if the
    /// head asks for it.
    pub fn encode(&self, body: BodyLength, persistence: Persistence, out: &mut Vec<u8>) {
        let target = match self.path_and_query() {
            "" => self.authority(),
            path => path,
        };
        out.reserve(self.headers.as_wire().len() + target.len() + self.authority().len() + 160);
        for part in [self.method.as_str(), " ", target, " HTTP/1.1\r\nHost: ", self.authority()] {
            out.extend_from_slice(part.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.headers.as_wire());
        if self.te_trailers {
            out.extend_from_slice(b"TE: trailers\r\n");
        }
        if self.expects_continue {
            out.extend_from_slice(b"Expect: 100-continue\r\n");
        }
        super::encode::body_length(body, out);
        super::encode::connection(persistence, self.te_trailers, self.upgrade(), out);
        out.extend_from_slice(b"\r\n");
    }
}

/// The head does not end within all that it may have: is it the first line, or the fields?
fn too_large(bytes: &[u8]) -> RequestError {
    let line = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    if line.contains(&b'\n') {
        RequestError::Field(FieldError::TooLarge)
    } else {
        RequestError::TargetTooLong
    }
}

/// Our name for what `httparse` found wrong at the start of `head`.
fn refusal(error: httparse::Error, head: &[u8]) -> RequestError {
    match field_error(error) {
        Some(error) => RequestError::Field(error),
        None if error == httparse::Error::Version && names_version(head) => RequestError::Version,
        None => RequestError::RequestLine,
    }
}

/// Whether the third word of the line names a version of HTTP at all, be it the one of HTTP/2's preface.
fn names_version(head: &[u8]) -> bool {
    let word = head.splitn(3, |&byte| byte == b' ').nth(2).unwrap_or_default();
    matches!(word, [b'H', b'T', b'T', b'P', b'/', digit, ..] if digit.is_ascii_digit())
}
