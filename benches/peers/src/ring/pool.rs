//! The memory that receives go to: a ring of provided buffers (io_uring_register_buf_ring(3)).
//!
//! In: buffers that are no longer read. Out: their addresses. One mapping holds the entries that the
//! kernel shares and, behind them, the buffers. It must outlive the ring that it is registered with.
#![allow(unsafe_code)]

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// The provided buffers (io_uring_register_buf_ring(3)): the entries' pages, then the buffers.
pub(crate) struct Pool {
    base: NonNull<BufRingEntry>,
    /// Bytes.
    mapped: usize,
    entries: u16,
    buffer_len: u32,
    /// From the base to the first buffer.
    offset: usize,
    tail: u16,
    free: u16,
}

impl Pool {
    pub(crate) fn new(entries: u16, buffer_len: u32) -> io::Result<Self> {
        assert!(entries.is_power_of_two() && entries <= 1 << 15, "{entries} buffers");
        let offset = (usize::from(entries) * size_of::<BufRingEntry>()).next_multiple_of(4096);
        let mapped = offset + usize::from(entries) * buffer_len as usize;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh private mapping at an address of the kernel's choice.
        let base =
            unsafe { mmap_anonymous(std::ptr::null_mut(), mapped, access, MapFlags::PRIVATE)? };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let mut pool = Self { base, mapped, entries, buffer_len, offset, tail: 0, free: 0 };
        (0..entries).for_each(|buffer| pool.add(buffer));
        pool.publish();
        Ok(pool)
    }

    /// # Panics
    /// There is no such buffer.
    pub(crate) fn buffer(&self, buffer: u16) -> *mut u8 {
        assert!(buffer < self.entries);
        let offset = self.offset + usize::from(buffer) * self.buffer_len as usize;
        // SAFETY: inside the mapping, as `buffer` is below the number of entries.
        unsafe { self.base.as_ptr().cast::<u8>().add(offset) }
    }

    /// Gives a buffer to the kernel, which sees it after [`publish`](Self::publish).
    pub(crate) fn add(&mut self, buffer: u16) {
        let address = self.buffer(buffer) as u64;
        let index = usize::from(self.tail & (self.entries - 1));
        // SAFETY: the index is masked to the entries; the kernel reads an entry only after the
        // tail has passed it. Zeroed memory is a valid entry. The first entry's `resv` is the tail
        // itself, and no setter touches it.
        let entry = unsafe { &mut *self.base.as_ptr().add(index) };
        entry.set_addr(address);
        entry.set_len(self.buffer_len);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        self.free += 1;
    }

    /// Where the kernel finds the entries.
    pub(crate) fn entries_address(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// Notes that the kernel has filled a buffer.
    pub(crate) fn take(&mut self) {
        self.free -= 1;
    }

    /// Buffers that the kernel can still fill.
    pub(crate) fn free(&self) -> u16 {
        self.free
    }

    /// Shows the kernel the buffers that were added.
    pub(crate) fn publish(&self) {
        // SAFETY: the base is the ring's first entry; the tail is an aligned u16 that the kernel
        // only reads, so it may be seen as an atomic.
        let tail = unsafe { &*BufRingEntry::tail(self.base.as_ptr()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and the kernel's ring is gone (`Kernel`'s field order). A
        // failure would leak it, no more.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.mapped) };
    }
}
