//! Operations in flight, and one attempt at each.
//!
//! The bytes of a send are read, and those of a receive written, when it comes to that, through
//! the pointers that the operation came with. So memory that its owner gave up too early is noticed:
//! by AddressSanitizer, and by the checks here.

use super::{
    Simulation,
    network::{SocketId, Went},
};
use crate::ring::driver::{Completion, Kind, Operation, Token};

pub(super) struct Flight {
    /// Which operation under this token it is: those before it have used the token as well.
    pub(super) serial: u64,
    pub(super) socket: SocketId,
    pub(super) operation: Operation,
    pub(super) cancelled: bool,
    /// It was cancelled and has been tried once more: the most that a kernel does.
    tried_late: bool,
    /// Whether the next attempt has its time already.
    pub(super) scheduled: bool,
    pub(super) attempts: u64,
    /// Bytes sent.
    sent: usize,
    /// Bytes that the limit of a receive leaves.
    left: u32,
    /// What the memory of the operation held when it was started.
    digest: u64,
    /// What was reported last of a poll.
    reported: i32,
}

/// What came of an attempt.
enum Step {
    /// Nothing, until the socket changes.
    Waits,
    /// Something, but it goes on without a completion.
    GoesOn,
    Completes {
        result: i32,
        buffer: Option<u16>,
        more: bool,
    },
}

impl Step {
    fn last(result: i32) -> Step {
        Step::Completes { result, buffer: None, more: false }
    }
}

impl Flight {
    pub(super) fn new(serial: u64, socket: SocketId, operation: Operation) -> Flight {
        let left = match operation {
            Operation::Receive { limit, .. } if limit > 0 => limit,
            _ => u32::MAX,
        };
        let digest = digest(&operation);
        Flight {
            serial,
            socket,
            operation,
            cancelled: false,
            tried_late: false,
            scheduled: false,
            attempts: 0,
            sent: 0,
            left,
            digest,
            reported: 0,
        }
    }
}

impl Simulation {
    /// Tries to get an operation on.
    pub(super) fn attempt(&mut self, token: Token, serial: u64) {
        let Some(mut flight) = self.flights.remove(&token.0) else { return };
        if flight.serial != serial {
            self.flights.insert(token.0, flight);
            return;
        }
        flight.attempts += 1;
        flight.scheduled = false;
        let step = self.step(&mut flight);
        let (goes_on, again) = match step {
            Step::Waits => (true, false),
            Step::GoesOn => (true, true),
            Step::Completes { result, buffer, more } => {
                self.ready.push_back(Completion { token, result, buffer, more });
                (more, more)
            }
        };
        if !goes_on && digest(&flight.operation) != flight.digest {
            self.violation(format!("the memory of {token:?} changed while it was in flight"));
        }
        if goes_on {
            self.flights.insert(token.0, flight);
        }
        if again {
            self.schedule_attempt(token, serial);
        }
        self.wake_changed();
    }

    fn step(&mut self, flight: &mut Flight) -> Step {
        if flight.cancelled {
            let first = !std::mem::replace(&mut flight.tried_late, true);
            let late = first && self.random.chance(self.behaviour.late_result);
            if !late
                || matches!(
                    flight.operation,
                    Operation::Send { .. } | Operation::SendVectored { .. }
                )
            {
                return Step::last(match flight.sent {
                    0 => -libc::ECANCELED,
                    sent => sent as i32,
                });
            }
        } else if self.random.chance(self.behaviour.fails)
            && !matches!(flight.operation, Operation::Accept | Operation::PollBroken)
            && flight.sent == 0
        {
            return Step::last(-self.random.pick(&[
                libc::ETIMEDOUT,
                libc::EHOSTUNREACH,
                libc::ENOMEM,
            ]));
        }
        let step = match &flight.operation {
            Operation::Accept => self.step_accept(flight.socket),
            Operation::Connect { address } => {
                // SAFETY: as `Operation` demands, the address lives until the last completion.
                let address = unsafe { &**address }.as_socket();
                let address = address.expect("simulated sockets have IP addresses");
                match self.network.connect(flight.socket, address) {
                    Went::Done(()) => Step::last(0),
                    Went::Failed(error) => Step::last(-error),
                    Went::Waits => Step::Waits,
                }
            }
            Operation::Receive { .. } => self.step_receive(flight),
            Operation::Send { .. } | Operation::SendVectored { .. } => self.step_send(flight),
            Operation::PollBroken => self.step_poll(flight),
        };
        match step {
            // What was cancelled had its chance.
            Step::Waits if flight.cancelled => Step::last(-libc::ECANCELED),
            Step::Waits if flight.operation.at_once().is_some() => Step::last(-libc::EAGAIN),
            Step::GoesOn if flight.operation.at_once().is_some() => Step::last(flight.sent as i32),
            Step::Completes { result, buffer, more: true } if result > 0 && !flight.cancelled => {
                let more = !self.random.chance(self.behaviour.ends);
                Step::Completes { result, buffer, more }
            }
            step => step,
        }
    }

