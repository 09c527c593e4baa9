//! The receiving half of a stream's slot: what has arrived, how much more may, and how it ended.
//!
//! A receive stays armed across many messages, and what arrives waits here until the stream's
//! owner takes it, so dropping a future that waits for it loses nothing.
//!
//! **Credit.** A stream may have `credit` bytes waiting here. Where the driver keeps a limit, a
//! receive is armed for the credit that is left and ends by itself; elsewhere it is cancelled once
//! the credit is used up, and overshoots by what one turn delivers. It is armed again when half of
//! the credit is free. The credit bounds buffers as well: beyond [`JOIN_FROM`] chunks, small ones
//! are copied together, so at most `JOIN_FROM + 2 * credit / buffer size + 1` buffers wait.
//!
//! **Pressure.** The credits of many streams together can exceed the pool. When three quarters of it
//! are in use, what arrives is copied to memory of its own, so that slow readers, however many,
//! never take the last buffers from the others. Their memory is bounded by their credits.
//!
//! **Starvation.** A receive that finds no free buffer ends. Its slot then waits in a queue for
//! buffers to come back (`reactor/completions.rs`). The driver does not sleep while there is a free
//! buffer and somebody waits. A stream keeps its place in the queue until it gets a buffer.

use std::{collections::VecDeque, io, rc::Rc, task::Waker};

use super::{
    buffers::{Chunk, Pool},
    driver::{Completion, Operation},
    reactor::SMALL,
};

/// With this many chunks waiting, further small ones are copied together.
const JOIN_FROM: usize = 4;

/// How a stream's receiving direction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    /// The peer has ended its direction; everything before that is here or was taken.
    Finished,
    Failed(i32),
}

/// What a slot must do after a completion of its receive.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Nothing,
    /// Cancel the receive: its credit is used up.
    Cancel,
    /// Wait for a buffer.
    Starve,
}

#[derive(Debug)]
pub(crate) struct ReceiveHalf {
    first: Option<Chunk>,
    /// What waits behind the first; an idle stream has no queue.
    #[allow(clippy::box_collection, reason = "24 bytes less in an idle stream")]
    rest: Option<Box<VecDeque<Chunk>>>,
    queued: u32,
    credit: u32,
    /// Which pool the driver takes buffers from, and which it will, with what credit.
    pool: u16,
    next_pool: u16,
    next_credit: u32,
    end: End,
    pub(crate) cancelling: bool,
    /// It waits for a buffer, and is not to be armed before it is its turn.
    pub(crate) starved: bool,
    /// Its place among those that found no buffer, until it gets one; 0 is none.
    pub(crate) place: u64,
    /// Whether data is more likely to come later than to be here when the receive is armed.
    wait_first: bool,
    pub(crate) waker: Option<Waker>,
}

impl ReceiveHalf {
    pub(crate) fn new(credit: u32, wait_first: bool) -> ReceiveHalf {
        ReceiveHalf {
            first: None,
            rest: None,
            queued: 0,
            credit,
            pool: 0,
            next_pool: 0,
            next_credit: credit,
            end: End::Open,
            cancelling: false,
            starved: false,
            place: 0,
            wait_first,
            waker: None,
        }
    }

    /// Receives into another pool, with another credit, from the next time that the receive is
    /// armed.
    pub(crate) fn use_pool(&mut self, pool: u16, credit: u32) {
        (self.next_pool, self.next_credit) = (pool, credit);
    }

    /// The next chunk, or how the stream ended; `None` where there is neither yet.
    pub(crate) fn take(&mut self) -> Option<io::Result<Option<Chunk>>> {
        if let Some(chunk) = self.first.take() {
            self.queued -= chunk.len() as u32;
            if let Some(rest) = &mut self.rest {
                self.first = rest.pop_front();
                if rest.is_empty() {
                    self.rest = None;
                }
            }
            return Some(Ok(Some(chunk)));
        }
        match self.end {
            End::Open => None,
            End::Finished => Some(Ok(None)),
            End::Failed(error) => Some(Err(io::Error::from_raw_os_error(error))),
        }
    }

    /// Whether the stream can deliver nothing any more, beside what waits here.
    pub(crate) fn ended(&self) -> bool {
        self.end != End::Open
    }

    pub(crate) fn failed(&self) -> bool {
        matches!(self.end, End::Failed(_))
    }

    /// The operation to start, if there is to be one. `armed` says whether there is one already.
    pub(crate) fn arm(&mut self, armed: bool, limits: bool) -> Option<Operation> {
        if armed || self.starved || self.ended() {
            return None;
        }
        (self.pool, self.credit) = (self.next_pool, self.next_credit);
        let left = self.credit.saturating_sub(self.queued);
        if left < self.credit.div_ceil(2) {
            return None;
        }
        let limit = if limits { left } else { 0 };
        let wait_first = std::mem::take(&mut self.wait_first);
        Some(Operation::Receive { pool: self.pool, limit, wait_first })
    }

    /// Takes in a completion.
    pub(crate) fn complete(&mut self, completion: Completion, pools: &[Rc<Pool>]) -> Then {
        if !completion.more {
            self.cancelling = false;
        }
        if completion.result <= 0
            && let Some(id) = completion.buffer
        {
            // One may have been picked for the end of the stream; it holds nothing.
            pools[self.pool as usize].take_back(id);
        }
        match completion.result {
            0 => self.end = End::Finished,
            length if length > 0 => {
                let Some(id) = completion.buffer else {
                    self.end = End::Failed(libc::EIO);
                    return Then::Nothing;
                };
                let pool = &pools[self.pool as usize];
                let mut chunk = pool.filled(id, length as u32);
                if pool.is_low() && self.pool == SMALL {
                    chunk = chunk.copied_out();
                }
                self.queued += length as u32;
                self.place = 0;
                self.push(chunk);
                if completion.more && self.queued >= self.credit && !self.cancelling {
                    self.cancelling = true;
                    return Then::Cancel;
                }
            }
            error => match -error {
                // Of the large ones there are few, and they may be held for long.
                libc::ENOBUFS if self.pool != SMALL => self.use_pool(SMALL, self.credit),
                libc::ENOBUFS => {
                    self.starved = true;
                    return Then::Starve;
                }
                // Cancelled for want of credit, or interrupted: armed again when it is wanted.
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
                error => self.end = End::Failed(error),
            },
        }
        Then::Nothing
    }

    /// Puts a chunk back, in front of what waits.
    pub(crate) fn put_back(&mut self, chunk: Chunk) {
        if chunk.is_empty() {
            return;
        }
        self.queued += chunk.len() as u32;
        if let Some(first) = self.first.replace(chunk) {
            self.rest.get_or_insert_default().push_front(first);
        }
    }

    fn push(&mut self, chunk: Chunk) {
        if self.first.is_none() {
            self.first = Some(chunk);
            return;
        }
        let rest = self.rest.get_or_insert_default();
        let joins = rest.len() + 1 >= JOIN_FROM;
        let chunk = match rest.back_mut() {
            Some(last) if joins => match last.append(chunk) {
                Ok(()) => return,
                Err(chunk) => chunk,
            },
            _ => chunk,
        };
        rest.push_back(chunk);
    }

    /// Gives back everything that waits here.
    pub(crate) fn clear(&mut self) {
        self.first = None;
        self.rest = None;
        self.queued = 0;
        self.waker = None;
    }
}
