//! Timers of a shard: what is to happen when, for as many connections as there are.
//!
//! *In:* deadlines with a value each (a waker, a task), and the time. *Out:* the values whose time
//! has come, in order. *Owns:* the values until then. *Never:* asks a clock or waits: time is a
//! number that the caller gives, milliseconds since the wheel's start, so a virtual clock serves.
//!
//! # How it works
//! A hierarchical wheel (G. Varghese and T. Lauck, "Hashed and Hierarchical Timing Wheels", SOSP
//! 1987) with ticks of 1 ms. Level 0 has a slot for each of the next 64 ticks, level 1 for each of
//! the next 64 spans of 64 ticks, and so on; 11 levels cover every `u64`, so no deadline is too far.
//! A timer's level is the highest group of six bits in which its deadline differs from the wheel's
//! time. Two things follow, and all else rests on them:
//! - every timer of a level is due before every timer of the levels above it;
//! - level and slot can be computed from deadline and time, and stay the same until the time enters
//!   the slot; then its timers are moved down. So a timer need not store where it is.
//!
//! A slot is a circular list through the entries of a slab, so inserting and cancelling take
//! constant time, and a timer moves down at most 10 times in its life. Once the slab has grown to
//! the number of timers there are at once, nothing allocates. A timer takes 20 bytes beside its
//! value (rounded up to the alignment), the wheel itself 3 KiB.
//!
//! # Threads
//! A shard's own; there is nothing to share.

use std::mem;

const LEVELS: usize = 11;
const SLOTS: usize = 64;
const SLOT_BITS: u32 = SLOTS.ilog2();

/// No entry: an empty slot, or the end of the free list.
const NONE: u32 = u32::MAX;

/// A set of timers, each with a value that it gives back when its time has come.
#[derive(Debug)]
pub struct TimerWheel<T> {
    /// The time up to which timers were given out, ms. Never beyond a pending deadline.
    time: u64,
    pending: usize,
    entries: Vec<Entry<T>>,
    /// First of the vacant entries, linked by `next`.
    vacant: u32,
    /// For each level a bit for each slot that has timers. None is set below the time's own slot.
    occupied: [u64; LEVELS],
    /// The oldest timer of each slot.
    heads: [[u32; SLOTS]; LEVELS],
}

#[derive(Debug)]
struct Entry<T> {
    deadline: u64,
    previous: u32,
    next: u32,
    /// How many timers this entry has held before, so that a key of one of them is known as stale.
    generation: u32,
    value: Option<T>,
}

/// Names one timer of one wheel, for [`TimerWheel::cancel`]. Keys are never reused: one that has
/// outlived its timer is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerKey {
    index: u32,
    generation: u32,
}

impl<T> TimerWheel<T> {
    /// A wheel without timers, at time 0.
    pub fn new() -> Self {
        Self {
            time: 0,
            pending: 0,
            entries: Vec::new(),
            vacant: NONE,
            occupied: [0; LEVELS],
            heads: [[NONE; SLOTS]; LEVELS],
        }
    }

    /// How many timers are pending.
    pub fn len(&self) -> usize {
        self.pending
    }

    /// Whether no timer is pending.
    pub fn is_empty(&self) -> bool {
        self.pending == 0
    }

    /// Sets a timer for `deadline`, in ms since the wheel's start. One that has passed counts as
    /// due now: the next [`expire`](Self::expire) gives it out.
    ///
    /// # Panics
    /// With 2^32 - 1 entries in use, for which memory (128 GiB and more) runs out first.
    pub fn insert(&mut self, deadline: u64, value: T) -> TimerKey {
        let index = self.vacant_entry();
        let entry = &mut self.entries[index as usize];
        entry.deadline = deadline.max(self.time);
        entry.value = Some(value);
        let key = TimerKey { index, generation: entry.generation };
        self.pending += 1;
        self.link(index);
        key
    }

