//! The relays of the roles `tokio` and `glommio` as guests of the library: the same tasks, on shards
//! that our acceptor gives their connections.

use std::io::{self, Read};
use std::net::SocketAddr;

use evenkeel::shard::{Balanced, Shard};
use evenkeel::{Listener, Proxy};

use super::{Role, glommio, tokio};
use crate::peers::Job;

/// Serves until standard input ends.
///
/// # Errors
/// Whatever keeps the proxy from starting.
pub(super) fn run(role: Role, job: &Job) -> io::Result<()> {
    let proxy = match role {
        Role::GlommioGuest => on_glommio(job),
        _ => on_tokio(job),
    };
    let proxy = proxy.map_err(io::Error::other)?;
    io::stdin().read_to_end(&mut Vec::new())?;
    drop(proxy);
    Ok(())
}

fn listener(address: SocketAddr) -> evenkeel::Result<Listener> {
    Listener::bind(&address.to_string())
}

fn on_tokio(job: &Job) -> evenkeel::Result<Proxy> {
    let upstream = job.upstream;
    let builder = evenkeel::tokio::Shards::builder().shards(job.workers);
    builder.listener(listener(job.listen[0])?).start(move |_: &Shard| {
        async move |client: Balanced<::tokio::net::TcpStream>| tokio::relay(client, upstream).await
    })
}

fn on_glommio(job: &Job) -> evenkeel::Result<Proxy> {
    let upstream = job.upstream;
    let builder = evenkeel::glommio::Shards::builder().shards(job.workers);
    builder.listener(listener(job.listen[0])?).start(move |_: &Shard| {
        async move |client: Balanced<::glommio::net::TcpStream>| {
            glommio::relay(client, upstream).await
        }
    })
}
