//! Why a handshake failed, as a label of a metric: few values, none of them from a peer.

use std::{fmt, sync::Arc};

use rustls::{
    AlertDescription, CertRevocationListError, CertificateError, Error, OtherError,
    PeerIncompatible,
};

/// Why there is no connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// No chain leads from the peer's certificate to the roots.
    UnknownCa,
    /// A certificate of the peer's chain is valid no more.
    Expired,
    /// A certificate of the peer's chain is not valid yet.
    NotYetValid,
    /// A certificate of the peer's chain is on a revocation list.
    Revoked,
    /// The revocation lists do not allow a judgement.
    RevocationUnknown,
    /// The server's certificate is not for the name that was asked for.
    BadName,
    /// The peer's certificate has no SPIFFE id, or one that breaks the rules.
    NoIdentity,
    /// The peer's certificate has a SPIFFE id and other URIs besides.
    ManyIdentities,
    /// The peer is who it says, and is not among those that are allowed.
    PeerNotAllowed,
    /// The peer's key may not be used for this.
    KeyUsage,
    /// The peer has shown no certificate.
    NoCertificate,
    /// A signature is wrong, or made in a way that is not accepted.
    BadSignature,
    /// A certificate cannot be read, or breaks a rule that has no name here.
    BadCertificate,
    /// The two ends have no version of TLS in common.
    NoCommonVersion,
    /// The two ends have no cipher suite or key exchange in common.
    NoCommonCipher,
    /// The two ends have no application protocol in common.
    NoCommonProtocol,
    /// What the peer sent is not TLS, or breaks its rules.
    Protocol,
    /// The peer did not take our certificate.
    RefusedByPeer,
    /// The peer gave up, for a reason that is not our certificate.
    Alert,
    /// Something else.
    Other,
}

impl Reason {
    /// The label, in snake case.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::UnknownCa => "unknown_ca",
            Reason::Expired => "expired",
            Reason::NotYetValid => "not_yet_valid",
            Reason::Revoked => "revoked",
            Reason::RevocationUnknown => "revocation_unknown",
            Reason::BadName => "bad_name",
            Reason::NoIdentity => "no_identity",
            Reason::ManyIdentities => "many_identities",
            Reason::PeerNotAllowed => "peer_not_allowed",
            Reason::KeyUsage => "key_usage",
            Reason::NoCertificate => "no_certificate",
            Reason::BadSignature => "bad_signature",
            Reason::BadCertificate => "bad_certificate",
            Reason::NoCommonVersion => "no_common_version",
            Reason::NoCommonCipher => "no_common_cipher",
            Reason::NoCommonProtocol => "no_common_protocol",
            Reason::Protocol => "protocol",
            Reason::RefusedByPeer => "refused_by_peer",
            Reason::Alert => "alert",
            Reason::Other => "other",
        }
    }

    /// The error that a verifier returns, so that rustls sends the right alert (RFC 8446, section
    /// 6.2) and the reason is found again in what comes out of rustls.
    pub(in crate::tls) fn into_error(self) -> Error {
        Error::InvalidCertificate(match self {
            Reason::Expired => CertificateError::Expired,
            Reason::NotYetValid => CertificateError::NotValidYet,
            Reason::UnknownCa => CertificateError::UnknownIssuer,
            Reason::KeyUsage => CertificateError::InvalidPurpose,
            Reason::PeerNotAllowed => CertificateError::ApplicationVerificationFailure,
            Reason::BadCertificate => CertificateError::BadEncoding,
            Reason::NoCertificate => return Error::NoCertificatesPresented,
            other => CertificateError::Other(OtherError(Arc::new(other))),
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for Reason {}

impl From<&Error> for Reason {
    fn from(error: &Error) -> Reason {
        match error {
            Error::InvalidCertificate(error) => of_certificate(error),
            Error::InvalidCertRevocationList(error) => of_revocation_list(error),
            Error::NoCertificatesPresented => Reason::NoCertificate,
            Error::NoApplicationProtocol => Reason::NoCommonProtocol,
            Error::PeerIncompatible(what) => of_incompatible(what),
            Error::AlertReceived(alert) => of_alert(*alert),
            Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::InvalidMessage(_)
            | Error::PeerMisbehaved(_)
            | Error::PeerSentOversizedRecord
            | Error::UnsupportedNameType
            | Error::DecryptError => Reason::Protocol,
            _ => Reason::Other,
        }
    }
}

fn of_certificate(error: &CertificateError) -> Reason {
    #[expect(deprecated, reason = "the forms without context are still made by some")]
    match error {
        CertificateError::UnknownIssuer => Reason::UnknownCa,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Reason::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Reason::NotYetValid
        }
        CertificateError::Revoked => Reason::Revoked,
        CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => Reason::RevocationUnknown,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Reason::BadName
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            Reason::KeyUsage
        }
        CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithm
        | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            Reason::BadSignature
        }
        CertificateError::ApplicationVerificationFailure => Reason::PeerNotAllowed,
        CertificateError::Other(OtherError(error)) => {
            error.downcast_ref().copied().unwrap_or(Reason::BadCertificate)
        }
        _ => Reason::BadCertificate,
    }
}

fn of_revocation_list(_: &CertRevocationListError) -> Reason {
    Reason::RevocationUnknown
}

fn of_incompatible(what: &PeerIncompatible) -> Reason {
    match what {
        PeerIncompatible::NoCipherSuitesInCommon | PeerIncompatible::NoKxGroupsInCommon => {
            Reason::NoCommonCipher
        }
        PeerIncompatible::NoSignatureSchemesInCommon
        | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => Reason::BadSignature,
        PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::Tls13RequiredForQuic
        | PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => Reason::NoCommonVersion,
        _ => Reason::Protocol,
    }
}

/// RFC 8446, section 6.2.
fn of_alert(alert: AlertDescription) -> Reason {
    match alert {
        AlertDescription::ProtocolVersion => Reason::NoCommonVersion,
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
            Reason::NoCommonCipher
        }
        AlertDescription::NoApplicationProtocol => Reason::NoCommonProtocol,
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied
        | AlertDescription::CertificateRequired => Reason::RefusedByPeer,
        _ => Reason::Alert,
    }
}
