//! What a line says about TLS.

use std::fmt;

/// What the handshake of a TLS connection has settled, where it is.
pub trait TlsSession: fmt::Debug {
    /// The version: `TLSv1.2` or `TLSv1.3`.
    fn version(&self) -> &'static str;

    /// The cipher suite, by OpenSSL's name.
    fn cipher(&self) -> &'static str;

    /// The server that the client asked for (SNI, RFC 6066 section 3).
    fn server_name(&self) -> Option<&str>;

    /// The peer's certificate, which was verified. `None` where there is none.
    fn peer(&self) -> Option<CertificateFacts<'_>>;

    /// Our own certificate. `None` where we have none.
    fn local(&self) -> Option<CertificateFacts<'_>>;
}

/// What lines say about a certificate.
#[derive(Clone, Copy, Debug)]
pub struct CertificateFacts<'a> {
    /// The name of its subject, as RFC 4514 writes it.
    pub subject: &'a str,
    /// The name of its issuer, written alike.
    pub issuer: &'a str,
    /// Its serial number, in hexadecimal.
    pub serial: &'a str,
    /// The URIs among its subject's alternative names.
    pub uri_names: &'a [Box<str>],
    /// The DNS names among them.
    pub dns_names: &'a [Box<str>],
    /// The SHA-256 of its DER.
    pub sha256: &'a [u8; 32],
}

/// Whose connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Downstream,
    Upstream,
}

/// Whose certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Peer,
    Local,
}

/// What of a TLS connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    Version,
    Cipher,
    Subject(Owner),
    Issuer(Owner),
    Serial(Owner),
    UriNames(Owner),
    DnsNames(Owner),
    Fingerprint(Owner),
}

/// The facts that an operator's name stands for: `DOWNSTREAM_` or `UPSTREAM_`, and one of these.
const NAMES: &[(&str, Fact)] = &[
    ("TLS_VERSION", Fact::Version),
    ("TLS_CIPHER", Fact::Cipher),
    ("PEER_SUBJECT", Fact::Subject(Owner::Peer)),
    ("PEER_ISSUER", Fact::Issuer(Owner::Peer)),
    ("PEER_SERIAL", Fact::Serial(Owner::Peer)),
    ("PEER_URI_SAN", Fact::UriNames(Owner::Peer)),
    ("PEER_DNS_SAN", Fact::DnsNames(Owner::Peer)),
    ("PEER_FINGERPRINT_256", Fact::Fingerprint(Owner::Peer)),
    ("LOCAL_SUBJECT", Fact::Subject(Owner::Local)),
    ("LOCAL_URI_SAN", Fact::UriNames(Owner::Local)),
    ("LOCAL_DNS_SAN", Fact::DnsNames(Owner::Local)),
];

impl Fact {
    pub(super) fn named(name: &str) -> Option<(Side, Fact)> {
        let (side, name) = match name.strip_prefix("DOWNSTREAM_") {
            Some(name) => (Side::Downstream, name),
            None => (Side::Upstream, name.strip_prefix("UPSTREAM_")?),
        };
        let (_, fact) = NAMES.iter().find(|(known, _)| *known == name)?;
        Some((side, *fact))
    }
}

impl Owner {
    pub(super) fn certificate(self, session: &dyn TlsSession) -> Option<CertificateFacts<'_>> {
        match self {
            Owner::Peer => session.peer(),
            Owner::Local => session.local(),
        }
    }
}
