//! TLS, on rustls.

pub mod identity;
mod provider;

pub use self::{
    identity::{IdentityError, Peers, SpiffeId, TrustDomain},
    provider::provider,
};
