//! The cryptography: aws-lc-rs, or ring where only the feature `tls-ring` is on.
//!
//! Everything of the crate uses the same provider. rustls' process-wide default is neither read nor set.

use std::sync::{Arc, OnceLock};

#[cfg(feature = "tls")]
use rustls::crypto::aws_lc_rs as chosen;
#[cfg(not(feature = "tls"))]
use rustls::crypto::ring as chosen;
use rustls::{
    CipherSuite, Error, SupportedCipherSuite,
    crypto::{CryptoProvider, hash::Hash},
    server::ProducesTickets,
};

/// What rustls does its cryptography with.
///
/// With aws-lc-rs, the key exchange that both ends prefer is X25519MLKEM768, which an attacker with a
/// quantum computer cannot undo later. ring has it not.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| {
        let mut provider = chosen::default_provider();
        provider.cipher_suites.sort_by_key(|suite| cost(suite.suite()));
        Arc::new(provider)
    }))
}

/// AES-128 is as far out of reach as AES-256, and cheaper: for bulk, and more so in a handshake, where
/// its hash is SHA-256, which CPUs have instructions for, and not SHA-384. ChaCha20 is for CPUs without
/// those for AES.
fn cost(suite: CipherSuite) -> u8 {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 0,
        CipherSuite::TLS13_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => 1,
        _ => 2,
    }
}

/// Makes session tickets, under keys of its own that it changes by itself.
pub(super) fn ticketer() -> Result<Arc<dyn ProducesTickets>, Error> {
    chosen::Ticketer::new()
}

/// SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    let output = sha256_of_suite().hash(bytes);
    // The suite below has a hash of 32 bytes.
    digest.copy_from_slice(output.as_ref());
    digest
}

fn sha256_of_suite() -> &'static dyn Hash {
    match chosen::cipher_suite::TLS13_AES_128_GCM_SHA256 {
        SupportedCipherSuite::Tls13(suite) => suite.common.hash_provider,
        SupportedCipherSuite::Tls12(suite) => suite.common.hash_provider,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_the_standard() {
        let digest = sha256(b"abc");
        assert_eq!(digest[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert_eq!(digest[28..], [0xf2, 0x00, 0x15, 0xad]);
    }

    #[test]
    fn the_cheapest_cipher_suites_come_first() {
        let suites = &provider().cipher_suites;
        assert_eq!(suites[0].suite(), CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(suites.len(), chosen::ALL_CIPHER_SUITES.len(), "none is lost");
    }

    #[cfg(feature = "tls")]
    #[test]
    fn the_hybrid_key_exchange_comes_first() {
        let first = provider().kx_groups[0].name();
        assert_eq!(first, rustls::NamedGroup::X25519MLKEM768);
    }
}
