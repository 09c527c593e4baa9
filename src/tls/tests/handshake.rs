//! A handshake in memory.

use std::sync::Arc;

use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Connection, Error, HandshakeKind,
    RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

use super::authority::{Authority, Issued};
use crate::tls::{
    ClientCredentials, PeerIdentity, Reason, ServerCredentials,
    credentials::{ClientSettings, ServerSettings},
    provider,
};

/// How one end saw the handshake.
pub(super) struct End {
    pub(super) result: Result<(), Error>,
    pub(super) judged: Result<Option<PeerIdentity>, Reason>,
    pub(super) resumed: bool,
}

impl End {
    /// The SPIFFE id of the peer. Panics if the handshake failed.
    pub(super) fn peer(&self) -> Option<String> {
        self.result.as_ref().unwrap();
        let peer = self.judged.clone().unwrap();
        peer.and_then(|peer| peer.spiffe_id().map(ToString::to_string))
    }

    /// Why this end refused the other, or was refused.
    pub(super) fn reason(&self) -> Reason {
        Reason::from(self.result.as_ref().expect_err("the handshake did not fail"))
    }

    /// What the other end told this one.
    pub(super) fn alert(&self) -> AlertDescription {
        match self.result {
            Err(Error::AlertReceived(alert)) => alert,
            ref other => panic!("no alert, but {other:?}"),
        }
    }
}

pub(super) struct Ends {
    pub(super) client: End,
    pub(super) server: End,
}

/// Between ends that have not met before.
pub(super) fn between(client: ClientSettings, server: ServerSettings) -> Ends {
    let client = ClientCredentials::load("client", client).unwrap();
    run(&client, &ServerCredentials::load("server", server).unwrap())
}

/// Between these ends, which may have met before.
pub(super) fn run(client: &ClientCredentials, server: &ServerCredentials) -> Ends {
    let (client_set, server_set) = (client.current(), server.current());
    let name = client.server_name();
    let [client, server] = exchange(client_set.config(), name, server_set.config());
    Ends {
        client: client.judged_by(|certificates| client_set.judge(certificates)),
        server: server.judged_by(|certificates| server_set.judge(certificates)),
    }
}

/// A client that does what ours would not: shows what is out of date, or speaks old versions only.
/// The server is of `authority`.
pub(super) fn with_unchecked_client(
    shown: &Issued,
    authority: &Authority,
    server: ServerSettings,
    versions: &[&'static SupportedProtocolVersion],
) -> Ends {
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(der(&authority.pem())).unwrap();
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![der(&shown.certificate)],
            PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap(),
        )
        .unwrap();
    let server = ServerCredentials::load("server", server).unwrap().current();
    let name = "server.example".try_into().unwrap();
    let [client, judged] = exchange(&Arc::new(config), name, server.config());
    Ends {
        client: client.judged_by(|_| Ok(None)),
        server: judged.judged_by(|certificates| server.judge(certificates)),
    }
}

/// An end that has not judged its peer yet.
struct Unjudged {
    result: Result<(), Error>,
    certificates: Vec<CertificateDer<'static>>,
    resumed: bool,
}

impl Unjudged {
    fn judged_by(
        self,
        judge: impl FnOnce(&[CertificateDer<'_>]) -> Result<Option<PeerIdentity>, Reason>,
    ) -> End {
        End { result: self.result, judged: judge(&self.certificates), resumed: self.resumed }
    }
}

/// The client, and the server.
fn exchange(
    client: &Arc<ClientConfig>,
    name: ServerName<'static>,
    server: &Arc<ServerConfig>,
) -> [Unjudged; 2] {
    let mut ends = [
        Connection::Client(ClientConnection::new(Arc::clone(client), name).unwrap()),
        Connection::Server(ServerConnection::new(Arc::clone(server)).unwrap()),
    ];
    let mut results = [Ok(()), Ok(())];
    let mut idle = 0;
    while idle < 2 {
        for sender in 0..2 {
            let mut bytes = Vec::new();
            while ends[sender].wants_write() {
                ends[sender].write_tls(&mut bytes).unwrap();
            }
            idle = if bytes.is_empty() { idle + 1 } else { 0 };
            let receiver = 1 - sender;
            let mut rest = &bytes[..];
            while !rest.is_empty() && results[receiver].is_ok() {
                ends[receiver].read_tls(&mut rest).unwrap();
                results[receiver] = ends[receiver].process_new_packets().map(|_| ());
            }
        }
    }
    let [client, server] = ends;
    let [client_result, server_result] = results;
    let unjudged = |end: &Connection, result| Unjudged {
        result,
        certificates: end.peer_certificates().unwrap_or_default().to_vec(),
        resumed: end.handshake_kind() == Some(HandshakeKind::Resumed),
    };
    [unjudged(&client, client_result), unjudged(&server, server_result)]
}
