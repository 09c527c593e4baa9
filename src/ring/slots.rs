//! The slots: one for each socket of a shard, owner of all that its operations in flight use.
//!
//! A slot holds a descriptor, the state of each direction, and a bit for each operation in flight.
//! Its handle (a stream or a listener) may go at any time, with operations in any state:
//!
//! ```text
//!            open ──► in use ──────────────► released ─────────► vacant
//!                     handle lives           handle is gone,     nothing in flight:
//!                                            all is cancelled    the descriptor is closed
//! ```
//!
//! A released slot stays as it is until the last completion of its last operation has come; then,
//! in [`Slots::reclaim`] and nowhere else, its memory is freed and its descriptor closed. So the
//! kernel never writes to freed memory, and a descriptor number is never reused while an operation
//! could still act on it.
//!
//! What becomes of a result that comes after the handle is gone: an accepted descriptor is closed,
//! a receive buffer goes back to its pool, the rest is forgotten.

use std::{
    any::Any,
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    task::Waker,
};

use super::{
    driver::{Key, Kind, Token},
    receive::ReceiveHalf,
    send::SendHalf,
};

/// Slots in a block. Blocks never move, so a growing shard copies nothing.
const BLOCK: usize = 64;

/// A connected, or connecting, socket.
pub(crate) struct StreamSlot {
    pub(crate) receive: ReceiveHalf,
    pub(crate) send: SendHalf,
    /// The address of a connect in flight.
    pub(crate) address: Option<Box<socket2::SockAddr>>,
    pub(crate) connected: Option<i32>,
    /// A poll saw an error.
    pub(crate) broken: bool,
    /// Whether a poll looks out for resets from the first bytes on.
    pub(crate) watched: bool,
    /// Receives into few large buffers.
    pub(crate) bulk: bool,
    /// Who waits for the connect, or, later, for the poll.
    pub(crate) control_waker: Option<Waker>,
}

impl StreamSlot {
    pub(crate) fn new(credit: u32, wait_first: bool) -> StreamSlot {
        StreamSlot {
            receive: ReceiveHalf::new(credit, wait_first),
            send: SendHalf::new(),
            address: None,
            connected: None,
            broken: false,
            watched: true,
            bulk: false,
            control_waker: None,
        }
    }
}

/// A listening socket.
#[derive(Default)]
pub(crate) struct ListenerSlot {
    pub(crate) accepted: VecDeque<io::Result<OwnedFd>>,
    pub(crate) waker: Option<Waker>,
}

/// An operation that an embedder brought, with what it uses.
pub(crate) struct CustomSlot {
    pub(crate) result: Option<i32>,
    pub(crate) owned: Box<dyn Any>,
    pub(crate) waker: Option<Waker>,
}

pub(crate) enum Slot {
    Vacant { next: u32 },
    Stream(StreamSlot),
    Listener(ListenerSlot),
    Custom(CustomSlot),
}

pub(crate) struct Entry {
    generation: u32,
    /// A bit for each [`Kind`] of operation in flight.
    in_flight: u16,
    released: bool,
    fd: Option<OwnedFd>,
    pub(crate) slot: Slot,
}

impl Entry {
    pub(crate) fn in_flight(&self, kind: Kind) -> bool {
        self.in_flight & 1 << kind as u16 != 0
    }

    pub(crate) fn started(&mut self, kind: Kind) {
        debug_assert!(!self.in_flight(kind), "one operation of a kind at a time");
        self.in_flight |= 1 << kind as u16;
    }

    pub(crate) fn ended(&mut self, kind: Kind) {
        self.in_flight &= !(1 << kind as u16);
    }

    pub(crate) fn is_released(&self) -> bool {
        self.released
    }

    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }
}

const NONE: u32 = u32::MAX;

pub(crate) struct Slots {
    blocks: Vec<Box<[Entry; BLOCK]>>,
    vacant: u32,
    occupied: usize,
}

