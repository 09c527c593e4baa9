//! The fields of a message: names as they were spelled, in the order in which they came.
//!
//! In: fields that a parser accepted, and those that filters add. Out: values by name, and the whole
//! section as it is sent. It owns its text, which is at any time the section in canonical form, one
//! `Name: value` and CRLF a field: to send the fields is to copy the text. It never holds the fields
//! that the codec writes itself (see [`InvalidHeader::Framing`]).

use super::head::{FramingField, is_token};
use crate::telemetry::access_log::Fields;
use std::{fmt, ops::Range};

/// The fields of a message, in order. Names compare without regard to case and keep their spelling.
///
/// Made to be reused: [`clear`](Self::clear) keeps the memory. A look-up passes over all fields, which
/// is the fastest way for the few that a message has.
#[derive(Clone, Default)]
pub struct Headers {
    text: Vec<u8>,
    fields: Vec<Field>,
}

/// A line of the text. Lengths in bytes.
#[derive(Debug, Clone, Copy)]
struct Field {
    start: u32,
    name_length: u32,
    value_length: u32,
}

impl Field {
    fn name(self) -> Range<usize> {
        let start = self.start as usize;
        start..start + self.name_length as usize
    }

    fn value(self) -> Range<usize> {
        let start = self.name().end + SEPARATOR.len();
        start..start + self.value_length as usize
    }

    fn line(self) -> Range<usize> {
        self.start as usize..self.value().end + LINE_END.len()
    }
}

const SEPARATOR: &[u8] = b": ";
const LINE_END: &[u8] = b"\r\n";

impl Headers {
    /// No fields, and no memory yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of fields; one that came twice counts twice.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The value of the first field called `name`, without the white space around it.
    #[must_use]
    pub fn get(&self, name: impl AsRef<str>) -> Option<&[u8]> {
        let name = name.as_ref().as_bytes();
        self.fields.iter().find(|field| self.is_named(**field, name)).map(|f| &self.text[f.value()])
    }

    /// As [`get`](Self::get), if the value is UTF-8.
    #[must_use]
    pub fn get_str(&self, name: impl AsRef<str>) -> Option<&str> {
        self.get(name).and_then(|value| str::from_utf8(value).ok())
    }

