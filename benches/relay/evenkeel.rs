//! The library under test: a relay of some shards, from `listen` to `upstream`.

use std::io::{self, Read};
use std::net::SocketAddr;

use evenkeel::{AcceptorPlacement, Listener, Proxy, Relay};

use crate::work::{Work, largest_over_mean, thread_times};

/// Relays until standard input ends.
///
/// # Errors
/// Whatever keeps the proxy from starting.
pub(crate) fn run(
    listen: SocketAddr,
    upstream: SocketAddr,
    shards: usize,
    placement: AcceptorPlacement,
) -> io::Result<Work> {
    let listener = Listener::bind(&listen.to_string())
        .map_err(io::Error::other)?
        .serve(Relay::to([upstream.to_string()]));
    let builder = Proxy::builder().shards(shards).acceptor_placement(placement);
    let proxy = builder.listener(listener).start().map_err(io::Error::other)?;
    io::stdin().read_to_end(&mut Vec::new())?;
    let times = thread_times(is_shard)?;
    let cells: Vec<_> = (0..shards).map(|shard| proxy.registry().shard(shard)).collect();
    Ok(Work {
        turns: cells.iter().map(|cells| cells.turn_duration.snapshot().count()).sum(),
        completions: cells.iter().map(|cells| cells.completions.value()).sum(),
        busiest: largest_over_mean(&times),
    })
}

/// `evenkeel-0` is a shard, `evenkeel-acc-0` an acceptor.
pub(crate) fn is_shard(name: &str) -> bool {
    name.strip_prefix("evenkeel-").is_some_and(|rest| rest.parse::<usize>().is_ok())
}