impl Slots {
    pub(crate) fn new() -> Slots {
        Slots { blocks: Vec::new(), vacant: NONE, occupied: 0 }
    }

    /// Slots in use, or still owning something that is in flight.
    pub(crate) fn occupied(&self) -> usize {
        self.occupied
    }

    pub(crate) fn insert(&mut self, fd: Option<OwnedFd>, slot: Slot) -> Key {
        if self.vacant == NONE {
            self.grow();
        }
        let index = self.vacant;
        let entry = self.at(index);
        let Slot::Vacant { next } = entry.slot else { unreachable!("the vacant list is vacant") };
        *entry = Entry {
            generation: (entry.generation + 1) & Token::GENERATION_MAX,
            in_flight: 0,
            released: false,
            fd,
            slot,
        };
        let key = Key { index, generation: entry.generation };
        self.vacant = next;
        self.occupied += 1;
        key
    }

    fn grow(&mut self) {
        let base = (self.blocks.len() * BLOCK) as u32;
        self.blocks.push(Box::new(std::array::from_fn(|offset| Entry {
            generation: 0,
            in_flight: 0,
            released: false,
            fd: None,
            slot: Slot::Vacant {
                next: if offset + 1 < BLOCK { base + offset as u32 + 1 } else { NONE },
            },
        })));
        self.vacant = base;
    }

    fn at(&mut self, index: u32) -> &mut Entry {
        &mut self.blocks[index as usize / BLOCK][index as usize % BLOCK]
    }

    /// The entry of a use that has not been reclaimed.
    pub(crate) fn entry(&mut self, key: Key) -> Option<&mut Entry> {
        let block = self.blocks.get_mut(key.index as usize / BLOCK)?;
        let entry = &mut block[key.index as usize % BLOCK];
        let current = entry.generation == key.generation;
        (current && !matches!(entry.slot, Slot::Vacant { .. })).then_some(entry)
    }

    /// Marks that the handle is gone. Returns the operations that are to be cancelled.
    pub(crate) fn release(&mut self, key: Key) -> impl Iterator<Item = Token> + use<> {
        let mut in_flight = 0;
        if let Some(entry) = self.entry(key) {
            entry.released = true;
            in_flight = entry.in_flight;
            match &mut entry.slot {
                Slot::Stream(stream) => {
                    stream.receive.clear();
                    stream.send.abandon();
                    stream.control_waker = None;
                }
                Slot::Listener(listener) => *listener = ListenerSlot::default(),
                Slot::Custom(custom) => custom.waker = None,
                Slot::Vacant { .. } => {}
            }
        }
        [Kind::Accept, Kind::Connect, Kind::Receive, Kind::Send, Kind::Poll, Kind::Custom]
            .into_iter()
            .filter(move |kind| in_flight & 1 << *kind as u16 != 0)
            .map(move |kind| Token::new(key, kind))
    }

    /// Frees a released slot that has nothing in flight. Gives its descriptor, to be closed, and
    /// what it held, to be dropped.
    pub(crate) fn reclaim(&mut self, key: Key) -> Option<(Option<OwnedFd>, Slot)> {
        let vacant = self.vacant;
        let entry = self.entry(key)?;
        if !entry.released || entry.in_flight != 0 {
            return None;
        }
        let slot = std::mem::replace(&mut entry.slot, Slot::Vacant { next: vacant });
        let fd = entry.fd.take();
        self.vacant = key.index;
        self.occupied -= 1;
        Some((fd, slot))
    }

    /// The keys of all slots in use that were not released.
    pub(crate) fn held(&self) -> Vec<Key> {
        let entries = self.blocks.iter().flat_map(|block| block.iter());
        entries
            .enumerate()
            .filter(|(_, entry)| !entry.released && !matches!(entry.slot, Slot::Vacant { .. }))
            .map(|(index, entry)| Key { index: index as u32, generation: entry.generation })
            .collect()
    }
}
