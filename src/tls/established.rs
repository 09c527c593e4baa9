//! What a handshake has settled.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    CipherSuite, CommonState, HandshakeKind, ProtocolVersion, SupportedCipherSuite,
    pki_types::CertificateDer,
};

use super::{
    Certificate, PeerIdentity,
    credentials::{ClientSnapshot, Place, Retirement, ServerSnapshot},
    record::RecordLayer,
};
use crate::{
    net::{Outlived, Stream},
    runtime::sleep,
    telemetry::{
        HandshakeResult, TlsCells,
        access_log::{CertificateFacts, TlsSession},
    },
};

/// The set by which a handshake was made.
#[derive(Clone, Debug)]
pub(super) enum Used {
    Server(Arc<ServerSnapshot>),
    Client(Arc<ClientSnapshot>),
}

/// What both ends have agreed on, and who the peer is.
#[derive(Clone, Debug)]
pub struct Established {
    version: ProtocolVersion,
    cipher_suite: SupportedCipherSuite,
    application_protocol: Option<Box<[u8]>>,
    server_name: Option<Box<str>>,
    peer: Option<PeerIdentity>,
    used: Used,
    peer_certificates: Box<[CertificateDer<'static>]>,
    resumed: bool,
    /// Where its end is among those of its set, if the set is replaced.
    place: Place,
}

impl Used {
    fn retirement(&self) -> Option<&Retirement> {
        match self {
            Used::Server(snapshot) => snapshot.retirement(),
            Used::Client(snapshot) => snapshot.retirement(),
        }
    }
}

impl Established {
    /// `None` before the end of the handshake.
    pub(super) fn new(
        common: &CommonState,
        server_name: Option<Box<str>>,
        peer: Option<PeerIdentity>,
        used: Used,
    ) -> Option<Established> {
        let certificates = common.peer_certificates().unwrap_or_default();
        let place = used.retirement().map(Retirement::place).unwrap_or_default();
        Some(Established {
            version: common.protocol_version()?,
            cipher_suite: common.negotiated_cipher_suite()?,
            application_protocol: common.alpn_protocol().map(Box::from),
            server_name,
            peer,
            used,
            peer_certificates: certificates
                .iter()
                .map(|certificate| certificate.clone().into_owned())
                .collect(),
            resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
            place,
        })
    }

    /// The version of the protocol.
    pub fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// The cipher suite.
    pub fn cipher_suite(&self) -> SupportedCipherSuite {
        self.cipher_suite
    }

    /// The protocol that ALPN has chosen (RFC 7301).
    pub fn application_protocol(&self) -> Option<&[u8]> {
        self.application_protocol.as_deref()
    }

    /// The name of the server that the client asked for (SNI, RFC 6066 section 3).
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// Who the peer is; `None` where it was asked for no certificate.
    pub fn peer(&self) -> Option<&PeerIdentity> {
        self.peer.as_ref()
    }

    /// Our own certificate, whether or not the peer has asked for it. `None` where we have none.
    pub fn own_certificate(&self) -> Option<&Certificate> {
        let chain = match &self.used {
            Used::Server(snapshot) => snapshot.own_certificates(),
            Used::Client(snapshot) => snapshot.own_certificates(),
        };
        chain.first()
    }

    /// The peer's certificate, and those that it sent with it, in DER. None where it has none. Those
    /// of a resumed session are the ones of its first connection.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        &self.peer_certificates
    }

    /// When the connection is to end: see [`Layer::ends_at`](crate::net::Layer::ends_at).
    pub(super) fn ends_at(&self) -> Option<Instant> {
        self.used.retirement()?.ends_at(self.place)
    }

    /// See [`Layer::outlived`](crate::net::Layer::outlived).
    pub(super) fn outlived(self: Arc<Self>) -> Option<Outlived> {
        self.used.retirement()?;
        Some(Box::pin(async move {
            let Some(retirement) = self.used.retirement() else { return Duration::MAX };
            retirement.begun().await;
            if let Some(end) = self.ends_at() {
                sleep(end.saturating_duration_since(Instant::now())).await;
            }
            retirement.after()
        }))
    }

    /// Whether the session of an earlier connection was resumed.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }
}

impl TlsSession for Established {
    fn version(&self) -> &'static str {
        match self.version {
            ProtocolVersion::TLSv1_2 => "TLSv1.2",
            ProtocolVersion::TLSv1_3 => "TLSv1.3",
            _ => "unknown",
        }
    }

    fn cipher(&self) -> &'static str {
        match self.cipher_suite.suite() {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
            CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
            CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => {
                "ECDHE-ECDSA-CHACHA20-POLY1305"
            }
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
            CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => {
                "ECDHE-RSA-CHACHA20-POLY1305"
            }
            _ => "unknown",
        }
    }

    fn server_name(&self) -> Option<&str> {
        Established::server_name(self)
    }

    fn peer(&self) -> Option<CertificateFacts<'_>> {
        self.peer.as_ref().map(|peer| peer.certificate().facts())
    }

    fn local(&self) -> Option<CertificateFacts<'_>> {
        self.own_certificate().map(Certificate::facts)
    }
}

impl Stream {
    /// How the handshake that made this connection counts.
    pub(crate) fn handshake_result(&self) -> HandshakeResult {
        match self.tls() {
            Some(tls) if tls.is_resumed() => HandshakeResult::Resumed,
            _ => HandshakeResult::Full,
        }
    }

    /// Counts the handshake that made this connection, of which we were the client: in TLS 1.3 not
    /// before the server is known to take us.
    pub(crate) fn count_handshake(&self, cells: &Arc<TlsCells>, took: Duration) {
        if let Some(records) = self.layer::<RecordLayer>() {
            records.count_handshake(Arc::clone(cells), self.handshake_result(), took);
        }
    }

    /// What TLS has settled; `None` where there is none on this stream.
    pub fn tls(&self) -> Option<&Established> {
        self.layer::<RecordLayer>().map(|records| &**records.established())
    }
}
