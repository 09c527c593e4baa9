//! A certificate authority in memory.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SanType, SerialNumber, date_time_ymd,
};

use crate::tls::credentials::{ClientSettings, OwnCertificate, ServerSettings, Source, Trust};

pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new(name: &str) -> Authority {
        Authority(CertifiedIssuer::self_signed(authority(name), key()).unwrap())
    }

    /// One that is vouched for by this one.
    pub(super) fn below(&self, name: &str) -> Authority {
        Authority(CertifiedIssuer::signed_by(authority(name), key(), &self.0).unwrap())
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(super) fn trust(&self) -> Trust {
        Trust::any(Source::memory("roots", self.pem()))
    }

    /// A certificate for these names, with changes.
    pub(super) fn issue(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        let mut params = leaf(names);
        change(&mut params);
        let key = key();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// A list on which `serials` are revoked.
    pub(super) fn revocation_list(&self, serials: &[u64]) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            // It is overdue, and counts nevertheless.
            next_update: date_time_ymd(2024, 2, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Names with a scheme are URIs.
pub(super) fn leaf(names: &[&str]) -> CertificateParams {
    let (uris, others): (Vec<&str>, Vec<&str>) =
        names.iter().partition(|name| name.contains("://"));
    let others: Vec<String> = others.into_iter().map(str::to_owned).collect();
    let mut params = CertificateParams::new(others).unwrap();
    let uris = uris.into_iter().map(|uri| SanType::URI(uri.try_into().unwrap()));
    params.subject_alt_names.extend(uris);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub(super) struct Issued {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Issued {
    pub(super) fn self_signed(params: &CertificateParams) -> Issued {
        let key = key();
        let certificate = params.self_signed(&key).unwrap();
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// With more certificates behind it.
    pub(super) fn behind(mut self, authorities: &[&Authority]) -> Issued {
        self.certificate.extend(authorities.iter().map(|authority| authority.pem()));
        self
    }

    pub(super) fn own(&self) -> OwnCertificate {
        OwnCertificate {
            certificate: Source::memory("own.pem", self.certificate.as_str()),
            key: Source::memory("own.key", self.key.as_str()),
        }
    }

    /// A server that shows it, and trusts `clients`.
    pub(super) fn server(&self, clients: Option<Trust>) -> ServerSettings {
        ServerSettings { clients, ..ServerSettings::new(self.own()) }
    }

    /// A client that shows it, and trusts `servers`. The name is not sent where peers are asked for.
    pub(super) fn client(&self, servers: Trust, name: Option<&str>) -> ClientSettings {
        ClientSettings { own: Some(self.own()), ..client(servers, name) }
    }
}

/// A client that shows nothing.
pub(super) fn client(servers: Trust, name: Option<&str>) -> ClientSettings {
    let server_name = name.map(|name| name.to_owned().try_into().unwrap());
    ClientSettings { server_name, ..ClientSettings::new(servers) }
}
