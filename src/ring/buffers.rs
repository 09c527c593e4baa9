//! Receive buffers: pools of them, and the [`Chunk`]s that their bytes travel in.
//!
//! A shard has a few [`Pool`]s, each of equal buffers in one anonymous mapping. The driver lends
//! free buffers to the kernel, the kernel fills one for each completion of a receive, the
//! completion becomes a `Chunk`, and the last `Chunk` that refers to a buffer gives it back when
//! it is dropped. So a buffer is in exactly one of three places: free, with the kernel, or under
//! chunks.
//!
//! Free buffers are kept in a stack: the buffer that came back last is the first to be lent
//! again, while it is still in the CPU's cache.

use std::{
    cell::{Cell, RefCell},
    fmt, io,
    ops::Deref,
    ptr::NonNull,
    rc::Rc,
};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Equal buffers, lent to the kernel and given back by chunks.
pub(crate) struct Pool {
    memory: NonNull<u8>,
    buffer_size: u32,
    buffers: u16,
    free: RefCell<Vec<u16>>,
    /// Chunks that refer to a buffer; 0 for one that is free or with the kernel.
    references: Box<[Cell<u16>]>,
    lent: Cell<u16>,
}

impl Pool {
    /// Maps a pool of `buffers` times `buffer_size` bytes. The memory is not resident before it is
    /// written to.
    ///
    /// # Panics
    ///
    /// If either is zero.
    pub(crate) fn new(buffers: u16, buffer_size: u32) -> io::Result<Rc<Pool>> {
        assert!(buffers > 0 && buffer_size > 0, "a pool has buffers");
        let length = buffers as usize * buffer_size as usize;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory
        // that anybody else uses.
        let memory = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Rc::new(Pool {
            memory,
            buffer_size,
            buffers,
            free: RefCell::new((0..buffers).rev().collect()),
            references: (0..buffers).map(|_| Cell::new(0)).collect(),
            lent: Cell::new(0),
        }))
    }

    pub(crate) fn buffers(&self) -> u16 {
        self.buffers
    }

    pub(crate) fn buffer_size(&self) -> u32 {
        self.buffer_size
    }

    /// Buffers that hold nothing: free, or lent to the kernel.
    pub(crate) fn available(&self) -> usize {
        self.free.borrow().len() + self.lent.get() as usize
    }

    /// Whether so few buffers are left, of any number the last one, that bytes should be copied out
    /// of them.
    pub(crate) fn is_low(&self) -> bool {
        self.available() < usize::from(self.buffers.div_ceil(4))
    }

    /// Takes a free buffer, to be lent.
    pub(crate) fn lend(&self) -> Option<(u16, NonNull<u8>)> {
        let id = self.free.borrow_mut().pop()?;
        self.lent.set(self.lent.get() + 1);
        Some((id, self.start_of(id)))
    }

    /// Buffers that are lent.
    pub(crate) fn lent(&self) -> u16 {
        self.lent.get()
    }

    /// Whether a buffer is lent, as far as can be told.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn is_lent(&self, id: u16) -> bool {
        self.references[id as usize].get() == 0 && !self.free.borrow().contains(&id)
    }

    /// Takes back a lent buffer that was not filled.
    pub(crate) fn take_back(&self, id: u16) {
        self.lent.set(self.lent.get() - 1);
        self.free(id);
    }

    fn free(&self, id: u16) {
        debug_assert_eq!(self.references[id as usize].get(), 0);
        self.free.borrow_mut().push(id);
    }

    /// Makes a chunk of the first `length` bytes of a lent buffer, which thereby is lent no more.
    pub(crate) fn filled(self: &Rc<Self>, id: u16, length: u32) -> Chunk {
        assert!(id < self.buffers && length <= self.buffer_size, "a completion of this pool");
        let references = &self.references[id as usize];
        assert_eq!(references.get(), 0, "a buffer is filled once for each time it is lent");
        references.set(1);
        self.lent.set(self.lent.get() - 1);
        Chunk { storage: Storage::Pool { pool: Rc::clone(self), id }, start: 0, end: length }
    }

    fn start_of(&self, id: u16) -> NonNull<u8> {
        debug_assert!(id < self.buffers);
        // SAFETY: `id < buffers`, so the offset stays within the mapping.
        unsafe { self.memory.add(id as usize * self.buffer_size as usize) }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let length = self.buffers as usize * self.buffer_size as usize;
        // SAFETY: the mapping was made in `new` with this length, and nobody has an address in it any
        // more: every chunk holds the pool, and so does a driver that lends from it. A driver goes
        // only when no receive is in flight (`reactor/mod.rs`), so the kernel writes to none of the
        // buffers that are still lent.
        let _ = unsafe { munmap(self.memory.as_ptr().cast(), length) };
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("buffers", &self.buffers)
            .field("buffer_size", &self.buffer_size)
            .field("available", &self.available())
            .finish()
    }
}

