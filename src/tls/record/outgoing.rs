//! What is sent, as records.
//!
//! A record can be read only when all of it has arrived. So the first bytes of a burst leave in
//! records that fit a segment, and what follows in the largest ones, which cost the least.

use std::time::Duration;

use rustls::{ContentType, crypto::cipher::OutboundChunks};

use super::{StreamError, keys::Keys};
use crate::ring::{Nanoseconds, Output, Payload, nanoseconds};

/// Plaintext of a record that fits a segment: 1,460 bytes less TCP's timestamps, the header, the
/// content type and the tag, and room for a tunnel's headers.
const SEGMENT: usize = 1369;
/// The most that a record may hold (RFC 8446 section 5.1).
const LARGEST: usize = 16 << 10;
/// So much of a burst leaves in small records: about what a new connection may have in flight
/// (RFC 6928).
const SMALL_UNTIL: usize = 10 * SEGMENT;
/// A pause after which the next bytes are a burst of their own.
const PAUSE: Duration = Duration::from_secs(1);
/// Pieces that wait for the next ones; more leave as they are.
const PIECES: usize = 8;

/// What waits to leave with the next bytes, and how large records are at the moment.
#[derive(Default)]
pub(super) struct Outgoing {
    waiting: Vec<Payload>,
    burst: usize,
    last: Nanoseconds,
}

impl Outgoing {
    /// Keeps bytes back, to leave together with the next ones. `false` where it is time to seal
    /// what waits.
    pub(super) fn wait(&mut self, payload: Payload) -> bool {
        self.waiting.push(payload);
        self.waiting.len() < PIECES
    }

    /// Appends records with all that waits, and `last`, to `output`. `full` is called when that holds
    /// a full record or more, and leaves it with room for another.
    pub(super) fn seal(
        &mut self,
        last: Option<Payload>,
        keys: &mut Keys,
        now: Nanoseconds,
        output: &mut Output,
        mut full: impl FnMut(&mut Output),
    ) -> Result<(), StreamError> {
        if now.saturating_sub(self.last) >= nanoseconds(PAUSE) {
            self.burst = 0;
        }
        self.last = now;
        let pieces = self.waiting.len() + usize::from(last.is_some());
        let mut slices = [&[][..]; PIECES + 1];
        for (slice, payload) in slices.iter_mut().zip(self.waiting.iter().chain(&last)) {
            *slice = payload.bytes();
        }
        let mut rest = OutboundChunks::new(&slices[..pieces]);
        while !rest.is_empty() {
            let size = if self.burst < SMALL_UNTIL { SEGMENT } else { LARGEST };
            let (record, after) = rest.split_at(size);
            if output.len() + record.len() > LARGEST {
                full(output);
            }
            self.burst = self.burst.saturating_add(record.len());
            keys.seal(ContentType::ApplicationData, record, output)?;
            rest = after;
        }
        self.waiting.clear();
        Ok(())
    }
}
