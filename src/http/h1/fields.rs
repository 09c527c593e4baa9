//! The field section, of heads and of trailers: lines checked, framing read into facts, the rest kept.

use super::FieldError;
use crate::http::{
    head::{FramingField, is_token},
    headers::{Headers, trim},
};
use http::Version;
use httparse::Header;
use std::{mem::MaybeUninit, str};

/// Where `httparse` puts the fields that it found: on the stack, not initialized.
pub(super) type FieldStorage<'a> = [MaybeUninit<Header<'a>>; MAX_FIELDS];

/// The most fields that any message may have.
pub(super) const MAX_FIELDS: usize = 256;

/// How many options `Connection` may have: each costs a pass over the fields.
const MAX_OPTIONS: usize = 32;

/// Room for the fields of a message.
pub(super) fn storage<'a>() -> FieldStorage<'a> {
    [const { MaybeUninit::uninit() }; MAX_FIELDS]
}

/// `httparse` lets lines end in LF alone. `section` ends with the last byte of the message's head, and
/// `fields` lie in it.
pub(super) fn check_line_ends(section: &[u8], fields: &[Header<'_>]) -> Result<(), FieldError> {
    // A field starts where the line before it ended, so the end of each line is looked at once.
    let ends_before = |field: &Header<'_>| {
        let start = field.name.as_ptr().addr() - section.as_ptr().addr();
        section[..start].ends_with(b"\r\n")
    };
    if section.ends_with(b"\r\n\r\n") && fields.iter().all(ends_before) {
        Ok(())
    } else {
        Err(FieldError::LineEnd)
    }
}

/// Which of our errors one of `httparse`'s is, if it is about fields.
pub(super) fn field_error(error: httparse::Error) -> Option<FieldError> {
    match error {
        httparse::Error::HeaderName => Some(FieldError::Name),
        httparse::Error::HeaderValue => Some(FieldError::Value),
        httparse::Error::NewLine => Some(FieldError::LineEnd),
        httparse::Error::TooManyHeaders => Some(FieldError::TooMany),
        _ => None,
    }
}

/// What the fields say about framing and about the connection.
#[derive(Debug, Default)]
pub(super) struct Facts<'a> {
    pub(super) host: Option<&'a [u8]>,
    pub(super) hosts: usize,
    pub(super) content_length: Option<u64>,
    pub(super) chunked: bool,
    /// `Connection: close`.
    pub(super) close: bool,
    /// `Connection: keep-alive`.
    pub(super) keep_alive: bool,
    /// `Connection: upgrade`.
    upgrade_named: bool,
    upgrade: Option<&'a [u8]>,
    upgrades: usize,
    pub(super) te_trailers: bool,
    pub(super) expects_continue: bool,
    pub(super) expects_unknown: bool,
    /// Whether `Connection` names fields.
    nominates: bool,
}

impl<'a> Facts<'a> {
    /// Reads `fields`, and puts those that are forwarded into `headers`.
    pub(super) fn read(
        version: Version,
        fields: &[Header<'a>],
        headers: &mut Headers,
    ) -> Result<Self, FieldError> {
        let mut facts = Self::default();
        let mut options = 0;
        for field in fields {
            match FramingField::of(field.name.as_bytes()) {
                None => headers.push(field.name.as_bytes(), field.value),
                Some(FramingField::Connection) => options += facts.connection(field.value)?,
                Some(framing) => facts.note(framing, field.value, version)?,
            }
        }
        if facts.chunked && facts.content_length.is_some() {
            return Err(FieldError::TwoLengths);
        }
        if options > MAX_OPTIONS {
            return Err(FieldError::Connection);
        }
        facts.nominates = options > 0;
        if facts.nominates {
            nominated(fields).for_each(|name| {
                headers.remove_named(name);
            });
        }
        Ok(facts)
    }

    /// Writes the names of the fields that `Connection` names among `fields`, where there may be such
    /// trailers, each with a comma behind it.
    pub(super) fn write_nominated(&self, fields: &[Header<'_>], names: &mut String) {
        if self.nominates && self.chunked {
            // They are tokens, which are ASCII.
            for name in nominated(fields).filter_map(|name| str::from_utf8(name).ok()) {
                names.push_str(name);
                names.push(',');
            }
        }
    }

    /// Whether the peer keeps its connection (RFC 9112 section 9.3).
    pub(super) fn keeps_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::HTTP_11 || self.keep_alive)
    }