/// To how many bytes chunks that were copied out are joined.
const COPY_MAX: usize = 4096;

/// Received bytes, in the buffer that they were received into.
///
/// A chunk belongs to its shard (it is not `Send`) and holds one of the shard's receive buffers
/// until it is dropped. Keep it briefly: copy what must stay.
pub struct Chunk {
    storage: Storage,
    start: u32,
    end: u32,
}

enum Storage {
    Pool {
        pool: Rc<Pool>,
        id: u16,
    },
    /// Copied out, because buffers were running short.
    Heap(Rc<Vec<u8>>),
}

impl Chunk {
    /// Splits off the first `at` bytes; `self` keeps the rest. Both refer to the same buffer.
    ///
    /// # Panics
    ///
    /// If `at` is greater than the length.
    pub fn split_to(&mut self, at: usize) -> Chunk {
        assert!(at <= self.len(), "cannot split {} bytes at {at}", self.len());
        let mut head = self.clone();
        head.end = self.start + at as u32;
        self.start = head.end;
        head
    }

    /// Drops the first `count` bytes.
    ///
    /// # Panics
    ///
    /// If `count` is greater than the length.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len(), "cannot advance {} bytes by {count}", self.len());
        self.start += count as u32;
    }

    /// A part of an owned buffer.
    ///
    /// # Panics
    ///
    /// If `part` is not within `bytes`, or those are more than 4 GiB.
    #[cfg(feature = "__tls")]
    pub(crate) fn of(bytes: Vec<u8>, part: std::ops::Range<usize>) -> Chunk {
        assert!(
            part.start <= part.end && part.end <= bytes.len() && bytes.len() <= u32::MAX as usize
        );
        let (start, end) = (part.start as u32, part.end as u32);
        Chunk { storage: Storage::Heap(Rc::new(bytes)), start, end }
    }

    /// A part of the same bytes.
    ///
    /// # Panics
    ///
    /// If `part` is not within the chunk.
    #[cfg(feature = "__tls")]
    pub(crate) fn part(&self, part: std::ops::Range<usize>) -> Chunk {
        let mut chunk = self.clone();
        assert!(part.start <= part.end && part.end <= self.len());
        chunk.end = self.start + part.end as u32;
        chunk.start += part.start as u32;
        chunk
    }

    /// The bytes, to be changed in place; `None` where another chunk refers to the same buffer.
    #[cfg(feature = "__tls")]
    pub(crate) fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        let (start, end) = (self.start as usize, self.end as usize);
        match &mut self.storage {
            Storage::Heap(bytes) => Rc::get_mut(bytes).map(|bytes| &mut bytes[start..end]),
            Storage::Pool { pool, id } => {
                if pool.references[*id as usize].get() != 1 {
                    return None;
                }
                // SAFETY: `start <= end <= buffer_size`, within the buffer, which is mapped and
                // initialised as in `deref`. This chunk is the only one that refers to the buffer (the
                // check above) and is borrowed mutably for as long as the slice, so nobody else reads
                // or writes these bytes: the kernel does not have the buffer while a chunk refers to
                // it.
                Some(unsafe {
                    std::slice::from_raw_parts_mut(
                        pool.start_of(*id).as_ptr().add(start),
                        end - start,
                    )
                })
            }
        }
    }

    /// The same bytes, copied to memory of their own, so that the buffer is free again.
    pub(crate) fn copied_out(self) -> Chunk {
        let end = self.len() as u32;
        Chunk { storage: Storage::Heap(Rc::new(self.to_vec())), start: 0, end }
    }

    /// Appends `other`'s bytes where this chunk's buffer has room behind its own, which needs the
    /// buffer to itself. Gives `other` back where that cannot be.
    pub(crate) fn append(&mut self, other: Chunk) -> Result<(), Chunk> {
        let (pool, id) = match &mut self.storage {
            Storage::Pool { pool, id } => (pool, id),
            Storage::Heap(bytes) => {
                return match Rc::get_mut(bytes) {
                    Some(bytes)
                        if bytes.len() == self.end as usize
                            && bytes.len() + other.len() <= COPY_MAX =>
                    {
                        bytes.extend_from_slice(&other);
                        self.end = bytes.len() as u32;
                        Ok(())
                    }
                    _ => Err(other),
                };
            }
        };
        let room = (pool.buffer_size - self.end) as usize;
        if pool.references[*id as usize].get() != 1 || other.len() > room {
            return Err(other);
        }
        // SAFETY: `end <= buffer_size`, so this stays within the buffer.
        let target = unsafe { pool.start_of(*id).add(self.end as usize) };
        // SAFETY: the target is `other.len()` bytes behind `end`, within this chunk's buffer (the
        // check above), which no other chunk refers to and which the kernel does not have while a
        // chunk refers to it. The source is another chunk's buffer or memory of the heap, so the two
        // do not overlap.
        unsafe { target.copy_from_nonoverlapping(NonNull::from(&*other).cast(), other.len()) };
        self.end += other.len() as u32;
        Ok(())
    }
}

