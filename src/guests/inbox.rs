//! Where a guest shard takes its connections from.
//!
//! *In:* what acceptors push into the shard's queue, and what the proxy tells the shard. *Out:* one
//! connection at a time, looked up and counted. *Owns:* the shard's place in the balance. *Never:*
//! takes a connection out of the queue that is not asked for, so what the guest has not taken goes
//! to others when it leaves.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fmt,
    future::poll_fn,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    task::{Context, Poll},
};

use super::doorbell::Doorbell;
use crate::{
    accept::Command,
    shard::{Arrivals, Arrived, Balanced, Remote, Shard, thread::Leaving},
};

/// Connections that are received in a row before other tasks get their turn.
const IN_A_ROW: u32 = 64;

/// The inbox of a guest shard: its connections, in the order in which they were accepted.
///
/// It belongs to the thread of the shard. Dropping it takes the shard out of the balance for good,
/// and deals what waits to the other shards; connections that were received already stay as they
/// are.
///
/// An executor awaits [`receive`](Self::receive). A loop of your own polls the file descriptor
/// ([`AsFd`]) for reading, and calls [`try_receive`](Self::try_receive) until it is `Pending`:
/// then, and only then, the descriptor is readable when there is something again. One ring of it
/// stands for any number of connections.
#[must_use = "dropping it takes the shard out of the balance"]
pub struct Inbox {
    shard: Shard,
    remote: Arc<Remote>,
    arrivals: Arrivals,
    doorbell: Doorbell,
    in_a_row: u32,
    stopped: bool,
    leaving: Leaving,
}

/// Connections that arrived and are about to be given out.
#[derive(Default)]
pub(super) struct Queue(RefCell<VecDeque<Arrived>>);

impl Queue {
    pub(super) fn push(&self, arrived: Arrived) {
        self.0.borrow_mut().push_back(arrived);
    }

    fn pop(&self) -> Option<Arrived> {
        self.0.borrow_mut().pop_front()
    }
}

impl Inbox {
    pub(super) fn new(
        shard: Shard,
        remote: Arc<Remote>,
        doorbell: Doorbell,
        leaving: Leaving,
    ) -> Inbox {
        let arrivals = Arrivals::new(shard.clone());
        Inbox { shard, remote, arrivals, doorbell, in_a_row: 0, stopped: false, leaving }
    }

    /// The shard: its number, the metrics, and whether the proxy drains.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// The next connection; `None` once the proxy has ended the shard. What is still open is to be
    /// dropped then: a drain has waited for it for as long as it may.
    ///
    /// The socket blocks; make it non-blocking where your executor wants that.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no connection.
    pub async fn receive(&mut self) -> Option<Balanced<OwnedFd>> {
        poll_fn(|cx| self.poll_receive(cx)).await
    }

    /// As [`receive`](Self::receive), for futures that are written out. After some connections in a
    /// row it is `Pending` once and wakes at once, so that other tasks get their turn.
    pub fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Balanced<OwnedFd>>> {
        // The end of a short row, too: to find nothing lets the acceptor go on, and the longer it
        // has waited, the more connections it brings for one wake-up.
        let ended = self.in_a_row > 0 && self.remote.inbox.is_taken();
        if ended || self.in_a_row >= IN_A_ROW {
            self.in_a_row = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let received = self.poll(cx);
        self.in_a_row = if received.is_ready() { self.in_a_row + 1 } else { 0 };
        received
    }

    /// The next connection, without waiting: `Pending` where there is none now, and then the file
    /// descriptor becomes readable when it is time to try again; `Ready(None)` as for
    /// [`receive`](Self::receive).
    pub fn try_receive(&mut self) -> Poll<Option<Balanced<OwnedFd>>> {
        self.doorbell.take_note();
        let waker = self.doorbell.waker().clone();
        self.poll(&Context::from_waker(&waker))
    }

    fn poll(&mut self, cx: &Context<'_>) -> Poll<Option<Balanced<OwnedFd>>> {
        while !self.stopped {
            if let Some(command) = self.remote.control.pop() {
                self.obey(command);
                continue;
            }
            let Poll::Ready(accepted) = self.remote.inbox.poll_pop(cx) else {
                // Both can wake from here on; a command that came before that is seen now.
                match self.remote.control.poll_pop(cx) {
                    Poll::Ready(command) => self.obey(command),
                    Poll::Pending => return Poll::Pending,
                }
                continue;
            };
            self.arrivals.arrive(accepted);
            // None where it was refused.
            if let Some(arrived) = self.shard.local::<Queue>().pop() {
                return Poll::Ready(Some(Balanced::arrived(arrived)));
            }
        }
        Poll::Ready(None)
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Answer(to) => drop(to.send(self.shard.index())),
            Command::Run(task) => task(),
            Command::Drain => self.shard.drain(),
            Command::Stop => {
                self.stopped = true;
                self.leaving.expect();
                self.shard.cut();
            }
            Command::Die => panic!("told to die"),
            // Guests do not accept; nobody asks them to.
            Command::Accept(_) | Command::StopAccepting(..) => {}
        }
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.doorbell.as_fd()
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("shard", &self.shard).finish_non_exhaustive()
    }
}
