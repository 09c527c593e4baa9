//! What a certificate says: its names, its number, its dates, its digest.
//!
//! DER flows in, facts flow out: for the admin listener, the expiry metric, the
//! `x-forwarded-client-cert` header, and for the verifiers, which alone decide whether
//! they are to be believed.

use std::{
    fmt::{self, Write as _},
    time::SystemTime,
};

use rustls::pki_types::CertificateDer;
use x509_cert::{
    der::Decode as _,
    ext::pkix::{KeyUsage, SubjectAltName, name::GeneralName},
};

use super::{SpiffeId, provider::sha256};
use crate::telemetry::access_log::CertificateFacts;

/// The facts of one certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    subject: Box<str>,
    issuer: Box<str>,
    serial: Box<str>,
    uri_names: Vec<Box<str>>,
    dns_names: Vec<Box<str>>,
    not_before: SystemTime,
    not_after: SystemTime,
    sha256: [u8; 32],
    usage: Usage,
}

/// What the key may be used for, by the extension KeyUsage (RFC 5280, section 4.2.1.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Usage {
    /// To sign handshakes, which is what every key exchange that rustls knows asks for.
    pub(super) handshakes: bool,
    /// To sign certificates or revocation lists. Never granted by a missing extension.
    pub(super) issuing: bool,
}

/// How many SPIFFE ids a certificate has.
pub(super) enum Identity {
    /// None, or one that breaks a rule.
    None,
    One(SpiffeId),
    /// A SPIFFE id, and one or more other URIs beside it.
    Several,
}

impl Certificate {
    /// Reads a certificate. Its signature is not looked at.
    ///
    /// # Errors
    ///
    /// It is not the DER of an X.509 certificate as RFC 5280 has it.
    pub fn read(der: &CertificateDer<'_>) -> Result<Certificate, Unreadable> {
        let certificate = x509_cert::Certificate::from_der(der).map_err(Unreadable)?;
        let certificate = certificate.tbs_certificate();
        let validity = certificate.validity();
        let mut read = Certificate {
            subject: certificate.subject().to_string().into(),
            issuer: certificate.issuer().to_string().into(),
            serial: hex(certificate.serial_number().as_bytes()).into(),
            uri_names: Vec::new(),
            dns_names: Vec::new(),
            not_before: validity.not_before.to_system_time(),
            not_after: validity.not_after.to_system_time(),
            sha256: sha256(der),
            usage: Usage { handshakes: true, issuing: false },
        };
        if let Some((_, names)) = certificate.get_extension().map_err(Unreadable)? {
            read.add_names(names);
        }
        if let Some((_, usage)) = certificate.get_extension::<KeyUsage>().map_err(Unreadable)? {
            read.usage = Usage {
                handshakes: usage.digital_signature(),
                issuing: usage.key_cert_sign() || usage.crl_sign(),
            };
        }
        Ok(read)
    }

    fn add_names(&mut self, names: SubjectAltName) {
        for name in names.0 {
            match name {
                GeneralName::UniformResourceIdentifier(uri) => {
                    self.uri_names.push(uri.as_str().into())
                }
                GeneralName::DnsName(name) => self.dns_names.push(name.as_str().into()),
                _ => {}
            }
        }
    }

