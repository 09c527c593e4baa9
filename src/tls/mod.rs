//! TLS, on rustls.
//!
//! [`credentials`] reads certificates, keys, roots and revocation lists, and makes of them what
//! handshakes need; they judge peers by their [`identity`]. A refusal has a [`Reason`].

pub mod certificate;
pub mod credentials;
pub mod error;
pub mod identity;
mod provider;
mod verify;

pub use self::{
    certificate::Certificate,
    credentials::{ClientCredentials, ServerCredentials},
    error::Error,
    identity::{IdentityError, Peers, SpiffeId, TrustDomain},
    provider::provider,
    verify::{PeerIdentity, Reason},
};

#[cfg(test)]
mod tests;