    /// Takes a timer back, before it is due. `None` when it was given out or cancelled already.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let entry = self.entries.get(key.index as usize)?;
        if entry.generation != key.generation || entry.value.is_none() {
            return None;
        }
        self.unlink(key.index);
        self.vacate(key.index)
    }

    /// Gives out the next timer whose deadline is not after `now`; `None` when there is no more.
    ///
    /// Timers come in the order of their deadlines, those of one deadline in the order in which they
    /// were set. To be called until `None`, with a time that does not go back (one that does is
    /// taken for the latest that was seen). Between two calls timers may be set and cancelled; one
    /// that is set for `now` or earlier is given out by this round too, so whoever sets a new timer
    /// for each that is given out must set it for later than `now`.
    pub fn expire(&mut self, now: u64) -> Option<T> {
        while let Some((level, slot)) = self.first_slot() {
            let start = self.slot_start(level, slot);
            if start > now {
                break;
            }
            self.time = start;
            if level > 0 {
                self.move_down(level, slot);
                continue;
            }
            let index = self.heads[0][slot];
            self.unlink(index);
            return self.vacate(index);
        }
        self.time = self.time.max(now);
        None
    }

    /// When to call [`expire`](Self::expire) next, in ms since the wheel's start; `None` without
    /// timers.
    ///
    /// Never late. Exact where the timer is due within the wheel's current span of 64 ms; further
    /// ahead it is the beginning of the span (of 64 ms, 4 s, 4 min, and so on) that the deadline
    /// falls into. Waking then gives out nothing, and the next answer is closer: at most 10 times
    /// for a timer, however far it is.
    pub fn next_deadline(&self) -> Option<u64> {
        self.first_slot().map(|(level, slot)| self.slot_start(level, slot))
    }

    /// The slot that is due before all others.
    fn first_slot(&self) -> Option<(usize, usize)> {
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        Some((level, self.occupied[level].trailing_zeros() as usize))
    }

    /// The first ms of a slot that the time has not passed.
    fn slot_start(&self, level: usize, slot: usize) -> u64 {
        let shift = level as u32 * SLOT_BITS;
        let above = (self.time >> shift) & !(SLOTS as u64 - 1);
        (above | slot as u64) << shift
    }

    /// Where a timer for `deadline` belongs.
    fn place(&self, deadline: u64) -> (usize, usize) {
        let highest_difference = ((self.time ^ deadline) | 1).ilog2();
        let level = highest_difference / SLOT_BITS;
        let slot = (deadline >> (level * SLOT_BITS)) & (SLOTS as u64 - 1);
        (level as usize, slot as usize)
    }

    /// Spreads the timers of a slot that the time has entered over the levels below.
    fn move_down(&mut self, level: usize, slot: usize) {
        let first = mem::replace(&mut self.heads[level][slot], NONE);
        self.occupied[level] &= !(1 << slot);
        let last = self.entries[first as usize].previous;
        let mut index = first;
        loop {
            let next = self.entries[index as usize].next;
            self.link(index);
            if index == last {
                break;
            }
            index = next;
        }
    }

    /// Adds an entry at the end of the list of its slot.
    fn link(&mut self, index: u32) {
        let (level, slot) = self.place(self.entries[index as usize].deadline);
        let head = self.heads[level][slot];
        let (previous, next) = if head == NONE {
            self.heads[level][slot] = index;
            self.occupied[level] |= 1 << slot;
            (index, index)
        } else {
            let tail = mem::replace(&mut self.entries[head as usize].previous, index);
            self.entries[tail as usize].next = index;
            (tail, head)
        };
        let entry = &mut self.entries[index as usize];
        (entry.previous, entry.next) = (previous, next);
    }

    /// Takes an entry out of the list of its slot.
    fn unlink(&mut self, index: u32) {
        let entry = &self.entries[index as usize];
        let (previous, next) = (entry.previous, entry.next);
        let (level, slot) = self.place(entry.deadline);
        if next == index {
            self.heads[level][slot] = NONE;
            self.occupied[level] &= !(1 << slot);
            return;
        }
        self.entries[previous as usize].next = next;
        self.entries[next as usize].previous = previous;
        if self.heads[level][slot] == index {
            self.heads[level][slot] = next;
        }
    }

    fn vacant_entry(&mut self) -> u32 {
        if self.vacant != NONE {
            let index = self.vacant;
            self.vacant = self.entries[index as usize].next;
            return index;
        }
        let index = self.entries.len();
        assert!(index < NONE as usize, "a shard has fewer than 2^32 timers");
        self.entries.push(Entry {
            deadline: 0,
            previous: NONE,
            next: NONE,
            generation: 0,
            value: None,
        });
        index as u32
    }

    /// Takes the value out of an entry that is in no list. An entry whose generations are used up
    /// is not used again, which costs its memory once in 2^32 timers, and keeps keys unique.
    fn vacate(&mut self, index: u32) -> Option<T> {
        self.pending -= 1;
        let entry = &mut self.entries[index as usize];
        if let Some(generation) = entry.generation.checked_add(1) {
            entry.generation = generation;
            entry.next = mem::replace(&mut self.vacant, index);
        }
        entry.value.take()
    }
}

impl<T> Default for TimerWheel<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
