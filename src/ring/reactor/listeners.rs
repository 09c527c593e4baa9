//! What the tasks of a shard ask of their listening sockets.

use std::{
    collections::VecDeque,
    io,
    os::fd::OwnedFd,
    task::{Context, Poll},
};

use super::{Reactor, gone, register};
use crate::ring::{
    driver::{Key, Kind, Operation, Token},
    slots::{Entry, ListenerSlot, Slot},
};

impl Reactor {
    pub(crate) fn adopt_listener(&self, fd: OwnedFd) -> Key {
        self.inner.borrow_mut().slots.insert(Some(fd), Slot::Listener(ListenerSlot::default()))
    }

    /// The next accepted descriptor. An accept is armed by this, and stays armed.
    pub(crate) fn poll_accept(&self, key: Key, cx: &mut Context<'_>) -> Poll<io::Result<OwnedFd>> {
        let inner = &mut *self.inner.borrow_mut();
        let Some((entry, driver)) = inner.entry(key) else { return Poll::Ready(Err(gone())) };
        let armed = entry.in_flight(Kind::Accept);
        let Slot::Listener(listener) = &mut entry.slot else { return Poll::Ready(Err(gone())) };
        if let Some(accepted) = listener.accepted.pop_front() {
            if listener.accepted.is_empty() && listener.accepted.capacity() > 64 {
                listener.accepted = VecDeque::new();
            }
            return Poll::Ready(accepted);
        }
        register(&mut listener.waker, cx);
        if !armed {
            entry.started(Kind::Accept);
            let fd = entry.fd().expect("a listener has a descriptor");
            driver.start(Token::new(key, Kind::Accept), fd, Operation::Accept);
        }
        Poll::Pending
    }

    /// Stops accepting. Ready when no accept is in flight; what was accepted until then is still
    /// there to be taken.
    pub(crate) fn poll_stop_accepting(&self, key: Key, cx: &mut Context<'_>) -> Poll<()> {
        let inner = &mut *self.inner.borrow_mut();
        let Some((entry, driver)) = inner.entry(key) else { return Poll::Ready(()) };
        let armed = entry.in_flight(Kind::Accept);
        let Slot::Listener(listener) = &mut entry.slot else { return Poll::Ready(()) };
        if !armed {
            return Poll::Ready(());
        }
        register(&mut listener.waker, cx);
        driver.cancel(Token::new(key, Kind::Accept));
        Poll::Pending
    }

    /// An accepted descriptor that is there already.
    pub(crate) fn take_accepted(&self, key: Key) -> Option<io::Result<OwnedFd>> {
        let inner = &mut *self.inner.borrow_mut();
        match inner.slots.entry(key) {
            Some(Entry { slot: Slot::Listener(listener), .. }) => listener.accepted.pop_front(),
            _ => None,
        }
    }
}
