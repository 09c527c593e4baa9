//! Operations of an embedder's own: started as they are, and their result handed out.

use std::{
    io,
    task::{Context, Poll},
};

use super::{Reactor, gone, register};
use crate::ring::{
    driver::{Key, Kind, Token},
    slots::{CustomSlot, Slot},
};

impl Reactor {
    /// Starts `entry`, keeping `owned` until its completion.
    pub(crate) fn start_custom(
        &self,
        entry: io_uring::squeue::Entry,
        owned: Box<dyn std::any::Any>,
    ) -> io::Result<Key> {
        let inner = &mut *self.inner.borrow_mut();
        let slot = Slot::Custom(CustomSlot { result: None, owned, waker: None });
        let key = inner.slots.insert(None, slot);
        let (slot, driver) = inner.entry(key).ok_or_else(gone)?;
        match driver.start_custom(Token::new(key, Kind::Custom), entry) {
            Ok(()) => {
                slot.started(Kind::Custom);
                Ok(key)
            }
            Err(_) => {
                inner.release(key);
                Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "operations of an embedder's own need io_uring, and this thread runs on epoll; \
                     start the proxy with Driver::IoUring to be told what refuses it",
                ))
            }
        }
    }

    pub(crate) fn poll_custom(
        &self,
        key: Key,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(i32, Box<dyn std::any::Any>)>> {
        let inner = &mut *self.inner.borrow_mut();
        let Some((entry, _)) = inner.entry(key) else { return Poll::Ready(Err(gone())) };
        let Slot::Custom(custom) = &mut entry.slot else { return Poll::Ready(Err(gone())) };
        match custom.result.take() {
            Some(result) => {
                let owned = std::mem::replace(&mut custom.owned, Box::new(()));
                Poll::Ready(Ok((result, owned)))
            }
            None => {
                register(&mut custom.waker, cx);
                Poll::Pending
            }
        }
    }
}
