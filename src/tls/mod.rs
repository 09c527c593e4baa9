//! TLS, on rustls.

pub mod client_hello;
mod established;
mod handshake;
pub mod identity;
mod provider;
mod record;

pub use self::{
    established::Established,
    handshake::{HandshakeError, accept, connect},
    identity::{IdentityError, Peers, SpiffeId, TrustDomain},
    provider::provider,
    record::StreamError,
};
