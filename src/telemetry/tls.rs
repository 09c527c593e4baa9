//! What is counted of TLS: handshakes, of listeners with clients and of clusters with servers.
//!
//! Flows in: updates of the shards, one for each handshake. Flows out: through the
//! [`Registry`](super::Registry). No identity is counted, so that no peer can add a series.

use std::time::Duration;

use super::cell::Histogram;
use super::label::{CounterBy, LabelValue, label_values};

/// The bounds of `downstream_tls_handshake_duration_seconds`, in nanoseconds: 0.25 ms to 10 s.
pub static HANDSHAKE_DURATION_BOUNDS_NANOS: [u64; 14] = [
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    5_000_000_000,
    10_000_000_000,
];

label_values! {
    /// How a TLS handshake ended.
    HandshakeResult {
        /// With a connection, from certificates.
        Full => "full",
        /// With a connection that goes on with an earlier session.
        Resumed => "resumed",
        /// Without a connection.
        Failed => "failed",
    }
}

label_values! {
    /// Why a TLS handshake failed.
    HandshakeFailure {
        /// No chain leads from the peer's certificate to the roots.
        UnknownCa => "unknown_ca",
        /// A certificate of the peer's chain is valid no more.
        Expired => "expired",
        /// A certificate of the peer's chain is not valid yet.
        NotYetValid => "not_yet_valid",
        /// A certificate of the peer's chain is on a revocation list.
        Revoked => "revoked",
        /// The revocation lists do not allow a judgement.
        RevocationUnknown => "revocation_unknown",
        /// The server's certificate is not for the name that was asked for.
        BadName => "bad_name",
        /// The peer's certificate has no SPIFFE id, or one that breaks the rules.
        NoIdentity => "no_identity",
        /// The peer's certificate has a SPIFFE id and other URIs besides.
        ManyIdentities => "many_identities",
        /// The peer is who it says, and is not among those that are allowed.
        PeerNotAllowed => "peer_not_allowed",
        /// The peer's key may not be used for this.
        KeyUsage => "key_usage",
        /// The peer has shown no certificate.
        NoCertificate => "no_certificate",
        /// A signature is wrong, or made in a way that is not accepted.
        BadSignature => "bad_signature",
        /// A certificate cannot be read, or breaks a rule that has no name here.
        BadCertificate => "bad_certificate",
        /// The two ends have no version of TLS in common.
        NoCommonVersion => "no_common_version",
        /// The two ends have no cipher suite or key exchange in common.
        NoCommonCipher => "no_common_cipher",
        /// The two ends have no application protocol in common.
        NoCommonProtocol => "no_common_protocol",
        /// What the peer sent is not TLS, or breaks its rules.
        Protocol => "protocol",
        /// The peer did not take our certificate, or wants one that we have not. In TLS 1.3 it says so
        /// when we may have sent something already.
        RefusedByPeer => "refused_by_peer",
        /// The peer gave up, for a reason that is not our certificate.
        Alert => "alert",
        /// The handshake took too long.
        Timeout => "timeout",
        /// The peer closed or reset the connection before the end.
        Closed => "closed",
        /// Something else.
        Other => "other",
    }
}

/// What one shard counts about the handshakes of one listener or cluster. Written by the shard only.
#[derive(Debug)]
#[repr(align(128))]
pub struct TlsCells {
    /// Handshakes that have ended.
    pub results: CounterBy<HandshakeResult, { HandshakeResult::COUNT }>,
    /// Those that failed, by why.
    pub failures: CounterBy<HandshakeFailure, { HandshakeFailure::COUNT }>,
    /// How long those that did not fail took.
    pub duration: Histogram<{ HANDSHAKE_DURATION_BOUNDS_NANOS.len() }>,
}

impl Default for TlsCells {
    fn default() -> TlsCells {
        TlsCells {
            results: CounterBy::default(),
            failures: CounterBy::default(),
            duration: Histogram::new(&HANDSHAKE_DURATION_BOUNDS_NANOS),
        }
    }
}

impl TlsCells {
    /// Counts a handshake that has ended.
    pub fn ended(&self, result: Result<HandshakeResult, HandshakeFailure>, took: Duration) {
        match result {
            Ok(result) => {
                self.results.increment(result);
                self.duration.observe(took);
            }
            Err(failure) => {
                self.results.increment(HandshakeResult::Failed);
                self.failures.increment(failure);
            }
        }
    }
}
