//! What is put on a proxy: as much as it takes ([`closed`]), so many requests a second ([`open`]), or
//! connections that are held ([`held`]), or handshakes of TLS ([`tls`]).

pub(crate) mod closed;
pub(crate) mod held;
pub(crate) mod open;
pub(crate) mod tls;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use hdrhistogram::Histogram;
use socket2::{Domain, Protocol, Socket, Type};

use crate::exchange::Exchange;
use crate::ring::Ring;

/// Nanoseconds. Longer ones count as this long.
const LATENCY_LIMIT: u64 = 60_000_000_000;

/// Some connections that all say the same.
#[derive(Clone, Copy)]
pub(crate) struct Workload {
    pub(crate) connections: usize,
    pub(crate) exchange: Exchange,
}

/// Of times in nanoseconds, to three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_LIMIT, 3)
        .unwrap_or_else(|_| unreachable!("the bounds are constants in range"))
}

pub(crate) fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
}

fn socket(proxy: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(proxy), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

/// Arms the receive that an exchange needs: bytes that are only counted need not be copied.
fn receive(ring: &mut Ring<'_>, socket: &Socket, exchange: &Exchange, token: u64) {
    match exchange.response_len {
        Some(_) => ring.receive_discarding(socket.as_fd(), token),
        None => ring.receive(socket.as_fd(), token),
    }
}
