//! A byte relay as one writes it with tokio: `copy_bidirectional`, one task a connection.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_local};

use crate::peers::Job;

pub(super) fn run(job: &Job) -> io::Result<()> {
    // A single thread needs no work stealing.
    let runtime = match job.workers {
        1 => Builder::new_current_thread().enable_io().build()?,
        workers => Builder::new_multi_thread()
            .worker_threads(workers)
            .thread_name("worker")
            .enable_io()
            .build()?,
    };
    let (listen, upstream) = (job.listen[0], job.upstream);
    runtime.block_on(async move {
        let listener = listen_on(listen)?;
        loop {
            let (downstream, _) = listener.accept().await?;
            tokio::spawn(serve(downstream, upstream));
        }
    })
}

/// With the tasks in a `LocalSet`.
pub(super) fn run_in_local_set(job: &Job) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let (listen, upstream) = (job.listen[0], job.upstream);
    let accept = async move {
        let listener = listen_on(listen)?;
        loop {
            let (downstream, _) = listener.accept().await?;
            spawn_local(serve(downstream, upstream));
        }
    };
    // What is blocked on is polled whenever any task is woken, so what accepts is a task, too.
    LocalSet::new().block_on(&runtime, async move { spawn_local(accept).await? })
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(4096)
}

async fn serve(downstream: TcpStream, upstream: SocketAddr) -> io::Result<()> {
    downstream.set_nodelay(true)?;
    relay(downstream, upstream).await
}

pub(super) async fn relay(
    mut downstream: impl AsyncRead + AsyncWrite + Unpin,
    upstream: SocketAddr,
) -> io::Result<()> {
    let mut upstream = TcpStream::connect(upstream).await?;
    upstream.set_nodelay(true)?;
    copy_bidirectional(&mut downstream, &mut upstream).await?;
    Ok(())
}
