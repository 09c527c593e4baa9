//! Shards of other executors: their connections are accepted, balanced and counted as our own are.
//!
//! ```text
//!  acceptor ─► inbox of the shard ─ doorbell ─► Inbox::receive ─► Balanced<stream> ─► your service
//!              (bounded, as ours)   (a waker,    on the guest's
//!                                    an eventfd)  thread
//! ```
//!
//! *In:* accepted connections, through the same queue as for our own shards. *Out:* each as one
//! value, [`Balanced`](crate::shard::Balanced), that does the stream's I/O and is the connection's
//! load for as long as it lives. *Owns:* the shards' threads, which are named and placed as our own
//! are. *Never:* accepts, and never decides how a connection is served.
//!
//! A proxy of guests is built, drained, reloaded and watched as any other, by the same [`Builder`]
//! and the same [`Proxy`]; but its listeners are given no services, since one service, that of
//! `start`, serves them all and looks at [`listener`](crate::shard::Balanced::listener) and
//! [`original_destination`](crate::shard::Balanced::original_destination) where it matters. Shards
//! never accept for themselves, so acceptors have threads of their own.
//!
//! `tokio` and `glommio`, features of these names, are ready-made; [`Shards`] here hands the
//! [`Inbox`] to a function of yours, for any other executor, or for a loop around a poll(2) of your
//! own. Outside of semver until 1.0.
//!
//! **What the metrics know of guests.** Connections, their ends and rejections are counted as
//! everywhere; bytes are those that go through [`Balanced`](crate::shard::Balanced) itself, so not
//! those of a stream that was taken out of it or borrowed. A shard's busy share is its thread's CPU
//! time. Turns and receive buffers are the guest's own.
//!
//! **A guest that dies.** One whose inbox is dropped, by a panic or because its function returns,
//! is out of the balance, and what waited for it goes to the others. One that does not take what it
//! is given gets no more once its inbox is full.

mod doorbell;
#[cfg(feature = "glommio")]
pub mod glommio;
mod inbox;
#[cfg(any(feature = "tokio", feature = "glommio"))]
mod serving;
mod thread;
#[cfg(feature = "tokio")]
pub mod tokio;

use std::{rc::Rc, sync::Arc};

pub use self::inbox::Inbox;
pub(crate) use self::thread::{GuestThread, RunGuest, Start};
use crate::{
    error::Error,
    proxy::{Builder, Proxy},
    service::{AnyFactory, AnyService},
    shard::{Arrived, Shard},
};

/// Shards that are a function of yours, each with an [`Inbox`].
#[derive(Debug)]
pub struct Shards(());

impl Shards {
    /// Describes a proxy of such shards.
    pub fn builder() -> Builder<Shards> {
        Builder::default()
    }
}

impl Builder<Shards> {
    /// Starts the proxy. `run` is called on the thread of each shard, and serves what it receives
    /// until [`Inbox::receive`] gives `None`; when it returns, its thread ends.
    ///
    /// ```no_run
    /// use evenkeel::{Listener, guests::Shards};
    /// use futures_lite::future::block_on;
    ///
    /// let listener = Listener::bind("127.0.0.1:8080")?;
    /// let proxy = Shards::builder().listener(listener).start(|mut inbox| {
    ///     // Any executor's block_on does.
    ///     while let Some(connection) = block_on(inbox.receive()) {
    ///         println!("{:?} on shard {}", connection.get_ref(), inbox.shard().index());
    ///     }
    /// })?;
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for our own shards; and where the balance is the kernel's, or a listener has a service or
    /// expects a PROXY header.
    pub fn start(self, run: impl Fn(Inbox) + Send + Sync + 'static) -> Result<Proxy, Error> {
        self.launch(Some(Arc::new(Function(run))))
    }
}

struct Function<F>(F);

impl<F: Fn(Inbox) + Send + Sync> RunGuest for Function<F> {
    fn run(&self, start: Start) -> Result<(), Error> {
        (self.0)(start.inbox()?);
        Ok(())
    }
}

/// What serves the listeners of a proxy of guests, as far as the table is concerned: it leaves
/// connections where the shard's [`Inbox`] takes them.
pub(crate) struct ToInbox;

impl AnyFactory for ToInbox {
    fn make_any(&self, shard: &Shard) -> Rc<dyn AnyService> {
        shard.local::<inbox::Queue>()
    }

    fn needs_original_destination(&self) -> bool {
        false
    }

    /// Nobody knows what a guest does; and what was redirected was not meant for the proxy itself.
    fn may_forward(&self) -> bool {
        true
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

impl AnyService for inbox::Queue {
    fn start(self: Rc<Self>, arrived: Arrived) {
        self.push(arrived);
    }
}
