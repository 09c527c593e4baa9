//! tokio as a guest: each shard is a current-thread runtime with a
//! [`LocalSet`].
//!
//! *In:* a service. *Out:* its connections, as `Balanced<TcpStream>`. *Owns:* the runtimes.
//! *Never:* gives a connection to another thread.
//!
//! So any service over hyper, axum or tonic has even, thread-per-core accepts:
//!
//! ```no_run
//! use evenkeel::{Listener, shard::{Balanced, Shard}};
//! use tokio::{io::copy_bidirectional, net::TcpStream};
//!
//! evenkeel::tokio::Shards::builder()
//!     .listener(Listener::bind("0.0.0.0:8080")?)
//!     .start(|_: &Shard| {
//!         async |mut client: Balanced<TcpStream>| {
//!             let mut upstream = TcpStream::connect("127.0.0.1:8000").await?;
//!             copy_bidirectional(&mut client, &mut upstream).await
//!         }
//!     })?
//!     .wait();
//! # Ok::<(), evenkeel::Error>(())
//! ```

use std::{
    io::{self, IoSlice},
    os::fd::OwnedFd,
    panic::resume_unwind,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use ::tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    runtime,
    task::{LocalSet, spawn_local},
};

use super::{Inbox, RunGuest, Start, serving::Serving};
use crate::{
    error::Error,
    proxy::{Builder, Proxy},
    shard::{Balanced, Shard},
};

/// How long the end of a shard waits for what `spawn_blocking` runs.
const BLOCKING_TASKS: Duration = Duration::from_secs(1);

/// Shards that are tokio runtimes.
#[derive(Debug)]
pub struct Shards(());

impl Shards {
    /// Describes a proxy of tokio shards.
    pub fn builder() -> Builder<Shards> {
        Builder::default()
    }
}

impl Builder<Shards> {
    /// Starts the proxy. `make` is called once a shard, on its runtime; what it makes serves the
    /// shard's connections, each in a local task of its own. What that returns is dropped.
    ///
    /// A drain is announced by [`Shard::draining`]; connections that are open at its end are
    /// dropped, with all other tasks of the runtime.
    ///
    /// # Errors
    ///
    /// As for our own shards; and where the balance is the kernel's, a listener has a service or
    /// expects a PROXY header, or a runtime cannot be made.
    pub fn start<M, S, R>(self, make: M) -> Result<Proxy, Error>
    where
        M: Fn(&Shard) -> S + Send + Sync + 'static,
        S: AsyncFn(Balanced<TcpStream>) -> R + 'static,
        R: 'static,
    {
        let run = move |inbox: Inbox| accept(make(inbox.shard()), inbox);
        self.launch(Some(Arc::new(Runtime(run))))
    }
}

/// Runs what is made of the inbox on a runtime.
struct Runtime<F>(F);

impl<F, A> RunGuest for Runtime<F>
where
    F: Fn(Inbox) -> A + Send + Sync,
    A: Future<Output = ()> + 'static,
{
    fn run(&self, start: Start) -> Result<(), Error> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::system("making a tokio runtime"))?;
        let tasks = LocalSet::new();
        let inbox = start.inbox()?;
        // The service is made inside of the runtime, which it may need. What is blocked on is polled
        // whenever any task is woken, so what asks the inbox is a task, too.
        let accepted = tasks.block_on(&runtime, async { spawn_local((self.0)(inbox)).await });
        if let Some(panic) = accepted.err().and_then(|ended| ended.try_into_panic().ok()) {
            resume_unwind(panic);
        }
        drop(tasks);
        runtime.shutdown_timeout(BLOCKING_TASKS);
        Ok(())
    }
}

async fn accept<S, R>(service: S, mut inbox: Inbox)
where
    S: AsyncFn(Balanced<TcpStream>) -> R + 'static,
    R: 'static,
{
    let service = Rc::new(service);
    let serving = Serving::new(inbox.shard().clone());
    while let Some(connection) = inbox.receive().await {
        match connection.try_map(into_stream) {
            Ok(connection) => {
                let service = Rc::clone(&service);
                spawn_local(serving.task(async move { service(connection).await }));
            }
            Err(error) => inbox.shard().log_peer(|suppressed| {
                tracing::warn!(suppressed, "a connection is closed: tokio cannot take it: {error}");
            }),
        }
    }
    // Those that are left are dropped with the runtime.
    drop(serving);
}

fn into_stream(socket: OwnedFd) -> io::Result<TcpStream> {
    let socket = std::net::TcpStream::from(socket);
    socket.set_nonblocking(true)?;
    TcpStream::from_std(socket)
}

impl<S: AsyncRead + Unpin> AsyncRead for Balanced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(Balanced::get_mut(&mut self)).poll_read(cx, into);
        self.count_received(into.filled().len() - before);
        read
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

    fn is_write_vectored(&self) -> bool {
        self.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(Balanced::get_mut(&mut self)).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(Balanced::get_mut(&mut self)).poll_shutdown(cx)
    }
}