    /// The one protocol that the connection may change to, if it is none of HTTP's own.
    pub(super) fn upgrade(&self, version: Version) -> Option<&'a str> {
        let protocol = self.upgrade.filter(|_| self.upgrades == 1 && self.upgrade_named)?;
        if version != Version::HTTP_11 || is_http(protocol) || !is_protocol(protocol) {
            return None;
        }
        str::from_utf8(protocol).ok()
    }

    /// Reads a `Connection`; how many of its options name fields.
    fn connection(&mut self, value: &[u8]) -> Result<usize, FieldError> {
        let mut nominated = 0;
        for option in elements(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade_named = true;
            } else if is_token(option) {
                nominated += 1;
            } else {
                return Err(FieldError::Connection);
            }
        }
        Ok(nominated)
    }

    fn note(
        &mut self,
        field: FramingField,
        value: &'a [u8],
        version: Version,
    ) -> Result<(), FieldError> {
        match field {
            FramingField::ContentLength => {
                if self.content_length.is_some() {
                    return Err(FieldError::RepeatedContentLength);
                }
                self.content_length = Some(decimal(value).ok_or(FieldError::ContentLength)?);
            }
            FramingField::TransferEncoding => {
                if version == Version::HTTP_10 {
                    return Err(FieldError::TransferEncodingInHttp10);
                }
                if self.chunked {
                    return Err(FieldError::TransferEncoding);
                }
                check_codings(value)?;
                self.chunked = true;
            }
            FramingField::Host => {
                self.host = Some(value);
                self.hosts += 1;
            }
            FramingField::Upgrade => {
                self.upgrade = Some(value);
                self.upgrades += 1;
            }
            FramingField::Te => {
                self.te_trailers |=
                    elements(value).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
            }
            FramingField::Expect => {
                let is_continue = value.eq_ignore_ascii_case(b"100-continue");
                self.expects_continue |= is_continue;
                self.expects_unknown |= !is_continue;
            }
            FramingField::Connection | FramingField::Dropped => {}
        }
        Ok(())
    }
}

/// What `Connection` names. Fields of the framing are never kept, so they cannot be named away.
fn nominated<'f>(fields: &'f [Header<'_>]) -> impl Iterator<Item = &'f [u8]> {
    let is_connection = |field: &&Header<'_>| {
        FramingField::of(field.name.as_bytes()) == Some(FramingField::Connection)
    };
    fields.iter().filter(is_connection).flat_map(|field| elements(field.value))
}

/// The elements of a list (RFC 9110 section 5.6.1); empty ones are passed over.
pub(super) fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b',').map(trim).filter(|element| !element.is_empty())
}

/// A number of digits and nothing else: no sign, no space, no list.
fn decimal(digits: &[u8]) -> Option<u64> {
    let add = |number: u64, digit: &u8| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, add) }
}

/// Lets `chunked` through, and tells what is malformed from what is merely not known: a coding may
/// stand before `chunked` by the grammar, but none is implemented.
fn check_codings(value: &[u8]) -> Result<(), FieldError> {
    let mut codings = value.split(|&byte| byte == b',').map(trim).rev();
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let last = codings.next().unwrap_or_default();
    if !is_token(last) {
        return Err(FieldError::TransferEncoding);
    }
    let mut is_known = is_chunked(last);
    for coding in codings {
        if !is_token(coding) || is_chunked(coding) {
            return Err(FieldError::TransferEncoding);
        }
        is_known = false;
    }
    if is_known { Ok(()) } else { Err(FieldError::TransferCoding) }
}

/// `protocol-name ["/" protocol-version]`, RFC 9110 section 7.8.
fn is_protocol(value: &[u8]) -> bool {
    let mut parts = value.splitn(2, |&byte| byte == b'/');
    parts.all(is_token)
}

/// Whether `protocol` is a version of HTTP, whose requests nobody would look at in a tunnel.
fn is_http(protocol: &[u8]) -> bool {
    let name = protocol.split(|&byte| byte == b'/').next().unwrap_or_default();
    [&b"h2c"[..], b"h2", b"h3", b"http"].iter().any(|http| name.eq_ignore_ascii_case(http))
}
