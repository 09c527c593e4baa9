//! Credentials as listeners and clusters use them: handshakes in memory, between rustls and rustls.

mod authority;
mod handshake;
mod metrics;
mod peers;
mod reload;
mod resumption;
mod sets;
