//! Operations of an embedder's own, on the shard's ring.

use std::{
    any::Any,
    io,
    marker::PhantomData,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use super::{driver::Key, reactor::Reactor};

/// An operation that an embedder brings, with everything that it uses.
///
/// Start it with [`runtime::submit`](crate::runtime::submit). Unless the ring is not restricted, its
/// opcode must be among those that [`Restrictions::allow`](super::Restrictions::allow) lets through.
///
/// # Safety
///
/// All memory and descriptors that the entry refers to must be owned by the implementor and stay
/// valid, at the same addresses, until it is dropped, even when it is moved. It is dropped only
/// after the operation's completion, or never. The entry must complete exactly once: no multishot,
/// no IOSQE_CQE_SKIP_SUCCESS.
pub unsafe trait CustomOperation: 'static {
    /// The entry. Its user data is set by the ring.
    fn entry(&mut self) -> io_uring::squeue::Entry;
}

/// An operation in flight. Dropping it cancels the operation; what that uses is kept until the
/// completion.
pub(crate) struct Submitted<S, O> {
    /// Has the reactor.
    shard: Rc<S>,
    reactor: fn(&S) -> &Reactor,
    key: Key,
    operation: PhantomData<O>,
}

impl<S, O: CustomOperation> Submitted<S, O> {
    pub(crate) fn start(
        shard: Rc<S>,
        reactor: fn(&S) -> &Reactor,
        operation: O,
    ) -> io::Result<Submitted<S, O>> {
        let mut operation = Box::new(operation);
        let entry = operation.entry();
        let key = reactor(&shard).start_custom(entry, operation)?;
        Ok(Submitted { shard, reactor, key, operation: PhantomData })
    }
}

impl<S, O: CustomOperation + Unpin> Future for Submitted<S, O> {
    type Output = io::Result<(i32, O)>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let completed = (self.reactor)(&self.shard).poll_custom(self.key, cx);
        completed.map(|completed| {
            let (result, owned): (i32, Box<dyn Any>) = completed?;
            match owned.downcast::<O>() {
                Ok(operation) => Ok((result, *operation)),
                // Polled again after it was done.
                Err(_) => Err(io::ErrorKind::NotConnected.into()),
            }
        })
    }
}

impl<S, O> Drop for Submitted<S, O> {
    fn drop(&mut self) {
        (self.reactor)(&self.shard).release(self.key);
    }
}
