//! A byte relay as one writes it with tokio: `copy_bidirectional`, one task a connection.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

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
        let listener = {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind(listen)?;
            socket.listen(4096)?
        };
        accept(listener, upstream).await
    })
}

async fn accept(listener: TcpListener, upstream: std::net::SocketAddr) -> io::Result<()> {
    loop {
        let (downstream, _) = listener.accept().await?;
        tokio::spawn(async move {
            downstream.set_nodelay(true)?;
            relay(downstream, upstream).await
        });
    }
}

pub(super) async fn relay(
    mut downstream: impl AsyncRead + AsyncWrite + Unpin,
    upstream: std::net::SocketAddr,
) -> io::Result<()> {
    let mut upstream = TcpStream::connect(upstream).await?;
    upstream.set_nodelay(true)?;
    copy_bidirectional(&mut downstream, &mut upstream).await?;
    Ok(())
}
