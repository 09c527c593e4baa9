//! Whether a peer is who it says, and whether it may talk to us.
//!
//! The certificates that a peer has shown flow in; its identity, or the [`Reason`] of its refusal,
//! flows out. It owns the roots, the revocation lists and the patterns of one listener or one
//! cluster. It does no input or output, and is the same for all shards.
//!
//! Signatures, dates, constraints and revocation are webpki's (RFC 5280). What is added is the
//! choice of the roots by trust domain, the rules of SPIFFE ids, and KeyUsage, which webpki leaves
//! out.
//!
//! rustls asks a verifier in full handshakes only. What it said must hold in resumed ones as well:
//! [`PeerVerifier::judge`] is asked after either.

mod chain;
mod reason;
mod sides;

use std::time::SystemTime;

use rustls::{
    Error,
    pki_types::{CertificateDer, UnixTime},
};

pub(super) use self::{
    chain::{Chain, Roots, Side},
    sides::{ClientVerifier, ServerVerifier},
};
use super::{
    Peers, Reason, SpiffeId,
    certificate::{Certificate, Identity},
};

/// Who is at the other end, as its certificate has proved.
#[derive(Clone, Debug)]
pub struct PeerIdentity {
    id: Option<SpiffeId>,
    certificate: Certificate,
}

impl PeerIdentity {
    /// Its SPIFFE id. `None` if it has none, which is all right where no identities are asked for.
    pub fn spiffe_id(&self) -> Option<&SpiffeId> {
        self.id.as_ref()
    }

    /// Its certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }
}

/// Judges peers.
#[derive(Debug)]
pub(super) struct PeerVerifier {
    chain: Chain,
    /// `None`: any.
    peers: Option<Peers>,
}

impl PeerVerifier {
    pub(super) fn new(chain: Chain, peers: Option<Peers>) -> PeerVerifier {
        PeerVerifier { chain, peers }
    }

    /// Judges what a peer shows in a full handshake. The peer must prove besides that it has the
    /// key.
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let certificate =
            Certificate::read(end_entity).map_err(|_| Reason::BadCertificate.into_error())?;
        let id = self.identity(&certificate).map_err(Reason::into_error)?;
        self.chain.verify(end_entity, intermediates, now, &certificate, id.as_ref())?;
        self.admit(&certificate, id.as_ref()).map_err(|reason| {
            tracing::debug!(
                subject = certificate.subject(),
                id = id.as_ref().map(SpiffeId::as_str),
                reason = reason.as_str(),
                "a peer with a valid certificate is refused"
            );
            reason.into_error()
        })
    }

    /// Judges certificates that were verified: a moment ago, or in the handshake of which this one
    /// is a resumption. Their chain is not verified again, for a session does not outlive the roots
    /// and the revocation lists by which it was judged.
    pub(super) fn judge(
        &self,
        certificates: &[CertificateDer<'_>],
        now: SystemTime,
    ) -> Result<PeerIdentity, Reason> {
        let end_entity = certificates.first().ok_or(Reason::NoCertificate)?;
        let certificate = Certificate::read(end_entity).map_err(|_| Reason::BadCertificate)?;
        if now > certificate.not_after() {
            return Err(Reason::Expired);
        }
        let id = self.identity(&certificate)?;
        self.admit(&certificate, id.as_ref())?;
        Ok(PeerIdentity { id, certificate })
    }

    /// Whether a certificate without a SPIFFE id is refused.
    fn asks_for_identity(&self) -> bool {
        self.peers.is_some() || self.chain.roots().are_by_trust_domain()
    }

    fn identity(&self, certificate: &Certificate) -> Result<Option<SpiffeId>, Reason> {
        match certificate.identity() {
            Identity::One(id) => Ok(Some(id)),
            Identity::None if self.asks_for_identity() => Err(Reason::NoIdentity),
            Identity::None => Ok(None),
            Identity::Several => Err(Reason::ManyIdentities),
        }
    }

    fn admit(&self, certificate: &Certificate, id: Option<&SpiffeId>) -> Result<(), Reason> {
        let usage = certificate.usage();
        // "X.509 SVID" of the SPIFFE standards, section 5.2: a certificate that may issue others is
        // no identity of a workload.
        if !usage.handshakes || (usage.issuing && self.asks_for_identity()) {
            return Err(Reason::KeyUsage);
        }
        match (&self.peers, id) {
            (None, _) => Ok(()),
            (Some(peers), Some(id)) if peers.allow(id) => Ok(()),
            (Some(_), Some(_)) => Err(Reason::PeerNotAllowed),
            (Some(_), None) => Err(Reason::NoIdentity),
        }
    }
}
