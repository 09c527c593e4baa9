//! The sending half of a stream's slot: what is being sent, what waits behind it, and how it
//! failed.
//!
//! One operation at a time carries the stream, so the order of bytes is the order of calls. What
//! is handed over while it is in flight waits here and leaves with the next operation, many pieces
//! in one. Nothing here is lost when a future that waits for it is dropped.

use std::{collections::VecDeque, io, num::NonZeroI32, task::Waker};

use super::{driver::Operation, payload::Payload};

/// Pieces that one operation takes along.
const PIECES: usize = 64;
/// A send of up to so many bytes is likely to be taken by the socket at once.
const SMALL: usize = 16 << 10;

/// A payload and how much of it was sent.
#[derive(Debug)]
struct Piece {
    payload: Payload,
    sent: usize,
}

impl Piece {
    fn left(&self) -> &[u8] {
        &self.payload.bytes()[self.sent..]
    }
}

/// Several pieces in one operation: what the kernel reads, in one place that does not move.
struct Vectored {
    pieces: Vec<Piece>,
    vectors: Vec<libc::iovec>,
    message: libc::msghdr,
}

enum Current {
    Nothing,
    One(Piece),
    Many(Box<Vectored>),
}

pub(crate) struct SendHalf {
    /// What the operation in flight sends, or what the next one sends first.
    current: Current,
    in_flight: bool,
    /// What leaves after that; an idle stream has no queue.
    #[allow(clippy::box_collection, reason = "24 bytes less in an idle stream")]
    waiting: Option<Box<VecDeque<Piece>>>,
    /// Bytes handed over and not yet sent.
    queued: usize,
    failed: Option<NonZeroI32>,
    /// Bytes that the operation in flight is to send, or more than one can.
    asked: u32,
    /// The last operation sent less than it was to. What made it do so, it does not say.
    cut_short: bool,
    /// The operation in flight sends what the socket takes at once.
    at_once: bool,
    /// The socket took less than that the last time.
    full: bool,
    /// The sending direction ends once everything is sent.
    finish: bool,
    finished: bool,
    pub(crate) waker: Option<Waker>,
}

impl SendHalf {
    pub(crate) fn new() -> SendHalf {
        SendHalf {
            current: Current::Nothing,
            in_flight: false,
            waiting: None,
            queued: 0,
            failed: None,
            asked: 0,
            cut_short: false,
            at_once: false,
            full: false,
            finish: false,
            finished: false,
            waker: None,
        }
    }

    /// Bytes handed over and not yet sent, or why nothing more can be sent.
    pub(crate) fn queued(&self) -> io::Result<usize> {
        match self.failed {
            Some(error) => Err(io::Error::from_raw_os_error(error.get())),
            None => Ok(self.queued),
        }
    }

    /// Why the connection is lost, as far as a send has learned it. EPIPE does not say that: it is
    /// the error of a connection whose peer had ended its direction before (`tcp_reset` in Linux's
    /// `net/ipv4/tcp_input.c`), unless it comes after one that a send cut short kept to itself.
    pub(crate) fn lost_connection(&self) -> Option<io::Error> {
        let error = match self.failed?.get() {
            libc::EPIPE if self.cut_short => libc::ECONNRESET,
            libc::EPIPE => return None,
            error => error,
        };
        Some(io::Error::from_raw_os_error(error))
    }

