//! The library under test: a relay of one shard, from `listen` to `upstream`.

use std::io::{self, Read};
use std::net::SocketAddr;

use evenkeel::{AcceptorPlacement, Listener, Proxy, Relay};

use crate::bare_ring::Work;

/// Relays until standard input ends. Completions are not counted by the library.
///
/// # Errors
/// Whatever keeps the proxy from starting.
pub(crate) fn run(
    listen: SocketAddr,
    upstream: SocketAddr,
    placement: AcceptorPlacement,
) -> io::Result<Work> {
    let listener = Listener::bind(&listen.to_string())
        .map_err(io::Error::other)?
        .serve(Relay::to([upstream.to_string()]));
    let builder = Proxy::builder().shards(1).acceptor_placement(placement);
    let proxy = builder.listener(listener).start().map_err(io::Error::other)?;
    io::stdin().read_to_end(&mut Vec::new())?;
    let turns = proxy.registry().shard(0).turn_duration.snapshot().count();
    Ok(Work { turns, completions: 0 })
}
