//! A pool's buffers, lent to the kernel through a provided-buffer ring
//! (IORING_REGISTER_PBUF_RING; `man io_uring_register_buf_ring`).
//!
//! **Who writes what.** The mapping is shared with the kernel. This thread writes entries, and then
//! the tail, which tells the kernel how many there are; the kernel reads both, and moves on in a head
//! of its own, which is not in the mapping. It does so only for a receive, inside of this thread's own
//! `io_uring_enter` (SINGLE_ISSUER, DEFER_TASKRUN), so never while this code runs.
//!
//! Only as many buffers lie in the ring as a turn is likely to fill. They are taken from the top of
//! the pool's stack, so the ones in use are few and warm in the cache, and a shard that is not busy
//! does not touch the rest. A turn that runs out doubles the number.

use std::{
    io,
    ptr::NonNull,
    rc::Rc,
    sync::atomic::{AtomicU16, Ordering},
};

use io_uring::{IoUring, types::BufRingEntry};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::ring::buffers::Pool;

/// Buffers in the ring at first.
const FILL: u16 = 64;

pub(super) struct BufferRing {
    entries: NonNull<BufRingEntry>,
    /// A power of two, not smaller than the number of buffers.
    capacity: u16,
    tail: u16,
    fill: u16,
    pool: Rc<Pool>,
}

impl BufferRing {
    /// Registers an empty ring for `pool` as buffer group `group`.
    pub(super) fn register(ring: &IoUring, group: u16, pool: Rc<Pool>) -> io::Result<BufferRing> {
        let capacity = pool.buffers().next_power_of_two();
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory
        // that anybody else uses.
        let memory = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                bytes(capacity),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        let entries = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let fill = FILL.min(pool.buffers());
        let buffers = BufferRing { entries, capacity, tail: 0, fill, pool };
        // SAFETY: the mapping is page-aligned, large enough for `capacity` entries, a power of two,
        // and zeroed, so its tail is 0 and it names no buffer yet. The kernel takes a reference to
        // its pages (`io_register_pbuf_ring` in io_uring/kbuf.c): however long the io_uring lives,
        // and a doorbell may keep a descriptor of it open, what it reads there is never memory that
        // was given to somebody else. What the entries name is the pool's, which outlives every
        // receive (`Drop for Pool`).
        unsafe {
            ring.submitter().register_buf_ring_with_flags(memory as u64, capacity, group, 0)
        }?;
        Ok(buffers)
    }

    /// Lends free buffers until the ring holds its fill.
    pub(super) fn refill(&mut self) {
        let tail = self.tail;
        while self.pool.lent() < self.fill {
            let Some((id, start)) = self.pool.lend() else { break };
            let index = usize::from(self.tail & (self.capacity - 1));
            // SAFETY: the index is below `capacity`, so the entry lies in the mapping, which is
            // aligned for it. Nobody else has a reference to it. The kernel reads only the entries
            // from its head to the published tail, one for each buffer that is lent beside those of
            // this loop; all lent together are at most the pool's buffers, and so at most `capacity`,
            // so this is none of them. The setters below leave the tail alone, which lies in the
            // first entry's reserved field.
            let entry = unsafe { &mut *self.entries.as_ptr().add(index) };
            entry.set_addr(start.as_ptr() as u64);
            entry.set_len(self.pool.buffer_size());
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
        }
        if self.tail != tail {
            // SAFETY: `entries` is the address of the first entry, whose reserved field is the
            // ring's tail (`struct io_uring_buf_ring`): 16 bits, aligned as such, in the mapping. No
            // reference to that entry is left, and whoever else uses the tail, the kernel, reads it
            // atomically.
            let tail = unsafe { &*BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>() };
            // The kernel must see the entries before it sees the tail.
            tail.store(self.tail, Ordering::Release);
        }
    }

    /// Lends more from now on, if a receive can have found the ring empty.
    pub(super) fn ran_out_if_empty(&mut self) {
        if self.pool.lent() > 0 {
            return;
        }
        self.fill = self.fill.saturating_mul(2).min(self.pool.buffers());
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `register` with this length, and no reference into it is
        // left. The kernel has a reference of its own to the pages, and reads them only for a receive,
        // of which none is in flight when a driver goes (`reactor/mod.rs`).
        let _ = unsafe { munmap(self.entries.as_ptr().cast(), bytes(self.capacity)) };
    }
}

fn bytes(capacity: u16) -> usize {
    usize::from(capacity) * size_of::<BufRingEntry>()
}