    pub(crate) fn failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Whether the operation in flight will tell if an error cut the one before it short.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.cut_short && self.in_flight
    }

    /// Whether as many pieces wait as the next operation takes along: each may hold a buffer,
    /// however small it is.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.len() >= PIECES)
    }

    /// Whether something waits for the end of the operation in flight.
    pub(crate) fn is_held_up(&self) -> bool {
        self.in_flight && (self.waiting.is_some() || self.waker.is_some() || self.finish)
    }

    pub(crate) fn push(&mut self, payload: Payload) -> io::Result<()> {
        self.queued()?;
        if self.finish {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let length = payload.bytes().len();
        if length == 0 {
            return Ok(());
        }
        self.queued += length;
        let piece = Piece { payload, sent: 0 };
        match self.current {
            Current::Nothing => self.current = Current::One(piece),
            _ => self.waiting.get_or_insert_default().push_back(piece),
        }
        Ok(())
    }

    /// Ends the direction after what was handed over.
    pub(crate) fn finish(&mut self) {
        self.finish = true;
    }

    /// Whether the end of the direction is due now; true once.
    pub(crate) fn take_finish(&mut self) -> bool {
        let due = self.finish && !self.finished && self.queued == 0 && self.failed.is_none();
        self.finished |= due;
        due
    }

    /// The operation to start, if there is something to send and nothing in flight. What it points
    /// to stays in place until [`complete`](Self::complete).
    pub(crate) fn start(&mut self) -> Option<Operation> {
        if self.in_flight {
            return None;
        }
        let Current::One(piece) = std::mem::replace(&mut self.current, Current::Nothing) else {
            return None;
        };
        let operation = match self.waiting.take() {
            None => self.send_one(piece),
            Some(waiting) => self.send_many(piece, waiting),
        };
        self.in_flight = true;
        Some(operation)
    }

    fn send_one(&mut self, piece: Piece) -> Operation {
        let left = piece.left();
        // Longer payloads leave in several operations.
        let (pointer, length) = (left.as_ptr(), send_length(left.len()));
        let at_once = self.ask(left.len());
        self.current = Current::One(piece);
        Operation::Send { pointer, length, at_once }
    }

    #[allow(clippy::box_collection, reason = "it is put back as it is")]
    fn send_many(&mut self, first: Piece, mut waiting: Box<VecDeque<Piece>>) -> Operation {
        let more = waiting.len().min(PIECES - 1);
        let pieces: Vec<Piece> = std::iter::once(first).chain(waiting.drain(..more)).collect();
        if !waiting.is_empty() {
            self.waiting = Some(waiting);
        }
        let asked: usize = pieces.iter().map(|piece| piece.left().len()).sum();
        let at_once = self.ask(asked);
        let mut vectors: Vec<libc::iovec> = pieces
            .iter()
            .map(|piece| libc::iovec {
                iov_base: piece.left().as_ptr().cast_mut().cast(),
                iov_len: piece.left().len(),
            })
            .collect();
        // SAFETY: all of msghdr's fields are integers and pointers, for which zeroes are valid.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = vectors.as_mut_ptr();
        message.msg_iovlen = vectors.len() as _;
        let vectored = Box::new(Vectored { pieces, vectors, message });
        debug_assert_eq!(vectored.vectors.as_ptr(), vectored.message.msg_iov.cast_const());
        let operation = Operation::SendVectored {
            message: &raw const vectored.message,
            length: self.asked,
            at_once,
        };
        self.current = Current::Many(vectored);
        operation
    }

    /// Notes how much the next operation is to send, and says whether at once.
    fn ask(&mut self, length: usize) -> bool {
        self.asked = send_length(length);
        self.at_once = length <= SMALL && !self.full;
        self.at_once
    }

    /// Takes in the completion of the operation in flight.
    pub(crate) fn complete(&mut self, result: i32) {
        self.in_flight = false;
        let current = std::mem::replace(&mut self.current, Current::Nothing);
        let result = if self.at_once && result == -libc::EAGAIN { 0 } else { result };
        if let Some(error) = NonZeroI32::new(-result).filter(|error| error.is_positive()) {
            self.failed = Some(error);
            self.waiting = None;
            return;
        }
        let mut sent = result as usize;
        self.queued -= sent;
        let short = sent < self.asked as usize;
        self.full = short && self.at_once;
        self.cut_short = short && !self.at_once;
        match current {
            Current::Nothing => {}
            Current::One(mut piece) => {
                piece.sent += sent;
                self.keep_unsent(std::iter::once(piece));
            }
            Current::Many(mut vectored) => {
                for piece in &mut vectored.pieces {
                    let of_this = sent.min(piece.left().len());
                    piece.sent += of_this;
                    sent -= of_this;
                }
                self.keep_unsent(vectored.pieces.into_iter().rev());
            }
        }
        if let Some(waiting) = &mut self.waiting {
            if let Some(piece) = waiting.pop_front() {
                self.current = Current::One(piece);
            }
            if waiting.is_empty() {
                self.waiting = None;
            }
        }
    }

    /// Puts back what a short send left over, the last piece first.
    fn keep_unsent(&mut self, pieces: impl Iterator<Item = Piece>) {
        for piece in pieces.filter(|piece| !piece.left().is_empty()) {
            self.waiting.get_or_insert_default().push_front(piece);
        }
    }

    /// Forgets what waits; what is in flight stays until its completion.
    pub(crate) fn abandon(&mut self) {
        if !self.in_flight {
            self.current = Current::Nothing;
        }
        self.waiting = None;
        self.waker = None;
    }
}

/// The length of one send; longer payloads leave in several.
fn send_length(length: usize) -> u32 {
    length.min(1 << 30) as u32
}
