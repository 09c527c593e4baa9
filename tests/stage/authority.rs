//! A certificate authority in memory, which issues whatever a test asks for.

#![allow(dead_code, reason = "each test uses its own part of this module")]

use std::sync::Arc;

use evenkeel::tls::credentials::{OwnCertificate, Source, Trust};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::{CertifiedKey, SingleCertAndKey},
};

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pub(crate) pem: String,
}

/// A certificate and its key.
pub(crate) struct Issued {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) pem: String,
    pub(crate) key_pem: String,
    key: Vec<u8>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let made = params.self_signed(&key).unwrap();
        let (der, pem) = (made.der().clone(), made.pem());
        Authority { issuer: Issuer::new(params, key), der, pem }
    }

    /// What a certificate of a workload is made from: for `localhost` and 127.0.0.1, and with this
    /// SPIFFE id.
    pub(crate) fn workload(id: &str) -> CertificateParams {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        params.subject_alt_names.push(SanType::URI(id.try_into().unwrap()));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, id.rsplit('/').next().unwrap());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params
    }

    pub(crate) fn issue(&self, params: CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        Issued::new(&params.signed_by(&key, &self.issuer).unwrap(), &key)
    }

    /// A certificate of a workload with this SPIFFE id.
    pub(crate) fn identity(&self, id: &str) -> Issued {
        self.issue(Authority::workload(id))
    }

    pub(crate) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// For those who trust it.
    pub(crate) fn trust(&self) -> Trust {
        Trust::any(Source::memory("the root", self.pem.clone()))
    }

    /// For those who trust it and use rustls.
    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        roots
    }
}

impl Issued {
    fn new(certificate: &rcgen::Certificate, key: &KeyPair) -> Issued {
        Issued {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            key: key.serialize_der(),
        }
    }

    /// A certificate that nobody else has signed.
    pub(crate) fn by_itself(params: CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        Issued::new(&params.self_signed(&key).unwrap(), &key)
    }

    /// The same with a signature that is not its issuer's.
    pub(crate) fn damaged(mut self) -> Issued {
        let mut der = self.certificate.to_vec();
        *der.last_mut().unwrap() ^= 1;
        self.certificate = der.into();
        self
    }

    /// The same in the hands of somebody who has another key.
    pub(crate) fn stolen(self) -> Issued {
        Issued { key: KeyPair::generate().unwrap().serialize_der(), ..self }
    }

    /// For rustls, which does not look at whether the two belong together.
    pub(crate) fn unchecked(&self, provider: &CryptoProvider) -> Arc<SingleCertAndKey> {
        let (chain, key) = self.chain_and_key();
        let key = provider.key_provider.load_private_key(key).unwrap();
        Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)))
    }

    pub(crate) fn own(&self) -> OwnCertificate {
        OwnCertificate {
            certificate: Source::memory("the certificate", self.pem.clone()),
            key: Source::memory("the key", self.key_pem.clone()),
        }
    }

    /// For rustls.
    pub(crate) fn chain_and_key(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (vec![self.certificate.clone()], PrivateKeyDer::Pkcs8(self.key.clone().into()))
    }
}
