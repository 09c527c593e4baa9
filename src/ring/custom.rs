//! Operations of an embedder's own, on the shard's ring.

use std::{
    any::Any,
    io,
    marker::PhantomData,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use super::{driver::Key, reactor::Reactor, uring::ties_to_others};

/// An operation that an embedder brings, with everything that it uses.
///
/// Start it with [`runtime::submit`](crate::runtime::submit). Unless the ring is not restricted, its
/// opcode must be among those that [`Restrictions::allow`](super::Restrictions::allow) lets through.
///
/// # Safety
///
/// The ring and its queues are shared with every connection of the shard. An implementor promises of
/// each entry:
///
/// - **Memory and descriptors.** All that it refers to is owned by the implementor and stays valid, at
///   the same addresses, until the implementor is dropped, even when that is moved. It is dropped only
///   after the operation's completion, or never.
/// - **One completion.** It completes exactly once: no multishot operation, no zero-copy send (which
///   completes a second time), no IOSQE_CQE_SKIP_SUCCESS.
/// - **Nobody else's buffers.** No IOSQE_BUFFER_SELECT, and no operation that provides or removes
///   buffers (IORING_OP_PROVIDE_BUFFERS, IORING_OP_REMOVE_BUFFERS): the buffer groups are the
///   shard's, and a buffer taken from one would be written to while others read it.
/// - **Nobody else's operations.** No IOSQE_IO_LINK and no IOSQE_IO_HARDLINK, which would tie it to
///   whatever entry comes next, a connection's; no IOSQE_IO_DRAIN, which would hold up all of them.
///   It cancels, changes or removes nothing but operations of the embedder's own.
/// - **No forged completions.** It sends no message (IORING_OP_MSG_RING) to a ring of this crate: the
///   ring would take it for the completion of an operation that still uses its memory.
///
/// The flags named here are refused when the entry is taken, whatever the ring's restrictions are
/// ([`submit`](crate::runtime::submit) gives an error). What the kernel must do for an opcode to keep
/// the other promises cannot be checked, which is why the trait is unsafe.
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
        let mut entry = operation.entry();
        if let Some(flag) = ties_to_others(&mut entry) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "an operation of an embedder's own carries {flag}, which would affect other \
                     operations of the ring; build its entry without"
                ),
            ));
        }
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
