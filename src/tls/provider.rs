//! The cryptography: aws-lc-rs, or ring where only the feature `tls-ring` is on.
//!
//! Everything of the crate uses the same provider. rustls' process-wide default is neither read nor set.

use std::sync::{Arc, OnceLock};

#[cfg(feature = "tls")]
use rustls::crypto::aws_lc_rs as chosen;
#[cfg(not(feature = "tls"))]
use rustls::crypto::ring as chosen;
use rustls::{
    Error, SupportedCipherSuite,
    crypto::{CryptoProvider, hash::Hash},
    server::ProducesTickets,
};

/// What rustls does its cryptography with.
///
/// With aws-lc-rs, the key exchange that both ends prefer is X25519MLKEM768, which an attacker with a
/// quantum computer cannot undo later. ring has it not.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(chosen::default_provider())))
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

    #[cfg(feature = "tls")]
    #[test]
    fn the_hybrid_key_exchange_comes_first() {
        let first = provider().kx_groups[0].name();
        assert_eq!(first, rustls::NamedGroup::X25519MLKEM768);
    }
}
