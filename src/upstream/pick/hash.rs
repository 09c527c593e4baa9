//! Consistent hash: weighted rendezvous (Thaler and Ravishankar 1998).
//!
//! Every endpoint draws a number from the key and its own address, and the best number wins. So an
//! endpoint that comes takes its share from all others, one that goes leaves its share to all
//! others, and no other key moves: exactly, whether it goes from the configuration, by an ejection
//! or because it was tried. A table (Maglev) would make a choice independent of the number of
//! endpoints, but moves further keys, costs memory for each snapshot, and needs a second rule for
//! endpoints that are unavailable; a hundred endpoints take a fraction of a microsecond here.
//!
//! The hash is a fixed function of the key and the endpoint's address, so that all shards, and
//! all proxies with the same endpoints, choose the same.

use std::net::SocketAddr;

use rapidhash::v3::{DEFAULT_RAPID_SECRETS, rapidhash_v3, rapidhash_v3_nano_inline};

use super::Candidates;

pub(crate) fn by_hash(candidates: &Candidates<'_>, key: &[u8]) -> Option<usize> {
    let key = rapidhash_v3(key);
    let mut best: Option<(usize, f64)> = None;
    for index in (0..candidates.len()).filter(|&index| candidates.may_be_chosen(index)) {
        let drawn = draw(candidates.snapshot.seeds[index], key);
        let score = match candidates.snapshot.sampler.is_even() {
            // The order of the scores below, without their logarithms.
            true => drawn,
            false => f64::from(candidates.endpoint(index).weight) / -drawn.ln(),
        };
        if best.is_none_or(|(_, highest)| score > highest) {
            best = Some((index, score));
        }
    }
    best.map(|(index, _)| index)
}

/// What an endpoint puts into its draws.
pub(crate) fn seed(address: SocketAddr) -> u64 {
    let mut bytes = [0; 18];
    let ip = match address.ip().to_canonical() {
        std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        std::net::IpAddr::V6(ip) => ip,
    };
    bytes[..16].copy_from_slice(&ip.octets());
    bytes[16..].copy_from_slice(&address.port().to_be_bytes());
    rapidhash_v3(&bytes)
}

/// A number between 0 and 1, neither of them reached.
fn draw(seed: u64, key: u64) -> f64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..].copy_from_slice(&key.to_le_bytes());
    let hash = rapidhash_v3_nano_inline::<true, false>(&bytes, &DEFAULT_RAPID_SECRETS);
    // 52 bits, so that the half that is added is not rounded away.
    ((hash >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
}
