//! The messages that a peer is sent.
//!
//! What is written at about the same time leaves together: a head waits for the first piece of its
//! body if that is there, small pieces are copied behind it, large ones are sent from where they
//! are.

use std::{io, mem, num::NonZeroU64};

use crate::{
    http::{
        Headers, ResponseBody,
        h1::{CHUNK_END, write_chunk_head, write_last_chunk},
    },
    net::Sending,
    ring::{Chunk, Output},
};

/// Pieces up to this length are copied behind a head that waits: that is cheaper than a send of
/// several pieces.
const COPY_BEHIND_HEAD: usize = 4096;
/// Pieces up to this length are copied in any case.
const COPY_ALWAYS: usize = 512;

/// What a peer is being sent.
pub(in crate::http) struct Outgoing {
    length: ResponseBody,
    /// Written, and not handed over.
    written: Option<Output>,
    /// Handed over, and waiting for a start.
    queued: bool,
    /// Bytes that were handed over and not counted yet.
    count: u64,
}

impl Outgoing {
    pub(in crate::http) fn new() -> Outgoing {
        Outgoing { length: ResponseBody::None, written: None, queued: false, count: 0 }
    }

    /// Begins a message, whose head `write` writes and whose body has this length. Nothing leaves
    /// before [`flush`](Self::flush).
    pub(in crate::http) fn begin(
        &mut self,
        to: &Sending<'_>,
        length: impl Into<ResponseBody>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.length = length.into();
        write(self.written.get_or_insert_with(|| to.output()));
    }

    /// A piece of the body.
    pub(in crate::http) fn body(&mut self, to: &mut Sending<'_>, piece: Chunk) -> io::Result<()> {
        // An empty chunk would end the body.
        let Some(size) = NonZeroU64::new(piece.len() as u64) else { return Ok(()) };
        let chunked = self.length == ResponseBody::Chunked;
        let copies = match self.written {
            Some(_) => piece.len() <= COPY_BEHIND_HEAD,
            None => piece.len() <= COPY_ALWAYS,
        };
        if copies {
            self.copy(to, &piece);
            return Ok(());
        }
        if chunked {
            write_chunk_head(size, self.written.get_or_insert_with(|| to.output()));
        }
        self.queue_written(to)?;
        self.count += piece.len() as u64;
        to.queue(piece)?;
        self.queued = true;
        if chunked {
            self.written.get_or_insert_with(|| to.output()).extend_from_slice(CHUNK_END);
        }
        Ok(())
    }

    /// Bytes of the body, copied.
    pub(in crate::http) fn copy(&mut self, to: &Sending<'_>, bytes: &[u8]) {
        let Some(size) = NonZeroU64::new(bytes.len() as u64) else { return };
        let chunked = self.length == ResponseBody::Chunked;
        let written = self.written.get_or_insert_with(|| to.output());
        if chunked {
            write_chunk_head(size, written);
        }
        written.extend_from_slice(bytes);
        if chunked {
            written.extend_from_slice(CHUNK_END);
        }
    }

    /// The end of the body, with the fields behind it where it is chunked.
    pub(in crate::http) fn end(&mut self, to: &Sending<'_>, trailers: Option<&Headers>) {
        if self.length == ResponseBody::Chunked {
            let written = self.written.get_or_insert_with(|| to.output());
            write_last_chunk(trailers.unwrap_or(&Headers::new()), written);
        }
    }

    /// Sends what was written.
    pub(in crate::http) fn flush(&mut self, to: &mut Sending<'_>) -> io::Result<()> {
        if let Some(written) = self.written.take() {
            self.queued = false;
            self.count += written.len() as u64;
            to.start_send(written)
        } else if mem::take(&mut self.queued) {
            to.start_send("")
        } else {
            Ok(())
        }
    }

    /// How many bytes were handed over since the last call.
    pub(in crate::http) fn take_count(&mut self) -> u64 {
        mem::take(&mut self.count)
    }

    fn queue_written(&mut self, to: &mut Sending<'_>) -> io::Result<()> {
        if let Some(written) = self.written.take() {
            self.count += written.len() as u64;
            to.queue(written)?;
            self.queued = true;
        }
        Ok(())
    }
}
