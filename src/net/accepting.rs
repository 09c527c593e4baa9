//! A listening socket on this thread's executor.

use std::{
    future::poll_fn,
    io,
    os::fd::OwnedFd,
    rc::Rc,
    task::{Context, Poll},
};

use crate::{ring::Key, runtime::Executor};

/// A listening socket. One multishot accept stays armed from the first call on.
pub(crate) struct Accepting {
    executor: Rc<Executor>,
    key: Key,
}

impl Accepting {
    /// Takes a listening socket, in blocking mode, to this thread's executor.
    pub(crate) fn adopt(socket: OwnedFd) -> Accepting {
        let executor = Executor::current();
        let key = executor.reactor().adopt_listener(socket);
        Accepting { executor, key }
    }

    /// The next accepted connection, in blocking mode. Dropping the future loses none.
    pub(crate) async fn accept(&self) -> io::Result<OwnedFd> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    pub(crate) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<OwnedFd>> {
        self.executor.reactor().poll_accept(self.key, cx)
    }

    /// Stops accepting; connections stay in the socket's queue from then on. Those that were
    /// accepted before it took effect are still given by [`take`](Self::take).
    pub(crate) async fn stop(&self) {
        poll_fn(|cx| self.executor.reactor().poll_stop_accepting(self.key, cx)).await;
    }

    /// A connection that was accepted already.
    pub(crate) fn take(&self) -> Option<io::Result<OwnedFd>> {
        self.executor.reactor().take_accepted(self.key)
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.executor.reactor().release(self.key);
    }
}
