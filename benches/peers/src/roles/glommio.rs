//! A byte relay as one writes it with glommio: a copy each way, one task a connection.

use std::io;

use futures_lite::future::try_zip;
use futures_lite::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, split};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};

use crate::peers::Job;

pub(super) fn run(job: &Job) -> io::Result<()> {
    let (listen, upstream) = (job.listen[0], job.upstream);
    // Memory for files, of which a relay has none: the default of 10 MiB is locked three times over.
    let executor = LocalExecutorBuilder::new(Placement::Unbound).io_memory(64 << 10).make()?;
    executor.run(async move {
        let listener = TcpListener::bind(listen)?;
        loop {
            let downstream = listener.accept().await?;
            glommio::spawn_local(async move {
                downstream.set_nodelay(true)?;
                relay(downstream, upstream).await
            })
            .detach();
        }
    })
}

pub(super) async fn relay(
    downstream: impl AsyncRead + AsyncWrite + Unpin,
    upstream: std::net::SocketAddr,
) -> io::Result<()> {
    let upstream = TcpStream::connect(upstream).await?;
    upstream.set_nodelay(true)?;
    let (from_client, mut to_client) = split(downstream);
    let (from_origin, mut to_origin) = split(upstream);
    let there = async {
        copy(from_client, &mut to_origin).await?;
        to_origin.close().await
    };
    let back = async {
        copy(from_origin, &mut to_client).await?;
        to_client.close().await
    };
    // Where one way fails the other ends as well: the origin would not learn of a client's reset.
    try_zip(there, back).await.map(drop)
}
