//! The same relay on somebody else's runtime, twice: as a guest of the library, and with an accept
//! loop of its own on each thread.
//!
//! With one thread they differ by how a connection comes to it, and by nothing else; with several,
//! the accept loops have a socket each (SO_REUSEPORT). What connections inherit is set on the
//! listening sockets of both.

use std::any::Any;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use socket2::{Domain, Protocol, Socket, Type};

use crate::evenkeel::is_shard;
use crate::work::{Work, largest_over_mean, thread_times};

/// The roles of this module that are built in.
pub(crate) const NAMES: &[&str] = &[
    #[cfg(feature = "glommio")]
    "glommio-guest",
    #[cfg(feature = "glommio")]
    "glommio-own",
    #[cfg(feature = "tokio")]
    "tokio-guest",
    #[cfg(feature = "tokio")]
    "tokio-own",
];

/// Relays until standard input ends.
///
/// # Errors
/// Whatever keeps it from starting.
pub(crate) fn run(
    role: &str,
    listen: SocketAddr,
    upstream: SocketAddr,
    shards: usize,
) -> io::Result<Work> {
    let running: Box<dyn Any> = match role {
        #[cfg(feature = "glommio")]
        "glommio-guest" => Box::new(on_glommio::guest(listen, upstream, shards)?),
        #[cfg(feature = "glommio")]
        "glommio-own" => Box::new(own(listen, upstream, shards, on_glommio::accept)?),
        #[cfg(feature = "tokio")]
        "tokio-guest" => Box::new(on_tokio::guest(listen, upstream, shards)?),
        #[cfg(feature = "tokio")]
        "tokio-own" => Box::new(own(listen, upstream, shards, on_tokio::accept)?),
        _ => return Err(io::Error::other(format!("there is no role `{role}`"))),
    };
    io::stdin().read_to_end(&mut Vec::new())?;
    let busiest = largest_over_mean(&thread_times(is_shard)?);
    drop(running);
    Ok(Work { turns: 0, completions: 0, busiest })
}

/// Starts threads that accept for themselves, each called as a shard is. They end with the process.
fn own(
    listen: SocketAddr,
    upstream: SocketAddr,
    threads: usize,
    accept: fn(TcpListener, SocketAddr) -> io::Result<()>,
) -> io::Result<()> {
    for index in 0..threads {
        let socket = Socket::new(Domain::for_address(listen), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(threads > 1)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&listen.into())?;
        socket.listen(4096)?;
        let run = move || {
            if let Err(error) = accept(socket.into(), upstream) {
                eprintln!("relay bench: an accept loop ended: {error}");
            }
        };
        thread::Builder::new().name(format!("evenkeel-{index}")).spawn(run)?;
    }
    Ok(())
}

#[cfg(feature = "tokio")]
mod on_tokio {
    use std::{io, net::SocketAddr};

    use evenkeel::{
        Listener, Proxy,
        shard::{Balanced, Shard},
        tokio::Shards,
    };
    use tokio::{
        io::{AsyncRead, AsyncWrite, copy_bidirectional},
        net::{TcpListener, TcpStream},
        task::{LocalSet, spawn_local},
    };

    pub(super) fn guest(
        listen: SocketAddr,
        upstream: SocketAddr,
        shards: usize,
    ) -> io::Result<Proxy> {
        let listener = Listener::bind(&listen.to_string()).map_err(io::Error::other)?;
        let builder = Shards::builder().shards(shards).listener(listener);
        let proxy = builder.start(move |_: &Shard| {
            async move |client: Balanced<TcpStream>| relay(client, upstream).await
        });
        proxy.map_err(io::Error::other)
    }

    pub(super) fn accept(listener: std::net::TcpListener, upstream: SocketAddr) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        listener.set_nonblocking(true)?;
        LocalSet::new().block_on(&runtime, async {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (client, _) = listener.accept().await?;
                spawn_local(relay(client, upstream));
            }
        })
    }

    async fn relay(
        mut client: impl AsyncRead + AsyncWrite + Unpin,
        upstream: SocketAddr,
    ) -> io::Result<()> {
        let mut upstream = TcpStream::connect(upstream).await?;
        upstream.set_nodelay(true)?;
        copy_bidirectional(&mut client, &mut upstream).await?;
        Ok(())
    }
}

#[cfg(feature = "glommio")]
mod on_glommio {
    use std::{
        io,
        net::SocketAddr,
        os::fd::{FromRawFd, IntoRawFd},
    };

    use evenkeel::{
        Listener, Proxy,
        glommio::Shards,
        shard::{Balanced, Shard},
    };
    use futures_lite::{
        AsyncRead, AsyncWrite, AsyncWriteExt,
        future::try_zip,
        io::{copy, split},
    };
    use glommio::{
        LocalExecutorBuilder, Placement,
        net::{TcpListener, TcpStream},
        spawn_local,
    };

    pub(super) fn guest(
        listen: SocketAddr,
        upstream: SocketAddr,
        shards: usize,
    ) -> io::Result<Proxy> {
        let listener = Listener::bind(&listen.to_string()).map_err(io::Error::other)?;
        let builder = Shards::builder().shards(shards).listener(listener);
        let proxy = builder.start(move |_: &Shard| {
            async move |client: Balanced<TcpStream>| relay(client, upstream).await
        });
        proxy.map_err(io::Error::other)
    }

    #[allow(unsafe_code)]
    pub(super) fn accept(listener: std::net::TcpListener, upstream: SocketAddr) -> io::Result<()> {
        let executor = LocalExecutorBuilder::new(Placement::Unbound).io_memory(64 << 10).make();
        executor.map_err(|error| io::Error::other(error.to_string()))?.run(async {
            // SAFETY: the descriptor is open, and `into_raw_fd` has given it up.
            let listener = unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) };
            loop {
                let accepted = listener.accept().await;
                let client = accepted.map_err(|error| io::Error::other(error.to_string()))?;
                spawn_local(relay(client, upstream)).detach();
            }
        })
    }

    async fn relay(
        client: impl AsyncRead + AsyncWrite + Unpin,
        upstream: SocketAddr,
    ) -> io::Result<()> {
        let upstream = TcpStream::connect(upstream).await;
        let upstream = upstream.map_err(|error| io::Error::other(error.to_string()))?;
        upstream.set_nodelay(true).map_err(|error| io::Error::other(error.to_string()))?;
        let (from_client, to_client) = split(client);
        let (from_upstream, to_upstream) = split(upstream);
        try_zip(carry(from_client, to_upstream), carry(from_upstream, to_client)).await?;
        Ok(())
    }

    async fn carry(
        from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        copy(from, &mut to).await?;
        to.close().await
    }
}