    fn step_accept(&mut self, listener: SocketId) -> Step {
        if self.network.has_waiting(listener) && self.random.chance(self.behaviour.accept_fails) {
            let error = self.random.pick(&[libc::EMFILE, libc::ENFILE, libc::ECONNABORTED]);
            if error == libc::ECONNABORTED
                && let Went::Done(aborted) = self.network.accept(listener)
            {
                self.network.abort(aborted);
            }
            return Step::last(-error);
        }
        match self.network.accept(listener) {
            Went::Done(accepted) => {
                let result = self.give_descriptor(accepted);
                Step::Completes { result, buffer: None, more: true }
            }
            Went::Failed(error) => Step::last(-error),
            Went::Waits => Step::Waits,
        }
    }

    fn step_receive(&mut self, flight: &mut Flight) -> Step {
        let Operation::Receive { pool, wait_first, .. } = flight.operation else { unreachable!() };
        let tries = flight.attempts == 1 && !wait_first;
        let ready =
            self.network.has_arrived(flight.socket) > 0 || self.network.has_ended(flight.socket);
        if !ready && !tries {
            return Step::Waits;
        }
        // A buffer is chosen before there is anything to put into it.
        if self.lent[usize::from(pool)].is_empty() {
            return Step::last(-libc::ENOBUFS);
        }
        let size = self.pools[usize::from(pool)].buffer_size();
        let most = self.part(size.min(flight.left) as usize);
        match self.network.receive(flight.socket, most) {
            Went::Waits => Step::Waits,
            Went::Failed(error) => Step::last(-error),
            Went::Done(bytes) if bytes.is_empty() => {
                let picks = self.random.chance(self.behaviour.end_with_buffer);
                let buffer = if picks { self.lent[usize::from(pool)].pop_front() } else { None };
                Step::Completes { result: 0, buffer: buffer.map(|(id, _)| id), more: false }
            }
            Went::Done(bytes) => {
                let id = self.fill(pool, &bytes);
                if flight.left != u32::MAX {
                    flight.left -= bytes.len() as u32;
                }
                let (result, more) = (bytes.len() as i32, flight.left > 0);
                Step::Completes { result, buffer: Some(id), more }
            }
        }
    }

    fn step_send(&mut self, flight: &mut Flight) -> Step {
        let pieces = pieces(&flight.operation);
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let room = self.network.room(flight.socket).max(1);
        let most = self.part((length - flight.sent).min(room));
        let bytes = range(&pieces, flight.sent, most);
        let ends = match self.network.send(flight.socket, &bytes) {
            Went::Waits => return Step::Waits,
            Went::Failed(error) if flight.sent == 0 => return Step::last(-error),
            Went::Failed(_) => return Step::last(flight.sent as i32),
            Went::Done((count, answered_by_reset)) => {
                flight.sent += count;
                if answered_by_reset {
                    self.schedule_reset(flight.socket);
                }
                flight.sent == length || self.random.chance(self.behaviour.short_send)
            }
        };
        if ends { Step::last(flight.sent as i32) } else { Step::GoesOn }
    }

