//! Operations of an embedder's own: those of io_uring's that need no descriptor, a NOP and a timeout.
//!
//! The memory of one in flight is read again when it completes, through the pointer that it came
//! with, as that of other operations is.

use io_uring::{opcode, squeue::Entry, types::Timespec};

use super::{Simulation, kernel::Event};
use crate::ring::{
    custom::CustomOperation,
    driver::{Completion, Nanoseconds, Token},
};

/// A timeout in flight; a NOP is one of no time, without memory.
pub(super) struct Custom {
    serial: u64,
    time: *const Timespec,
    after: Nanoseconds,
}

impl Simulation {
    pub(super) fn start_custom(&mut self, token: Token, entry: Entry) -> Result<(), Entry> {
        let bytes = entry_bytes(&entry);
        let mut time = std::ptr::null();
        let mut after = 0;
        match bytes[0] {
            opcode::Nop::CODE => after = self.random.below(self.behaviour.latency + 1),
            opcode::Timeout::CODE => {
                let address = bytes[16..24].try_into().expect("eight bytes");
                time = std::ptr::with_exposed_provenance(u64::from_ne_bytes(address) as usize);
                after = read(time);
            }
            other => self.violation(format!("opcode {other} is not simulated")),
        }
        self.serial += 1;
        let serial = self.serial;
        self.customs.insert(token.0, Custom { serial, time, after });
        self.schedule(self.now + after, Event::Custom { token, serial });
        Ok(())
    }

    /// The time of an operation has come.
    pub(super) fn complete_custom(&mut self, token: Token, serial: u64) {
        let result = match self.customs.get(&token.0) {
            Some(custom) if custom.serial == serial && custom.time.is_null() => 0,
            Some(custom) if custom.serial == serial => -libc::ETIME,
            _ => return,
        };
        self.end_custom(token, result);
    }

    /// Cancels an operation, if there is one.
    pub(super) fn cancel_custom(&mut self, token: Token) -> bool {
        let there = self.customs.contains_key(&token.0);
        if there {
            self.end_custom(token, -libc::ECANCELED);
        }
        there
    }

    fn end_custom(&mut self, token: Token, result: i32) {
        let Some(custom) = self.customs.remove(&token.0) else { return };
        if !custom.time.is_null() && read(custom.time) != custom.after {
            self.violation(format!("the memory of {token:?} changed while it was in flight"));
        }
        self.ready.push_back(Completion { token, result, buffer: None, more: false });
    }
}

fn entry_bytes(entry: &Entry) -> &[u8; 64] {
    const { assert!(size_of::<Entry>() == 64) };
    // SAFETY: an entry is 64 bytes of plain integers, and lives as long as the borrow of it.
    unsafe { &*std::ptr::from_ref(entry).cast() }
}

fn read(time: *const Timespec) -> Nanoseconds {
    // SAFETY: as `CustomOperation` demands, what an entry points to lives until its completion. It is
    // two 64-bit integers, seconds and nanoseconds (`repr(transparent)` over the kernel's structure).
    let [seconds, nanoseconds] = unsafe { time.cast::<[u64; 2]>().read() };
    seconds * 1_000_000_000 + nanoseconds
}

/// A timeout to submit, with something that shows when it is dropped.
pub(crate) struct Alarm<T> {
    time: Box<Timespec>,
    _kept: T,
}

impl<T> Alarm<T> {
    pub(crate) fn new(after: Nanoseconds, kept: T) -> Alarm<T> {
        let (seconds, nanoseconds) = (after / 1_000_000_000, (after % 1_000_000_000) as u32);
        Alarm { time: Box::new(Timespec::new().sec(seconds).nsec(nanoseconds)), _kept: kept }
    }
}

// SAFETY: the time is boxed, so its address does not change; a timeout completes once, uses no
// descriptor and carries no flags.
unsafe impl<T: 'static> CustomOperation for Alarm<T> {
    fn entry(&mut self) -> Entry {
        opcode::Timeout::new(&raw const *self.time).build()
    }
}

/// An operation that does nothing, with flags.
pub(crate) struct Nop(pub(crate) io_uring::squeue::Flags);

// SAFETY: a NOP uses no memory and completes once; flags that would make it otherwise are refused.
unsafe impl CustomOperation for Nop {
    fn entry(&mut self) -> Entry {
        opcode::Nop::new().build().flags(self.0)
    }
}