    /// The distinguished name of its subject as RFC 4514 writes it, such as `CN=reviews,O=Example`.
    /// May have signs of any language in it; control characters are escaped.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The distinguished name of its issuer, written as that of the subject.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Its serial number in hexadecimal, two digits a byte, lower case.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// The URIs of its subject's alternative names, in order.
    pub fn uri_names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.uri_names.iter().map(|name| &**name)
    }

    /// The DNS names of its subject's alternative names, in order.
    pub fn dns_names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.dns_names.iter().map(|name| &**name)
    }

    /// The first moment at which it is valid.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// The last moment at which it is valid.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The SHA-256 of its DER, in hexadecimal, lower case.
    pub fn sha256(&self) -> String {
        hex(&self.sha256)
    }

    /// What access logs say about it.
    pub(super) fn facts(&self) -> CertificateFacts<'_> {
        CertificateFacts {
            subject: &self.subject,
            issuer: &self.issuer,
            serial: &self.serial,
            uri_names: &self.uri_names,
            dns_names: &self.dns_names,
            sha256: &self.sha256,
        }
    }

    /// What its key may be used for.
    pub(super) fn usage(&self) -> Usage {
        self.usage
    }

    /// Who it is for. A SPIFFE id must be the only URI in a certificate ("X.509 SVID" of the SPIFFE
    /// standards, section 2).
    pub(super) fn identity(&self) -> Identity {
        let is_spiffe =
            |uri: &str| uri.get(..7).is_some_and(|it| it.eq_ignore_ascii_case("spiffe:"));
        if !self.uri_names().any(is_spiffe) {
            return Identity::None;
        }
        match &self.uri_names[..] {
            [only] => only.parse().map_or(Identity::None, Identity::One),
            _ => Identity::Several,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a `String` does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Why the facts of a certificate cannot be read.
#[derive(Clone, Debug)]
pub struct Unreadable(x509_cert::der::Error);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is not a certificate as RFC 5280 has it: {}", self.0)
    }
}

impl std::error::Error for Unreadable {}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use rcgen::{CertificateParams, DnType, KeyPair, SanType, SerialNumber, date_time_ymd};

    use super::*;

    fn certificate(change: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let mut params = CertificateParams::default();
        change(&mut params);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Certificate::read(certificate.der()).unwrap()
    }

    fn with_uris(uris: &[&str]) -> Certificate {
        certificate(|params| {
            params.subject_alt_names =
                uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        })
    }

    #[test]
    fn the_facts() {
        let read = certificate(|params| {
            params.subject_alt_names = vec![
                SanType::DnsName("reviews.example".try_into().unwrap()),
                SanType::URI("spiffe://td/reviews".try_into().unwrap()),
                SanType::IpAddress([127, 0, 0, 1].into()),
            ];
            params.distinguished_name.push(DnType::OrganizationName, "Example, \"Inc\"");
            params.distinguished_name.push(DnType::CommonName, "r\u{e4}views");
            params.serial_number = Some(SerialNumber::from_slice(&[0x0a, 0xff, 1]));
            params.not_before = date_time_ymd(2024, 1, 1);
            params.not_after = date_time_ymd(2060, 1, 2);
        });
        assert_eq!(read.subject(), "O=Example\\, \\\"Inc\\\",CN=r\u{e4}views");
        assert_eq!(read.issuer(), read.subject());
        assert_eq!(read.serial(), "0aff01");
        assert_eq!(read.dns_names().collect::<Vec<_>>(), ["reviews.example"]);
        assert_eq!(read.uri_names().collect::<Vec<_>>(), ["spiffe://td/reviews"]);
        assert_eq!(read.not_before(), UNIX_EPOCH + Duration::from_secs(1_704_067_200));
        assert_eq!(read.not_after(), UNIX_EPOCH + Duration::from_secs(2_840_227_200));
        assert_eq!(read.sha256().len(), 64);
    }

    #[test]
    fn one_spiffe_id_and_no_other_uri_is_an_identity() {
        let identity = |uris: &[&str]| match with_uris(uris).identity() {
            Identity::None => "none".to_owned(),
            Identity::One(id) => id.to_string(),
            Identity::Several => "several".to_owned(),
        };
        assert_eq!(identity(&["spiffe://td/a"]), "spiffe://td/a");
        assert_eq!(identity(&[]), "none");
        assert_eq!(identity(&["https://td/a", "https://td/b"]), "none");
        assert_eq!(identity(&["spiffe://td/a/"]), "none");
        assert_eq!(identity(&["spiffe://td/a", "spiffe://td/b"]), "several");
        assert_eq!(identity(&["spiffe://td/a", "spiffe://td/a"]), "several");
        assert_eq!(identity(&["https://td/a", "spiffe://td/a"]), "several");
        assert_eq!(identity(&["SPIFFE://td/a", "spiffe://td/a"]), "several");
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        for bytes in [&b""[..], b"\x30", b"\x30\x03\x02\x01\x01", &[0xff; 64]] {
            assert!(Certificate::read(&CertificateDer::from(bytes)).is_err());
        }
    }
}
