//! The chunked coding, RFC 9112 section 7.1: where the data lies, and how it is written.
//!
//! Stricter than the RFC in three ways, each of which parsers have disagreed about: a size has at most
//! 16 digits and nothing after it but an extension or CRLF; extensions follow the grammar, but for
//! quoted values, which are refused (a quote can make a line end look like text); and their length is
//! limited over the whole body. They are never forwarded. Trailers are limited as heads are, and those
//! that frame, route or authenticate are dropped (RFC 9110 section 6.5.1), as are those that the head
//! says are for this hop only.

use super::{
    BodyError, BodyPart, FieldError, HeadLimits, HeadProgress, HeadReader, Parsed,
    fields::{MAX_FIELDS, check_line_ends, field_error},
};
use crate::http::{
    Headers,
    head::{FramingField, is_token_byte},
};
use httparse::{Header, Status};
use std::num::NonZeroU64;

/// Finds the data in a chunked body.
#[derive(Debug)]
pub struct ChunkedDecoder {
    state: State,
    /// The size of the chunk, as far as it is known; then what is left of its data.
    size: u64,
    /// How many bytes of extension may still come. Data gives back what extensions take, so that a
    /// long body may have one with every chunk, as signed uploads do.
    extension_credit: u64,
    limits: HeadLimits,
    reader: HeadReader,
    trailers: Headers,
    /// What trailers may not be called besides.
    dropped: Box<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the size; how many digits there were.
    Size(u8),
    Extension(Extension),
    /// Behind the CR of the size's line.
    SizeEnd,
    Data,
    /// Behind the data.
    DataEnd,
    /// Behind the CR after the data.
    DataEndLf,
    Trailers,
    Done,
}

/// Where in `*( BWS ";" BWS name [ BWS "=" BWS token ] )`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extension {
    BeforeSemicolon,
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Value,
}

const MAX_SIZE_DIGITS: u8 = 16;

/// How far extensions may get ahead of the data, in bytes.
const MAX_EXTENSION_CREDIT: u64 = 16 * 1024;

impl ChunkedDecoder {
    /// At the start of a body whose trailers are limited by `limits`.
    #[must_use]
    pub fn new(limits: HeadLimits) -> Self {
        Self {
            state: State::Size(0),
            size: 0,
            extension_credit: MAX_EXTENSION_CREDIT,
            limits,
            reader: HeadReader::new(),
            trailers: Headers::new(),
            dropped: Box::default(),
        }
    }

    /// Drops trailers called so. See [`BodyReader::drop_trailers`](super::BodyReader::drop_trailers).
    pub fn drop_trailers(&mut self, names: &str) {
        self.dropped = names.into();
    }

    /// What the first of `bytes` are. See [`BodyReader::step`](super::BodyReader::step).
    ///
    /// # Errors
    ///
    /// The framing is malformed or too long. Where the body ends is not known then.
    pub fn step(&mut self, bytes: &[u8]) -> Result<BodyPart, BodyError> {
        match self.state {
            State::Data => Ok(self.data(bytes)),
            State::Trailers => self.read_trailers(bytes),
            State::Done => Ok(BodyPart::End(0)),
            _ => self.framing(bytes),
        }
    }

    /// Whether the body has ended.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The fields after the last chunk, without those that do not belong there. Complete once the body
    /// has ended.
    #[must_use]
    pub fn trailers(&self) -> &Headers {
        &self.trailers
    }

    fn data(&mut self, bytes: &[u8]) -> BodyPart {
        let length = usize::try_from(self.size).map_or(bytes.len(), |size| size.min(bytes.len()));
        if length == 0 {
            return BodyPart::Framing(0);
        }
        self.size -= length as u64;
        self.extension_credit = (self.extension_credit + length as u64).min(MAX_EXTENSION_CREDIT);
        if self.size == 0 {
            self.state = State::DataEnd;
        }
        BodyPart::Data(length)
    }

    fn framing(&mut self, bytes: &[u8]) -> Result<BodyPart, BodyError> {
        for (at, &byte) in bytes.iter().enumerate() {
            self.state = match self.state {
                State::Size(digits) => self.size(digits, byte)?,
                State::Extension(extension) => self.extension(extension, byte)?,
                State::SizeEnd if byte != b'\n' => return Err(BodyError::ChunkSize),
                State::SizeEnd if self.size == 0 => State::Trailers,
                State::SizeEnd => State::Data,
                State::DataEnd if byte == b'\r' => State::DataEndLf,
                State::DataEndLf if byte == b'\n' => State::Size(0),
                State::DataEnd | State::DataEndLf => return Err(BodyError::ChunkEnd),
                state @ (State::Data | State::Trailers | State::Done) => state,
            };
            if matches!(self.state, State::Data | State::Trailers) {
                return Ok(BodyPart::Framing(at + 1));
            }
        }
        Ok(BodyPart::Framing(bytes.len()))
    }

