//! What the driver knows of a slot's socket: its operations in flight, what an edge said of it, and
//! how it is registered.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd, RawFd},
};

use rustix::{
    event::epoll::{self, EventData, EventFlags},
    io::Errno,
};

use crate::ring::driver::{Key, Kind};

/// A set of the bits below.
#[derive(Clone, Copy, Default)]
pub(super) struct State(u8);

impl State {
    /// It is in the epoll instance.
    pub(super) const REGISTERED: State = State(1);
    /// Events say when there is room to send.
    pub(super) const ASKS_FOR_ROOM: State = State(1 << 1);
    /// There may be bytes to receive, or connections to accept.
    pub(super) const READABLE: State = State(1 << 2);
    /// An end, an error or urgent data: a buffer that was not filled does not mean that it is empty.
    pub(super) const ENDING: State = State(1 << 3);
    /// There may be room to send.
    pub(super) const WRITABLE: State = State(1 << 4);
    /// An error was seen. It stays, also when an operation has got the error.
    pub(super) const BROKEN: State = State(1 << 5);
    /// An error was seen, and not yet reported to the poll.
    pub(super) const BROKEN_NEWS: State = State(1 << 6);
    /// It stands in the list of those that are due.
    pub(super) const LISTED: State = State(1 << 7);

    pub(super) fn has(self, bit: State) -> bool {
        self.0 & bit.0 != 0
    }

    pub(super) fn insert(&mut self, bit: State) {
        self.0 |= bit.0;
    }

    /// Whether it was not there before.
    pub(super) fn insert_new(&mut self, bit: State) -> bool {
        let new = !self.has(bit);
        self.insert(bit);
        new
    }

    pub(super) fn remove(&mut self, bit: State) {
        self.0 &= !bit.0;
    }
}

/// One for each slot, so it is small.
pub(super) struct Watch {
    generation: u32,
    /// The slot's, which stays open while one of its operations is in flight.
    fd: RawFd,
    /// A bit for each [`Kind`] of operation in flight.
    armed: u8,
    pub(super) state: State,
    /// Of the receive in flight: its pool, and the bytes that it may still receive.
    pub(super) pool: u8,
    pub(super) left: u32,
}

const _: () = assert!(size_of::<Watch>() <= 16, "an idle connection has two");

impl Watch {
    const VACANT: Watch =
        Watch { generation: u32::MAX, fd: -1, armed: 0, state: State(0), pool: 0, left: 0 };

    pub(super) fn is_armed(&self, kind: Kind) -> bool {
        self.armed & bit_of(kind) != 0
    }

    pub(super) fn arm(&mut self, kind: Kind) {
        debug_assert!(!self.is_armed(kind), "one operation of a kind at a time");
        self.armed |= bit_of(kind);
        if kind == Kind::Accept {
            self.state.insert(State::READABLE);
        }
    }

    /// A limit of 0 is none: as many as can be counted, after which the receive ends and is armed
    /// again.
    pub(super) fn arm_receive(&mut self, pool: u16, limit: u32) {
        self.arm(Kind::Receive);
        self.pool = pool as u8;
        self.left = if limit == 0 { u32::MAX } else { limit };
    }

    pub(super) fn disarm(&mut self, kind: Kind) {
        self.armed &= !bit_of(kind);
    }

    /// The socket. For as long as an operation is in flight.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        debug_assert!(self.armed != 0, "the slot may have closed it");
        // SAFETY: the slot that this watch belongs to keeps the descriptor open until the last
        // completion of its last operation (`ring/slots.rs`), and one is armed here.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }

    /// Lets epoll report the socket, for room to send where `also` says so.
    pub(super) fn register(
        &mut self,
        epoll: &OwnedFd,
        key: Key,
        also: EventFlags,
    ) -> io::Result<()> {
        let asks = also.contains(EventFlags::OUT);
        let registered = self.state.has(State::REGISTERED);
        if registered && (!asks || self.state.has(State::ASKS_FOR_ROOM)) {
            return Ok(());
        }
        let always = EventFlags::IN | EventFlags::RDHUP | EventFlags::PRI | EventFlags::ET;
        let (data, flags) = (data_of(key), always | also);
        let result = match registered {
            true => epoll::modify(epoll, self.socket(), data, flags),
            false => match epoll::add(epoll, self.socket(), data, flags) {
                // Another use of a slot had the same socket.
                Err(Errno::EXIST) => epoll::modify(epoll, self.socket(), data, flags),
                result => result,
            },
        };
        result?;
        self.state.insert(State::REGISTERED);
        if asks {
            self.state.insert(State::ASKS_FOR_ROOM);
        }
        Ok(())
    }

    /// Takes the socket out of the epoll instance, also where others hold a duplicate of it.
    pub(super) fn unregister(&mut self, epoll: &OwnedFd) {
        if self.state.has(State::REGISTERED) {
            // It fails only where the socket is not there any more.
            let _ = epoll::delete(epoll, self.socket());
            self.state = State(self.state.0 & State::LISTED.0);
        }
    }

    /// Takes in what an edge says.
    pub(super) fn note(&mut self, events: EventFlags) {
        let ending = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        if events.intersects(EventFlags::IN | ending) {
            self.state.insert(State::READABLE);
        }
        if events.intersects(ending | EventFlags::PRI) {
            self.state.insert(State::ENDING);
        }
        if events.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR) {
            self.state.insert(State::WRITABLE);
        }
        if events.contains(EventFlags::ERR) {
            self.state.insert(State::BROKEN);
            self.state.insert(State::BROKEN_NEWS);
        }
    }

    /// Whether there is something to do for it without another edge.
    pub(super) fn is_due(&self) -> bool {
        let reads = self.is_armed(Kind::Receive) || self.is_armed(Kind::Accept);
        reads && self.state.has(State::READABLE)
    }
}

/// The watches by the index of their slots.
#[derive(Default)]
pub(super) struct Watches(Vec<Watch>);

impl Watches {
    /// The watch of a slot in this use of it, which begins where it is not there yet.
    pub(super) fn of(&mut self, key: Key, fd: RawFd) -> &mut Watch {
        let index = key.index as usize;
        if index >= self.0.len() {
            self.0.resize_with(index + 1, || Watch::VACANT);
        }
        let watch = &mut self.0[index];
        if watch.generation != key.generation {
            // It may stand in the list of those that are due, from its last use.
            let listed = State(watch.state.0 & State::LISTED.0);
            *watch = Watch { generation: key.generation, fd, state: listed, ..Watch::VACANT };
        }
        watch
    }

    pub(super) fn get(&mut self, key: Key) -> Option<&mut Watch> {
        self.0.get_mut(key.index as usize).filter(|watch| watch.generation == key.generation)
    }

    /// The use of a slot that is watched now.
    pub(super) fn key(&self, index: u32) -> Option<Key> {
        let watch = self.0.get(index as usize)?;
        Some(Key { index, generation: watch.generation })
    }
}

fn bit_of(kind: Kind) -> u8 {
    1_u8.checked_shl(kind as u32).expect("the kinds of operations on sockets come first")
}

/// What epoll is to say of a slot's socket.
fn data_of(key: Key) -> EventData {
    EventData::new_u64(u64::from(key.index) << 32 | u64::from(key.generation))
}

pub(super) fn key_of(data: EventData) -> Key {
    let data = data.u64();
    Key { index: (data >> 32) as u32, generation: data as u32 }
}
