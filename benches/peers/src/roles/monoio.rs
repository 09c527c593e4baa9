//! A byte relay as one writes it with monoio: a copy each way, on io_uring.

use std::io;

use futures_lite::future::try_zip;
use monoio::io::{AsyncWriteRent, Splitable, copy};
use monoio::net::{ListenerOpts, TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};

use crate::peers::Job;

pub(super) fn run(job: &Job) -> io::Result<()> {
    let (listen, upstream) = (job.listen[0], job.upstream);
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new().with_entries(4096).build()?;
    runtime.block_on(async move {
        let listener = TcpListener::bind_with_config(listen, &ListenerOpts::new().backlog(4096))?;
        loop {
            let (downstream, _) = listener.accept().await?;
            monoio::spawn(async move {
                downstream.set_nodelay(true)?;
                let upstream = TcpStream::connect(upstream).await?;
                upstream.set_nodelay(true)?;
                relay(downstream, upstream).await
            });
        }
    })
}

async fn relay(downstream: TcpStream, upstream: TcpStream) -> io::Result<()> {
    let (mut from_client, mut to_client) = downstream.into_split();
    let (mut from_origin, mut to_origin) = upstream.into_split();
    let there = async {
        copy(&mut from_client, &mut to_origin).await?;
        to_origin.shutdown().await
    };
    let back = async {
        copy(&mut from_origin, &mut to_client).await?;
        to_client.shutdown().await
    };
    // Where one way fails the other ends as well: the origin would not learn of a client's reset.
    try_zip(there, back).await.map(drop)
}