    fn step_poll(&mut self, flight: &mut Flight) -> Step {
        let events = self.network.events(flight.socket);
        if events == flight.reported {
            return Step::Waits;
        }
        flight.reported = events;
        Step::Completes { result: events, buffer: None, more: true }
    }

    /// Some of `whole`, which is more than nothing.
    fn part(&mut self, whole: usize) -> usize {
        if self.random.chance(self.behaviour.partly) {
            self.random.scale(whole as u64) as usize
        } else {
            whole
        }
    }

    /// Writes to a buffer that was lent.
    fn fill(&mut self, pool: u16, bytes: &[u8]) -> u16 {
        let lent = self.lent[usize::from(pool)].pop_front();
        let (id, start) = lent.expect("the caller looked");
        let pool = &self.pools[usize::from(pool)];
        let is_lent = pool.is_lent(id);
        // SAFETY: the pool has lent this buffer to the driver, which is its only user until it
        // reports it; it is `buffer_size` long.
        let buffer =
            unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), pool.buffer_size() as usize) };
        let untouched = buffer[..bytes.len()].iter().all(|byte| *byte == super::kernel::POISON);
        buffer[..bytes.len()].copy_from_slice(bytes);
        if !is_lent || !untouched {
            self.violation(format!("buffer {id} was in use while it was lent"));
        }
        id
    }

    /// Time has come for operations on sockets that have changed.
    pub(super) fn wake_changed(&mut self) {
        for socket in std::mem::take(&mut self.network.changed) {
            let of_socket = self.flights.iter().filter(|(_, flight)| flight.socket == socket);
            let waiting: Vec<_> =
                of_socket.map(|(token, flight)| (Token(*token), flight.serial)).collect();
            for (token, serial) in waiting {
                self.schedule_attempt(token, serial);
            }
        }
    }
}

/// What a send sends, through its pointers.
fn pieces(operation: &Operation) -> Vec<&[u8]> {
    match operation {
        Operation::Send { pointer, length, .. } => {
            // SAFETY: as `Operation` demands, the bytes live until the last completion.
            vec![unsafe { std::slice::from_raw_parts(*pointer, *length as usize) }]
        }
        Operation::SendVectored { message, .. } => {
            // SAFETY: the same; the message's vectors and what they point to belong to it.
            let vectors =
                unsafe { std::slice::from_raw_parts((**message).msg_iov, (**message).msg_iovlen) };
            let piece = |vector: &libc::iovec| {
                // SAFETY: the same.
                unsafe { std::slice::from_raw_parts(vector.iov_base.cast::<u8>(), vector.iov_len) }
            };
            vectors.iter().map(piece).collect()
        }
        _ => Vec::new(),
    }
}

/// `count` bytes from `start` on, counted over all pieces.
fn range(pieces: &[&[u8]], mut start: usize, count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count);
    for piece in pieces {
        let skipped = start.min(piece.len());
        start -= skipped;
        let taken = (piece.len() - skipped).min(count - bytes.len());
        bytes.extend_from_slice(&piece[skipped..][..taken]);
    }
    bytes
}

fn digest(operation: &Operation) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    match operation {
        Operation::Connect { address } => {
            // SAFETY: as `Operation` demands, the address lives until the last completion.
            hasher.write(format!("{:?}", unsafe { &**address }).as_bytes());
        }
        operation => pieces(operation).into_iter().for_each(|piece| hasher.write(piece)),
    }
    hasher.finish()
}

/// What kinds of operation may be in flight for a token.
pub(super) fn fits(kind: Kind, operation: &Operation) -> bool {
    matches!(
        (kind, operation),
        (Kind::Accept, Operation::Accept)
            | (Kind::Connect, Operation::Connect { .. })
            | (Kind::Receive, Operation::Receive { .. })
            | (Kind::Send, Operation::Send { .. } | Operation::SendVectored { .. })
            | (Kind::Poll, Operation::PollBroken)
    )
}
