//! What all sources of a set hold at one moment.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use super::{
    Fingerprint,
    pem::{Own, Pem, revocation_lists, roots},
    settings::{RootSources, Trust},
    snapshot::Settings,
};
use crate::tls::{
    Certificate, TrustDomain,
    error::{Error, Problem},
    provider::{provider, sha256},
    verify::{Chain, PeerVerifier, Roots, Side},
};

/// The contents of the sources of a set, read one after the other.
pub(super) struct Contents<'s> {
    /// Our certificate and its key.
    own: Option<[Pem<'s>; 2]>,
    trust: Option<TrustContents<'s>>,
}

struct TrustContents<'s> {
    settings: &'s Trust,
    /// With their trust domain, where there is one for each.
    roots: Vec<(Option<&'s TrustDomain>, Pem<'s>)>,
    revocation_lists: Vec<Pem<'s>>,
}

/// What judges peers, and the roots that it does so by.
pub(super) struct Judge {
    pub(super) peers: Arc<PeerVerifier>,
    pub(super) roots: Vec<Certificate>,
}

impl<'s> Contents<'s> {
    pub(super) fn read(settings: &'s impl Settings) -> Result<Contents<'s>, Error> {
        let own = settings.own().map(|own| Ok([own.certificate.read()?, own.key.read()?]));
        let trust = settings.trust().map(TrustContents::read);
        Ok(Contents { own: own.transpose()?, trust: trust.transpose()? })
    }

    /// One for what we show, and one for whom we trust.
    pub(super) fn fingerprints(&self) -> [Fingerprint; 2] {
        let trust = self.trust.iter().flat_map(|trust| {
            trust.roots.iter().map(|(_, pem)| pem).chain(&trust.revocation_lists)
        });
        [fingerprint(self.own.iter().flatten()), fingerprint(trust)]
    }

    pub(super) fn own(&self, now: SystemTime) -> Result<Option<Own>, Error> {
        let read = |[certificate, key]: &[Pem<'_>; 2]| Own::read(certificate, key, now);
        self.own.as_ref().map(read).transpose()
    }

    /// What judges peers, which are at `side`.
    pub(super) fn judge(&self, side: Side) -> Result<Option<Judge>, Error> {
        let Some(trust) = &self.trust else {
            return Ok(None);
        };
        let (roots, facts) = trust.roots()?;
        let mut lists = Vec::new();
        for pem in &trust.revocation_lists {
            lists.extend(revocation_lists(pem)?);
        }
        let algorithms = provider().signature_verification_algorithms;
        let chain = Chain::new(side, roots, lists, algorithms);
        let peers = Arc::new(PeerVerifier::new(chain, trust.settings.peers.clone()));
        Ok(Some(Judge { peers, roots: facts }))
    }
}

impl<'s> TrustContents<'s> {
    fn read(settings: &'s Trust) -> Result<TrustContents<'s>, Error> {
        let roots = match &settings.roots {
            RootSources::Any(source) => vec![(None, source.read()?)],
            RootSources::ByTrustDomain(sources) => sources
                .iter()
                .map(|(trust_domain, source)| Ok((Some(trust_domain), source.read()?)))
                .collect::<Result<_, Error>>()?,
        };
        let lists = settings.revocation_lists.iter().map(|source| source.read());
        Ok(TrustContents { settings, roots, revocation_lists: lists.collect::<Result<_, _>>()? })
    }

    fn roots(&self) -> Result<(Roots, Vec<Certificate>), Error> {
        let mut stores = BTreeMap::new();
        let mut facts = Vec::new();
        for (trust_domain, pem) in &self.roots {
            let (store, more) = roots(pem)?;
            facts.extend(more);
            match trust_domain {
                None => return Ok((Roots::Any(store), facts)),
                Some(trust_domain) => stores.insert(TrustDomain::clone(trust_domain), store),
            };
        }
        if stores.is_empty() {
            return Err(Error::new(&self.settings.roots.first_name(), Problem::NoRoots));
        }
        Ok((Roots::ByTrustDomain(stores), facts))
    }
}

/// Of all of them, in order, and of where each ends.
fn fingerprint<'p>(pems: impl Iterator<Item = &'p Pem<'p>>) -> Fingerprint {
    let digests: Vec<u8> = pems.flat_map(|pem| sha256(&pem.bytes)).collect();
    sha256(&digests)
}
