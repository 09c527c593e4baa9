//! Bytes that are written in order to be sent, in memory that the shard uses again.
//!
//! Flows in: what a protocol writes. Flows out: a [`Payload`](super::Payload). The memory goes back
//! to the shard when the last byte was sent, so a message costs no allocation once the shard is
//! warm.

use std::{
    cell::RefCell,
    fmt,
    ops::{Deref, DerefMut},
    rc::Rc,
};

/// Buffers that are kept for the next user; more are freed.
const KEPT: usize = 128;
/// The largest that is kept: a full record of TLS, and some.
const KEPT_CAPACITY: usize = 20 << 10;

/// The written buffers of a shard that nobody uses at the moment.
#[derive(Default)]
pub(crate) struct Outputs {
    free: RefCell<Vec<Vec<u8>>>,
}

impl Outputs {
    /// An empty buffer.
    pub(crate) fn take(self: &Rc<Self>) -> Output {
        let bytes = self.free.borrow_mut().pop().unwrap_or_default();
        Output { bytes, home: Rc::clone(self) }
    }
}

/// A buffer to write a message into and to send. It belongs to its shard, which gets its memory
/// back when it was sent or dropped.
pub struct Output {
    bytes: Vec<u8>,
    home: Rc<Outputs>,
}

impl Drop for Output {
    fn drop(&mut self) {
        let mut free = self.home.free.borrow_mut();
        if free.len() < KEPT && (1..=KEPT_CAPACITY).contains(&self.bytes.capacity()) {
            self.bytes.clear();
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

impl Deref for Output {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Output {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Output({} bytes)", self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_and_comes_back_empty() {
        let outputs = Rc::new(Outputs::default());
        let mut first = outputs.take();
        first.extend_from_slice(b"head");
        let address = first.as_ptr();
        drop(first);
        let again = outputs.take();
        assert!(again.is_empty());
        assert_eq!(again.as_ptr(), address);
        assert!(outputs.take().capacity() == 0, "there was one only");
    }

    #[test]
    fn a_large_buffer_is_not_kept() {
        let outputs = Rc::new(Outputs::default());
        outputs.take().resize(KEPT_CAPACITY + 1, 0);
        assert!(outputs.free.borrow().is_empty());
    }
}