impl Clone for Chunk {
    /// Another reference to the same bytes; nothing is copied, unless there are 65,535 already.
    fn clone(&self) -> Chunk {
        let storage = match &self.storage {
            Storage::Heap(bytes) => Storage::Heap(Rc::clone(bytes)),
            Storage::Pool { pool, id } => {
                let references = &pool.references[*id as usize];
                let Some(more) = references.get().checked_add(1) else {
                    let end = self.len() as u32;
                    let copy = Rc::new(self.to_vec());
                    return Chunk { storage: Storage::Heap(copy), start: 0, end };
                };
                references.set(more);
                Storage::Pool { pool: Rc::clone(pool), id: *id }
            }
        };
        Chunk { storage, start: self.start, end: self.end }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Storage::Pool { pool, id } = &self.storage {
            let references = &pool.references[*id as usize];
            references.set(references.get() - 1);
            if references.get() == 0 {
                pool.free(*id);
            }
        }
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let (start, end) = (self.start as usize, self.end as usize);
        match &self.storage {
            Storage::Heap(bytes) => &bytes[start..end],
            Storage::Pool { pool, id } => {
                // SAFETY: `start <= end <= buffer_size`, within the buffer, which is mapped for as
                // long as the chunk holds the pool. The kernel (or `append`) wrote these bytes
                // before the chunk could refer to them (the mapping was zeroed before, so all are
                // initialised anyhow), and nobody writes to them while a chunk does: the kernel does
                // not have the buffer, and `append` writes only behind `end` of a chunk that is
                // alone, which it borrows mutably.
                unsafe {
                    std::slice::from_raw_parts(pool.start_of(*id).as_ptr().add(start), end - start)
                }
            }
        }
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} bytes)", self.len())
    }
}

