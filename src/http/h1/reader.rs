//! Heads that arrive in pieces.

use super::{MAX_HEAD_BYTES, Parsed};
use std::mem;

/// Collects a head until it can be parsed as a whole.
///
/// Most heads arrive in one piece, which is parsed where it lies; nothing is copied or kept then. The
/// pieces of others are put together, and parsed again only when a line has ended since the last
/// time: a client that sends byte by byte costs no more parsing than the lines that it sends.
///
/// Between heads a reader holds no memory; in the middle of one, the bytes so far.
#[derive(Debug, Default)]
pub struct HeadReader {
    collected: Vec<u8>,
}

/// What came of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadProgress {
    /// All of the piece belongs to the head, and there is more to come.
    More,
    /// The head ended after this many bytes *of the piece*. The rest is the body, or the next head.
    Done(usize),
}

impl HeadReader {
    /// Nothing collected.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a head has begun: between heads a connection is idle and may be closed. The empty line
    /// that may come before a request is no beginning.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        !b"\r\n".starts_with(&self.collected)
    }

    /// How many bytes are collected.
    #[must_use]
    pub fn collected(&self) -> usize {
        self.collected.len()
    }

    /// Takes the next piece, of which no more than `limit` bytes in all are looked at. `parse` is
    /// [`RequestHead::parse`](crate::http::RequestHead::parse) or its like with the same limit, and is
    /// called at most once.
    ///
    /// # Errors
    ///
    /// Those of `parse`; what was collected is dropped then.
    pub fn read<E>(
        &mut self,
        piece: &[u8],
        limit: usize,
        parse: impl FnOnce(&[u8]) -> Result<Parsed, E>,
    ) -> Result<HeadProgress, E> {
        if self.collected.is_empty() {
            return Ok(match parse(piece)? {
                Parsed::Complete(length) => HeadProgress::Done(length),
                Parsed::Partial => {
                    self.collected.extend_from_slice(piece);
                    HeadProgress::More
                }
            });
        }
        let limit = limit.min(MAX_HEAD_BYTES);
        let before = self.collected.len();
        let piece = &piece[..piece.len().min(limit.saturating_sub(before))];
        self.collected.extend_from_slice(piece);
        if !piece.contains(&b'\n') && self.collected.len() < limit {
            return Ok(HeadProgress::More);
        }
        let collected = mem::take(&mut self.collected);
        Ok(match parse(&collected)? {
            Parsed::Complete(length) => HeadProgress::Done(length.saturating_sub(before)),
            Parsed::Partial => {
                self.collected = collected;
                HeadProgress::More
            }
        })
    }
}
