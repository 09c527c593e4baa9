//! From a peer's certificate to a root.

use std::{collections::BTreeMap, fmt, sync::Arc};

use rustls::{
    CertRevocationListError, CertificateError, Error, OtherError, RootCertStore,
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateDer, UnixTime},
};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth,
    RevocationOptions, RevocationOptionsBuilder, UnknownStatusPolicy,
};

use crate::tls::{SpiffeId, TrustDomain, certificate::Certificate};

/// Which end a certificate is for. It is in the interface of sealed traits only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Server,
    Client,
}

/// Whom we trust to say who somebody is.
#[derive(Debug)]
pub(in crate::tls) enum Roots {
    /// For anybody.
    Any(RootCertStore),
    /// Each for the identities of its own trust domain, and for nobody without one.
    ByTrustDomain(BTreeMap<TrustDomain, RootCertStore>),
}

impl Roots {
    pub(super) fn are_by_trust_domain(&self) -> bool {
        matches!(self, Roots::ByTrustDomain(_))
    }

    fn of(&self, id: Option<&SpiffeId>) -> Option<&RootCertStore> {
        match self {
            Roots::Any(store) => Some(store),
            Roots::ByTrustDomain(stores) => stores.get(id?.trust_domain()),
        }
    }

    pub(super) fn stores(&self) -> impl Iterator<Item = &RootCertStore> {
        let (any, by_trust_domain) = match self {
            Roots::Any(store) => (Some(store), None),
            Roots::ByTrustDomain(stores) => (None, Some(stores.values())),
        };
        any.into_iter().chain(by_trust_domain.into_iter().flatten())
    }
}

/// What verifies the chains of one kind of peers.
pub(in crate::tls) struct Chain {
    roots: Roots,
    revocation_lists: Vec<CertRevocationList<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
    side: Side,
}

impl Chain {
    /// `side` is the peer's.
    pub(in crate::tls) fn new(
        side: Side,
        roots: Roots,
        revocation_lists: Vec<CertRevocationList<'static>>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Chain {
        Chain { roots, revocation_lists, algorithms, side }
    }

    pub(super) fn roots(&self) -> &Roots {
        &self.roots
    }

    pub(super) fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.algorithms
    }

    /// Finds a chain. `certificate` and `id` are what `end_entity` says.
    pub(super) fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        certificate: &Certificate,
        id: Option<&SpiffeId>,
    ) -> Result<(), Error> {
        let roots = self.roots.of(id).ok_or(CertificateError::UnknownIssuer)?;
        let usage = match self.side {
            Side::Server => KeyUsage::server_auth(),
            Side::Client => KeyUsage::client_auth(),
        };
        let lists: Vec<_> = self.revocation_lists.iter().collect();
        EndEntityCert::try_from(end_entity)
            .and_then(|end_entity| {
                end_entity
                    .verify_for_usage(
                        self.algorithms.all,
                        &roots.roots,
                        intermediates,
                        now,
                        usage,
                        revocation(&lists),
                        None,
                    )
                    .map(|_| ())
            })
            .map_err(|error| match error {
                // What `openssl req -x509` makes, and nobody has vouched for.
                webpki::Error::CaUsedAsEndEntity
                    if certificate.issuer() == certificate.subject() =>
                {
                    CertificateError::UnknownIssuer.into()
                }
                error => refusal(error),
            })
    }
}

/// Not all of webpki's types can be shown.
impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain")
            .field("roots", &self.roots)
            .field("revocation_lists", &self.revocation_lists.len())
            .field("side", &self.side)
            .finish_non_exhaustive()
    }
}

/// A list counts for those whom it names, for as long as it is configured: what it says does not
/// become wrong by age, and to refuse everybody when the next one is late would be an outage. The
/// same for an issuer of which there is no list.
fn revocation<'l>(lists: &'l [&'l CertRevocationList<'l>]) -> Option<RevocationOptions<'l>> {
    // Without lists, there is nothing to check.
    let options = RevocationOptionsBuilder::new(lists).ok()?;
    Some(
        options
            .with_depth(RevocationCheckDepth::Chain)
            .with_status_policy(UnknownStatusPolicy::Allow)
            .with_expiration_policy(ExpirationPolicy::Ignore)
            .build(),
    )
}

/// What rustls says of it: the alert depends on that.
#[expect(deprecated, reason = "the errors without context have no context to give")]
fn refusal(error: webpki::Error) -> Error {
    use webpki::Error as E;
    let error = match error {
        E::BadDer | E::BadDerTime | E::TrailingData(_) => CertificateError::BadEncoding,
        E::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        E::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        E::InvalidCertValidity => CertificateError::Expired,
        // A root of the same name and with another key: authorities are named alike in many places,
        // and made anew under the name that they had.
        E::UnknownIssuer
        | E::InvalidSignatureForPublicKey
        | E::UnsupportedSignatureAlgorithmForPublicKey
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => CertificateError::UnknownIssuer,
        E::CertRevoked => CertificateError::Revoked,
        E::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        E::SignatureAlgorithmMismatch => CertificateError::BadSignature,
        E::UnsupportedSignatureAlgorithm => CertificateError::UnsupportedSignatureAlgorithm,
        E::UnsupportedSignatureAlgorithmContext(context) => {
            CertificateError::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id: context.signature_algorithm_id,
                supported_algorithms: context.supported_algorithms,
            }
        }
        E::CaUsedAsEndEntity
        | E::EmptyEkuExtension
        | E::RequiredEkuNotFound
        | E::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        E::UnsupportedCriticalExtension => CertificateError::UnhandledCriticalExtension,
        E::IssuerNotCrlSigner => return CertRevocationListError::IssuerInvalidForCrl.into(),
        E::InvalidCrlSignatureForPublicKey => return CertRevocationListError::BadSignature.into(),
        other => CertificateError::Other(OtherError(Arc::new(other))),
    };
    error.into()
}
