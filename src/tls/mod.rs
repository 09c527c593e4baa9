//! TLS, on rustls.
//!
//! ```text
//!  files ─► credentials ─ snapshot ─► handshake ─ keys ─► record ─ a layer of ─► net::Stream
//!                              └──────► verify: who is it, and is it allowed
//! ```
//!
//! [`credentials`] reads certificates, keys, roots and revocation lists, and makes of them what
//! handshakes need; they judge peers by their [`identity`]. [`accept`] and [`connect`] make a TLS
//! connection of a stream, which then carries what is inside of it, for whatever uses streams.
//! [`terminate`] does it for every connection of a listener. A refusal has a [`Reason`].
//! [`ByServerName`] sorts connections by the name that their clients ask for, and leaves their TLS alone.

mod alpn;
mod by_server_name;
pub mod certificate;
pub mod client_hello;
pub mod credentials;
pub mod error;
mod established;
mod handshake;
pub mod identity;
mod provider;
mod record;
mod terminate;
mod verify;

pub use self::{
    alpn::{ByProtocol, ByProtocolOnShard},
    by_server_name::{ByServerName, ByServerNameOnShard},
    certificate::Certificate,
    credentials::{ClientCredentials, ServerCredentials},
    error::Error,
    established::Established,
    handshake::{HandshakeError, accept, connect},
    identity::{IdentityError, Peers, SpiffeId, TrustDomain},
    provider::provider,
    record::StreamError,
    terminate::{Terminate, TerminateOnShard, terminate},
    verify::PeerIdentity,
};
pub use crate::telemetry::HandshakeFailure as Reason;

#[cfg(test)]
mod tests;
