//! A position in bytes of which more may come.
//!
//! **In**: the bytes so far. **Out**: the next ones, or [`Stop`]: not there yet, or wrong. Parsers end at either with
//! `?`, so they read like the grammar.

use super::{ParseError, ParseErrorKind};

/// Why a parser went no further.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Incomplete,
    Invalid(ParseError),
}

pub(super) type Parse<T> = Result<T, Stop>;

#[derive(Clone, Debug)]
pub(super) struct Bytes<'a> {
    all: &'a [u8],
    // Invariant: position <= all.len()
    position: usize,
}

impl<'a> Bytes<'a> {
    pub(super) fn new(all: &'a [u8]) -> Self {
        Bytes { all, position: 0 }
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// The bytes before the position.
    pub(super) fn read(&self) -> &'a [u8] {
        &self.all[..self.position]
    }

    pub(super) fn next(&mut self) -> Parse<u8> {
        let byte = *self.all.get(self.position).ok_or(Stop::Incomplete)?;
        self.position += 1;
        Ok(byte)
    }

    pub(super) fn take(&mut self, count: usize) -> Parse<&'a [u8]> {
        let taken = self.all.get(self.position..).and_then(|rest| rest.get(..count));
        let taken = taken.ok_or(Stop::Incomplete)?;
        self.position += count;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Parse<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| Stop::Incomplete)
    }

    /// Takes exactly `expected`; `kind` is what is wrong where another byte stands.
    pub(super) fn expect(&mut self, expected: &[u8], kind: ParseErrorKind) -> Parse<()> {
        for &byte in expected {
            if self.next()? != byte {
                return Err(self.wrong(kind));
            }
        }
        Ok(())
    }

    /// The byte taken last is wrong.
    pub(super) fn wrong(&self, kind: ParseErrorKind) -> Stop {
        Stop::Invalid(ParseError { at: self.position.saturating_sub(1), kind })
    }
}
