//! TLS, on rustls.

pub mod client_hello;
mod established;
mod handshake;
mod record;

pub use self::{
    established::Established,
    handshake::{HandshakeError, accept, connect},
    record::StreamError,
};
