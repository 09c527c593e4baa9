//! glommio as a guest: each shard is a glommio executor.
//!
//! *In:* a service. *Out:* its connections, as `Balanced<TcpStream>`. *Owns:* the executors.
//! *Never:* touches glommio before io_uring is known to work: where it is refused, glommio ends the
//! process.
//!
//! Task queues and shares are the service's own affair: connections are served in the default
//! queue, and a service may [`spawn_local_into`](::glommio::spawn_local_into) queues that it has
//! created.
//!
//! ```no_run
//! use evenkeel::{Listener, shard::{Balanced, Shard}};
//! use futures_lite::io::{copy, split};
//! use glommio::net::TcpStream;
//!
//! evenkeel::glommio::Shards::builder()
//!     .listener(Listener::bind("0.0.0.0:7")?)
//!     .start(|_: &Shard| {
//!         async |client: Balanced<TcpStream>| {
//!             let (from, to) = split(client);
//!             copy(from, to).await
//!         }
//!     })?
//!     .wait();
//! # Ok::<(), evenkeel::Error>(())
//! ```

use std::{
    future::poll_fn,
    io::{self, IoSlice, IoSliceMut},
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use ::glommio::{LocalExecutorBuilder, Placement, executor, net::TcpStream, spawn_local};
use futures_io::{AsyncRead, AsyncWrite};

use super::{Inbox, RunGuest, Start, serving::Serving};
use crate::{
    error::Error,
    proxy::{Builder, Proxy},
    ring::Capabilities,
    shard::{Balanced, Shard},
    sys,
};

/// Buffers that an executor registers with each of its three rings, in bytes: glommio's least. It
/// uses them for files, and they count against RLIMIT_MEMLOCK.
const IO_MEMORY: usize = 64 << 10;

/// Turns that the end of a shard gives the tasks of connections that are being cut.
const LAST_TURNS: usize = 1000;

/// Shards that are glommio executors.
#[derive(Debug)]
pub struct Shards(());

impl Shards {
    /// Describes a proxy of glommio shards. Each executor wants RLIMIT_MEMLOCK to be 512 KiB or
    /// more.
    pub fn builder() -> Builder<Shards> {
        Builder::default()
    }
}

impl Builder<Shards> {
    /// Starts the proxy. `make` is called once a shard, on its executor; what it makes serves the
    /// shard's connections, each in a local task of its own. What that returns is dropped.
    ///
    /// A drain is announced by [`Shard::draining`]; connections that are open at its end are
    /// dropped.
    ///
    /// # Errors
    ///
    /// As for our own shards; where io_uring is refused, whatever the acceptor could do without;
    /// where the balance is the kernel's, a listener has a service or expects a PROXY header; and
    /// what glommio gives where an executor cannot be made.
    pub fn start<M, S, R>(self, make: M) -> Result<Proxy, Error>
    where
        M: Fn(&Shard) -> S + Send + Sync + 'static,
        S: AsyncFn(Balanced<TcpStream>) -> R + 'static,
        R: 'static,
    {
        Capabilities::probe()?;
        let run = move |inbox: Inbox| accept(make(inbox.shard()), inbox);
        self.launch(Some(Arc::new(Executor(run))))
    }
}

/// Runs what is made of the inbox on an executor.
struct Executor<F>(F);

impl<F, A> RunGuest for Executor<F>
where
    F: Fn(Inbox) -> A + Send + Sync,
    A: Future<Output = ()>,
{
    fn run(&self, start: Start) -> Result<(), Error> {
        // The thread is placed already, and glommio leaves it there.
        let executor = LocalExecutorBuilder::new(Placement::Unbound)
            .io_memory(IO_MEMORY)
            .make()
            .map_err(|error| Error::System {
                doing: "making a glommio executor",
                source: io::Error::other(error.to_string()),
            })?;
        let inbox = start.inbox()?;
        // The service is made inside of the executor, which it may need.
        executor.run(async { (self.0)(inbox).await });
        Ok(())
    }
}

async fn accept<S, R>(service: S, mut inbox: Inbox)
where
    S: AsyncFn(Balanced<TcpStream>) -> R + 'static,
    R: 'static,
{
    let shard = inbox.shard().clone();
    let serving = Serving::new(shard.clone());
    let panicked = {
        let mut receive = pin!(receive(service, &mut inbox, &serving));
        poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| receive.as_mut().poll(cx))) {
            Ok(polled) => polled.map(|()| None),
            Err(panic) => Poll::Ready(Some(panic)),
        })
        .await
    };
    drop(inbox);
    // An executor that ends forgets its tasks, so those that are left are ended first.
    shard.abandon();
    for _ in 0..LAST_TURNS {
        if serving.count() == 0 {
            break;
        }
        executor().yield_now().await;
    }
    if serving.count() > 0 {
        tracing::error!(left = serving.count(), "connections did not end with their shard");
    }
    if let Some(panic) = panicked {
        resume_unwind(panic);
    }
}

async fn receive<S, R>(service: S, inbox: &mut Inbox, serving: &Serving)
where
    S: AsyncFn(Balanced<TcpStream>) -> R + 'static,
    R: 'static,
{
    let service = Rc::new(service);
    while let Some(connection) = inbox.receive().await {
        let connection = connection.map(into_stream);
        let service = Rc::clone(&service);
        spawn_local(serving.task_until_cut(async move { service(connection).await })).detach();
    }
}

fn into_stream(socket: OwnedFd) -> TcpStream {
    sys::descriptor::give(socket)
}

impl<S: AsyncRead + Unpin> AsyncRead for Balanced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(Pin::new(Balanced::get_mut(&mut self)).poll_read(cx, into))?;
        self.count_received(read);
        Poll::Ready(Ok(read))
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(Pin::new(Balanced::get_mut(&mut self)).poll_read_vectored(cx, into))?;
        self.count_received(read);
        Poll::Ready(Ok(read))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Balanced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(Balanced::get_mut(&mut self)).poll_write(cx, bytes))?;
        self.count_sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written =
            ready!(Pin::new(Balanced::get_mut(&mut self)).poll_write_vectored(cx, bytes))?;
        self.count_sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(Balanced::get_mut(&mut self)).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(Balanced::get_mut(&mut self)).poll_close(cx)
    }
}
