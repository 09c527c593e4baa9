//! From PEM to certificates, keys, roots and revocation lists, all of them checked.

use std::{borrow::Cow, sync::Arc, time::SystemTime};

use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};
use webpki::{CertRevocationList, EndEntityCert, OwnedCertRevocationList};
use x509_cert::der::{Decode as _, Encode as _, Reader as _, SliceReader, asn1::BitStringRef};
use x509_cert::spki::AlgorithmIdentifierRef;

use zeroize::Zeroizing;

use crate::tls::{
    Certificate,
    error::{Error, Problem},
    provider::provider,
};

/// PEM, and what errors call it.
pub(super) struct Pem<'s> {
    pub(super) name: Cow<'s, str>,
    /// Overwritten when they are dropped: there may be a private key among them.
    pub(super) bytes: Arc<Zeroizing<Vec<u8>>>,
}

impl Pem<'_> {
    fn refuse<T>(&self, problem: Problem) -> Result<T, Error> {
        Err(Error::new(&self.name, problem))
    }

    /// The items of one kind, in order. Items of other kinds are passed over, but must be whole.
    fn items<T: PemObject>(&self) -> Result<Vec<T>, Error> {
        T::pem_slice_iter(&self.bytes)
            .collect::<Result<_, _>>()
            .or_else(|error: pem::Error| self.refuse(Problem::Pem(error.to_string())))
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        let certificates = self.items()?;
        if certificates.is_empty() {
            return self.refuse(Problem::NoCertificate);
        }
        Ok(certificates)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, Error> {
        let mut keys = self.items()?;
        match (keys.pop(), keys.is_empty()) {
            (Some(key), true) => Ok(key),
            (Some(_), false) => self.refuse(Problem::SeveralKeys),
            (None, _) => {
                let encrypted = self.bytes.windows(9).any(|bytes| bytes == b"ENCRYPTED");
                self.refuse(Problem::NoKey { encrypted })
            }
        }
    }

    /// The facts of `certificates`, which are of this source.
    fn facts(&self, certificates: &[CertificateDer<'_>]) -> Result<Vec<Certificate>, Error> {
        let read = |(index, certificate)| {
            Certificate::read(certificate)
                .or_else(|why| self.refuse(Problem::Unreadable { certificate: index + 1, why }))
        };
        certificates.iter().enumerate().map(read).collect()
    }
}

/// Our own certificate.
pub(super) struct Own {
    pub(super) key: Arc<CertifiedKey>,
    /// The facts of the chain, our own certificate first.
    pub(super) chain: Vec<Certificate>,
}

impl Own {
    /// Reads our certificate and its key, and checks that a peer can make sense of them at `now`:
    /// they belong together, the chain is in order, and no part of it is out of date. Whether the
    /// peer will trust it is not known here.
    pub(super) fn read(
        certificate: &Pem<'_>,
        key: &Pem<'_>,
        now: SystemTime,
    ) -> Result<Own, Error> {
        let certificates = certificate.certificates()?;
        let chain = certificate.facts(&certificates)?;
        for (index, facts) in chain.iter().enumerate() {
            let position = index + 1;
            if now < facts.not_before() {
                let not_before = facts.not_before();
                return certificate
                    .refuse(Problem::NotYetValid { certificate: position, not_before });
            }
            if now > facts.not_after() {
                let not_after = facts.not_after();
                return certificate.refuse(Problem::Expired { certificate: position, not_after });
            }
        }
        if let Some(index) = certificates.windows(2).position(|pair| !is_issued(&pair[0], &pair[1]))
        {
            return certificate.refuse(Problem::OutOfOrder { certificate: index + 1 });
        }
        let signing = provider()
            .key_provider
            .load_private_key(key.key()?)
            .or_else(|why| key.refuse(Problem::UnusableKey(why)))?;
        let certified = CertifiedKey::new(certificates, signing);
        match certified.keys_match() {
            // Without a public key of the one there is nothing to compare.
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                return certificate.refuse(Problem::KeyMismatch);
            }
            Err(why) => return certificate.refuse(Problem::Configuration(why)),
        }
        Ok(Own { key: Arc::new(certified), chain })
    }
}

/// Whether `issuer` has issued `certificate`: it has the name that the certificate gives, and the
/// key that has signed it.
fn is_issued(certificate: &CertificateDer<'_>, issuer: &CertificateDer<'_>) -> bool {
    let parsed = |der: &CertificateDer<'_>| x509_cert::Certificate::from_der(der).ok();
    let Some((parsed, by)) = parsed(certificate).zip(parsed(issuer)) else {
        return false;
    };
    if parsed.tbs_certificate().issuer() != by.tbs_certificate().subject() {
        return false;
    }
    let Ok((signed, algorithm, signature)) = signature(certificate) else {
        return false;
    };
    let Ok(issuer) = EndEntityCert::try_from(issuer) else {
        return false;
    };
    provider()
        .signature_verification_algorithms
        .all
        .iter()
        .filter(|candidate| candidate.signature_alg_id().as_ref() == algorithm)
        .any(|candidate| issuer.verify_signature(*candidate, signed, signature).is_ok())
}

/// What is signed in a certificate, the algorithm (without its tag and length) and the signature, as
/// they lie in the DER (RFC 5280, section 4.1).
fn signature<'c>(
    certificate: &'c CertificateDer<'_>,
) -> x509_cert::der::Result<(&'c [u8], Vec<u8>, &'c [u8])> {
    SliceReader::new(certificate)?.sequence(|reader| {
        let signed = reader.tlv_bytes()?;
        let algorithm = AlgorithmIdentifierRef::decode(reader)?;
        let mut encoded = algorithm.oid.to_der()?;
        if let Some(parameters) = algorithm.parameters {
            encoded.extend(parameters.to_der()?);
        }
        let signature = BitStringRef::decode(reader)?;
        Ok((signed, encoded, signature.raw_bytes()))
    })
}

/// Reads roots for anybody.
pub(super) fn roots(pem: &Pem<'_>) -> Result<(RootCertStore, Vec<Certificate>), Error> {
    let certificates = pem.certificates()?;
    let facts = pem.facts(&certificates)?;
    let mut store = RootCertStore::empty();
    for (index, certificate) in certificates.into_iter().enumerate() {
        store
            .add(certificate)
            .or_else(|why| pem.refuse(Problem::UnusableRoot { certificate: index + 1, why }))?;
    }
    Ok((store, facts))
}

/// Reads revocation lists.
pub(super) fn revocation_lists(pem: &Pem<'_>) -> Result<Vec<CertRevocationList<'static>>, Error> {
    let lists: Vec<CertificateRevocationListDer<'_>> = pem.items()?;
    if lists.is_empty() {
        return pem.refuse(Problem::NoRevocationList);
    }
    let read = |(index, list): (usize, &CertificateRevocationListDer<'_>)| {
        OwnedCertRevocationList::from_der(list).map(CertRevocationList::from).or_else(|why| {
            let why = why.to_string();
            pem.refuse(Problem::UnusableRevocationList { list: index + 1, why })
        })
    };
    lists.iter().enumerate().map(read).collect()
}