    fn size(&mut self, digits: u8, byte: u8) -> Result<State, BodyError> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            if digits == MAX_SIZE_DIGITS {
                return Err(BodyError::ChunkSize);
            }
            let before = if digits == 0 { 0 } else { self.size };
            self.size = before << 4 | u64::from(digit);
            return Ok(State::Size(digits + 1));
        }
        match byte {
            _ if digits == 0 => Err(BodyError::ChunkSize),
            b'\r' => Ok(State::SizeEnd),
            b';' => self.spend(Extension::BeforeName),
            b' ' | b'\t' => self.spend(Extension::BeforeSemicolon),
            _ => Err(BodyError::ChunkSize),
        }
    }

    fn extension(&mut self, at: Extension, byte: u8) -> Result<State, BodyError> {
        use Extension::{AfterName, BeforeName, BeforeSemicolon, BeforeValue, Name, Value};
        match (at, byte) {
            (Name | Value, b'\r') => Ok(State::SizeEnd),
            (BeforeSemicolon | Name | AfterName | Value, b';') => self.spend(BeforeName),
            (Name | AfterName, b'=') => self.spend(BeforeValue),
            (BeforeSemicolon | BeforeName | AfterName | BeforeValue, b' ' | b'\t') => {
                self.spend(at)
            }
            (Name, b' ' | b'\t') => self.spend(AfterName),
            (Value, b' ' | b'\t') => self.spend(BeforeSemicolon),
            (BeforeName | Name, byte) if is_token_byte(byte) => self.spend(Name),
            (BeforeValue | Value, byte) if is_token_byte(byte) => self.spend(Value),
            _ => Err(BodyError::ChunkExtension),
        }
    }

    /// Takes one byte of extension.
    fn spend(&mut self, next: Extension) -> Result<State, BodyError> {
        self.extension_credit =
            self.extension_credit.checked_sub(1).ok_or(BodyError::ExtensionsTooLong)?;
        Ok(State::Extension(next))
    }

    fn read_trailers(&mut self, bytes: &[u8]) -> Result<BodyPart, BodyError> {
        if bytes.is_empty() {
            return Ok(BodyPart::Framing(0));
        }
        let Self { limits, reader, trailers, dropped, .. } = self;
        let parse = |bytes: &[u8]| parse_trailers(bytes, limits, dropped, trailers);
        match reader.read(bytes, limits.bytes, parse).map_err(BodyError::Trailers)? {
            HeadProgress::More => Ok(BodyPart::Framing(bytes.len())),
            HeadProgress::Done(length) => {
                self.state = State::Done;
                Ok(BodyPart::End(length))
            }
        }
    }
}

/// Parses the trailer section at the start of `bytes`, its empty line included.
fn parse_trailers(
    bytes: &[u8],
    limits: &HeadLimits,
    dropped: &str,
    trailers: &mut Headers,
) -> Result<Parsed, FieldError> {
    if bytes.starts_with(b"\r\n") {
        return Ok(Parsed::Complete(2));
    }
    let (bytes, is_full) = limits.cut(bytes);
    let mut storage = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let storage = &mut storage[..limits.fields.min(MAX_FIELDS)];
    let (length, fields) = match httparse::parse_headers(bytes, storage) {
        Ok(Status::Complete(complete)) => complete,
        Ok(Status::Partial) if is_full => return Err(FieldError::TooLarge),
        Ok(Status::Partial) => return Ok(Parsed::Partial),
        Err(error) => return Err(field_error(error).unwrap_or(FieldError::Name)),
    };
    let Some((_, behind_first)) = fields.split_first() else { return Err(FieldError::LineEnd) };
    check_line_ends(&bytes[..length], behind_first)?;
    let is_dropped =
        |name: &str| dropped.split(',').any(|dropped| dropped.trim().eq_ignore_ascii_case(name));
    let is_kept =
        |field: &&Header<'_>| is_allowed(field.name.as_bytes()) && !is_dropped(field.name);
    for field in fields.iter().filter(is_kept) {
        trailers.push(field.name.as_bytes(), field.value);
    }
    Ok(Parsed::Complete(length))
}

/// Whether a trailer may be called so. An origin that merges trailers into the fields of the head must
/// not be told there what this proxy has checked, or said, in the head.
fn is_allowed(name: &[u8]) -> bool {
    const NEVER: &[&str] = &[
        "age",
        "authorization",
        "cache-control",
        "content-encoding",
        "content-range",
        "content-type",
        "cookie",
        "date",
        "expires",
        "forwarded",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "location",
        "max-forwards",
        "pragma",
        "proxy-authenticate",
        "proxy-authorization",
        "range",
        "retry-after",
        "set-cookie",
        "trailer",
        "vary",
        "via",
        "www-authenticate",
        "x-real-ip",
        "x-request-id",
    ];
    const NEVER_FORWARDED: &[u8] = b"x-forwarded-";
    let start = &name[..name.len().min(NEVER_FORWARDED.len())];
    FramingField::of(name).is_none()
        && !start.eq_ignore_ascii_case(NEVER_FORWARDED)
        && !NEVER.iter().any(|never| name.eq_ignore_ascii_case(never.as_bytes()))
}

/// What follows the data of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// Writes the line before the data of a chunk at the end of `out`: its size, and CRLF. The data
/// follows, and then [`CHUNK_END`].
pub fn write_chunk_head(size: NonZeroU64, out: &mut Vec<u8>) {
    let size = size.get();
    let digits = u64::BITS.div_ceil(4) - size.leading_zeros() / 4;
    out.extend((0..digits).rev().map(|digit| {
        let nibble = (size >> (4 * digit)) as usize & 0xf;
        b"0123456789abcdef"[nibble]
    }));
    out.extend_from_slice(b"\r\n");
}

/// Writes the end of a chunked body at the end of `out`: the last chunk, and `trailers`.
pub fn write_last_chunk(trailers: &Headers, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers.as_wire());
    out.extend_from_slice(b"\r\n");
}