    /// The values of all fields called `name`, in order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let named = move |field: &&Field| self.is_named(**field, name.as_bytes());
        self.fields.iter().filter(named).map(|field| &self.text[field.value()])
    }

    /// Whether there is a field called `name`.
    #[must_use]
    pub fn contains(&self, name: impl AsRef<str>) -> bool {
        self.get(name).is_some()
    }

    /// All fields, in order: names as they were spelled, values without the white space around them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|field| {
            // Names are tokens, which are ASCII.
            let name = str::from_utf8(&self.text[field.name()]).unwrap_or_default();
            (name, &self.text[field.value()])
        })
    }

    /// Puts a field at the end in place of all that are called `name`.
    ///
    /// White space around the value goes.
    ///
    /// # Errors
    ///
    /// The name is no token, or one of those that belong to the codec, or the value holds a control
    /// character other than a tab. Nothing has changed then.
    pub fn insert(
        &mut self,
        name: impl AsRef<str>,
        value: impl AsRef<[u8]>,
    ) -> Result<(), InvalidHeader> {
        let (name, value) = self.check(name.as_ref(), value.as_ref())?;
        self.remove_named(name);
        self.push(name, value);
        Ok(())
    }

    /// Puts a field at the end, beside those that are already called `name`.
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert).
    pub fn append(
        &mut self,
        name: impl AsRef<str>,
        value: impl AsRef<[u8]>,
    ) -> Result<(), InvalidHeader> {
        let (name, value) = self.check(name.as_ref(), value.as_ref())?;
        self.push(name, value);
        Ok(())
    }

    /// Removes all fields called `name`; whether there were any.
    pub fn remove(&mut self, name: impl AsRef<str>) -> bool {
        self.remove_named(name.as_ref().as_bytes())
    }

    /// Removes all fields and keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.fields.clear();
    }

    /// The section as it is sent, up to and without the empty line that ends it.
    pub(super) fn as_wire(&self) -> &[u8] {
        &self.text
    }

    /// Makes room for a section of `bytes`.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.text.reserve(bytes);
    }

    /// Puts a field at the end which a parser has accepted. Sections are limited to far less than
    /// 4 GiB.
    pub(super) fn push(&mut self, name: &[u8], value: &[u8]) {
        debug_assert!(self.text.len() < MAX_BYTES);
        self.fields.push(Field {
            start: self.text.len() as u32,
            name_length: name.len() as u32,
            value_length: value.len() as u32,
        });
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(SEPARATOR);
        self.text.extend_from_slice(value);
        self.text.extend_from_slice(LINE_END);
    }

    pub(super) fn remove_named(&mut self, name: &[u8]) -> bool {
        let Self { text, fields } = self;
        let mut removed = 0;
        fields.retain_mut(|field| {
            field.start -= removed;
            if !text[field.name()].eq_ignore_ascii_case(name) {
                return true;
            }
            let line = field.line();
            removed += line.len() as u32;
            text.drain(line);
            false
        });
        removed > 0
    }

    fn is_named(&self, field: Field, name: &[u8]) -> bool {
        self.text[field.name()].eq_ignore_ascii_case(name)
    }

    /// Name and value, once they may become a field.
    fn check<'a>(
        &self,
        name: &'a str,
        value: &'a [u8],
    ) -> Result<(&'a [u8], &'a [u8]), InvalidHeader> {
        let (name, value) = (name.as_bytes(), trim(value));
        if !is_token(name) {
            return Err(InvalidHeader::Name);
        }
        if FramingField::of(name).is_some() {
            return Err(InvalidHeader::Framing);
        }
        if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(InvalidHeader::Value);
        }
        let line = name.len().saturating_add(value.len()).saturating_add(4);
        if self.text.len().saturating_add(line) > MAX_BYTES {
            return Err(InvalidHeader::TooLarge);
        }
        Ok((name, value))
    }
}

/// How many bytes the fields of a message may have together.
const MAX_BYTES: usize = 16 << 20;

/// `value` without the white space around it (RFC 9110 section 5.5).
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

impl Fields for Headers {
    fn field(&self, name: &str) -> Option<&[u8]> {
        self.get(name)
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(name, value)| (name, String::from_utf8_lossy(value))))
            .finish()
    }
}

/// The same fields in the same order, spelled alike.
impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        // A value can hold no line end, so equal texts are equal fields.
        self.text == other.text
    }
}

impl Eq for Headers {}

/// Why a field cannot be added to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidHeader {
    /// The name is empty or holds something else than letters, digits and ``!#$%&'*+-.^_`|~``.
    Name,
    /// The value holds a control character other than a tab.
    Value,
    /// The field frames messages or steers connections, which the codec does from the facts of the
    /// head: `Connection`, `Content-Length`, `Expect`, `Host`, `HTTP2-Settings`, `Keep-Alive`,
    /// `Proxy-Connection`, `TE`, `Transfer-Encoding`, `Upgrade`.
    Framing,
    /// The fields would have more than 16 MiB together.
    TooLarge,
}

impl fmt::Display for InvalidHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "the name of the field is no token: use letters, digits and hyphens",
            Self::Value => "the value of the field holds a control character: encode or remove it",
            Self::Framing => {
                "the field belongs to the framing of the message, which is written from its head: \
                 use the setters of the head (`Host` is `set_authority`)"
            }
            Self::TooLarge => "the fields of the message would have more than 16 MiB",
        })
    }
}

impl std::error::Error for InvalidHeader {}

#[cfg(test)]
mod tests;
