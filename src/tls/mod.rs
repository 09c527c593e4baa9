//! TLS, on rustls.

mod provider;

pub use self::provider::provider;
