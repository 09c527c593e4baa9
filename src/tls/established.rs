//! What a handshake has settled.

use rustls::{
    CommonState, HandshakeKind, ProtocolVersion, SupportedCipherSuite, pki_types::CertificateDer,
};

use super::{PeerIdentity, record::RecordLayer};
use crate::net::Stream;

/// What both ends have agreed on, and who the peer is.
#[derive(Clone, Debug)]
pub struct Established {
    version: ProtocolVersion,
    cipher_suite: SupportedCipherSuite,
    application_protocol: Option<Box<[u8]>>,
    server_name: Option<Box<str>>,
    peer: Option<PeerIdentity>,
    peer_certificates: Box<[CertificateDer<'static>]>,
    resumed: bool,
}

impl Established {
    /// `None` before the end of the handshake.
    pub(super) fn new(
        common: &CommonState,
        server_name: Option<Box<str>>,
        peer: Option<PeerIdentity>,
    ) -> Option<Established> {
        let certificates = common.peer_certificates().unwrap_or_default();
        Some(Established {
            version: common.protocol_version()?,
            cipher_suite: common.negotiated_cipher_suite()?,
            application_protocol: common.alpn_protocol().map(Box::from),
            server_name,
            peer,
            peer_certificates: certificates
                .iter()
                .map(|certificate| certificate.clone().into_owned())
                .collect(),
            resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
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

    /// The peer's certificate, and those that it sent with it, in DER. None where it has none. Those
    /// of a resumed session are the ones of its first connection.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        &self.peer_certificates
    }

    /// Whether the session of an earlier connection was resumed.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }
}

impl Stream {
    /// What TLS has settled; `None` where there is none on this stream.
    pub fn tls(&self) -> Option<&Established> {
        self.layer::<RecordLayer>().map(RecordLayer::established)
    }
}
