//! Why a handshake failed, from what rustls and webpki say.

use std::sync::Arc;

use rustls::{
    AlertDescription, CertRevocationListError, CertificateError, Error, OtherError,
    PeerIncompatible,
};

use crate::tls::Reason;

impl Reason {
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
        // Every client of TLS 1.2 and newer sends it.
        | PeerIncompatible::SignatureAlgorithmsExtensionRequired
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