#[cfg(feature = "bytes")]
impl From<Chunk> for bytes::Bytes {
    /// Copies: `Bytes` may go to another thread, where the shard's buffers may not.
    fn from(chunk: Chunk) -> bytes::Bytes {
        bytes::Bytes::copy_from_slice(&chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(pool: &Rc<Pool>, bytes: &[u8]) -> Chunk {
        let (id, memory) = pool.lend().unwrap();
        // SAFETY: the buffer was just lent to us and is at least as long as the bytes.
        unsafe { memory.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        pool.filled(id, bytes.len() as u32)
    }

    #[test]
    fn a_buffer_comes_back_with_its_last_chunk() {
        let pool = Pool::new(2, 16).unwrap();
        let mut chunk = filled(&pool, b"headbody");
        assert_eq!(pool.available(), 1);
        let head = chunk.split_to(4);
        assert_eq!((&*head, &*chunk), (&b"head"[..], &b"body"[..]));
        drop(chunk);
        assert_eq!(&*head, b"head");
        assert_eq!(pool.available(), 1);
        drop(head);
        assert_eq!(pool.available(), 2);
    }

    #[test]
    fn the_last_buffer_returned_is_the_first_lent() {
        let pool = Pool::new(8, 16).unwrap();
        let first = filled(&pool, b"a");
        let address = first.as_ptr();
        let _second = filled(&pool, b"b");
        drop(first);
        assert_eq!(filled(&pool, b"c").as_ptr(), address);
    }

    #[test]
    fn a_chunk_copied_out_frees_its_buffer() {
        let pool = Pool::new(2, 16).unwrap();
        let mut chunk = filled(&pool, b"headbody");
        chunk.advance(4);
        let mut chunk = chunk.copied_out();
        assert_eq!(pool.available(), 2);
        let head = chunk.split_to(1);
        assert_eq!((&*head, &*chunk), (&b"b"[..], &b"ody"[..]));
    }

    #[test]
    fn a_chunk_copied_out_takes_more_up_to_a_size_and_while_it_is_alone() {
        let pool = Pool::new(2, 16).unwrap();
        let mut chunk = filled(&pool, b"head").copied_out();
        chunk.append(filled(&pool, b"body")).unwrap();
        assert_eq!(&*chunk, b"headbody");
        assert_eq!(pool.available(), 2);
        let head = chunk.split_to(4);
        assert!(chunk.append(filled(&pool, b"!")).is_err(), "shared");
        drop(head);
        chunk.append(filled(&pool, b"!")).unwrap();
        assert_eq!(&*chunk, b"body!");
        let refused = (0..COPY_MAX).find_map(|_| chunk.append(filled(&pool, b"!")).err());
        assert!(refused.is_some(), "it does not grow for ever");
    }

    #[cfg(feature = "__tls")]
    #[test]
    fn bytes_are_changed_only_by_who_is_alone() {
        let pool = Pool::new(2, 16).unwrap();
        for mut chunk in [filled(&pool, b"headbody"), filled(&pool, b"headbody").copied_out()] {
            chunk.advance(4);
            chunk.bytes_mut().unwrap()[0] = b'B';
            let part = chunk.part(0..2);
            assert_eq!(&*part, b"Bo");
            assert!(chunk.bytes_mut().is_none(), "shared");
            drop(part);
            assert!(chunk.bytes_mut().is_some());
        }
    }

    #[test]
    fn chunks_are_joined_only_where_there_is_room_and_nobody_else() {
        let pool = Pool::new(4, 8).unwrap();
        let mut chunk = filled(&pool, b"abc");
        chunk.append(filled(&pool, b"def")).unwrap();
        assert_eq!(&*chunk, b"abcdef");
        assert_eq!(pool.available(), 3, "the joined chunk's buffer is free again");
        let refused = chunk.append(filled(&pool, b"ghi")).unwrap_err();
        assert_eq!(&*refused, b"ghi");
        let other = chunk.clone();
        assert!(chunk.append(filled(&pool, b"g")).is_err(), "shared");
        drop(other);
        chunk.append(filled(&pool, b"g")).unwrap();
        assert_eq!(&*chunk, b"abcdefg");
    }
}
