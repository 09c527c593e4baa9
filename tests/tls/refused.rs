//! Who is refused: with the alert that says why, and counted by its reason.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use evenkeel::{
    Proxy,
    telemetry::{HandshakeFailure, HandshakeResult},
    tls::{
        ClientCredentials, Peers, ServerCredentials,
        credentials::{ClientSettings, ServerSettings, Source},
    },
};
use rcgen::{
    CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose, KeyIdMethod,
    KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Connection, Error, ServerConfig,
    ServerConnection,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::ServerName,
    version::{TLS12, TLS13},
};

use crate::{
    authority::{Authority, Issued},
    stage::{echo, eventually, relay},
};

const LONG: Duration = Duration::from_secs(20);
const ALICE: &str = "spiffe://td/alice";
const REVOKED: u64 = 4711;

/// A peer that is to be refused, the alert that it gets, and the reason that is counted.
type Case = (&'static str, Issued, AlertDescription, HandshakeFailure);

/// Peers that nobody is to take, whichever side they are on. Everything else about them is right.
fn nobody_s(authority: &Authority) -> Vec<Case> {
    let with = |change: fn(&mut CertificateParams)| {
        let mut params = Authority::workload(ALICE);
        change(&mut params);
        params
    };
    let uri = |id: &str| SanType::URI(id.try_into().unwrap());
    let two = {
        let mut params = Authority::workload(ALICE);
        params.subject_alt_names.push(uri("spiffe://td/bob"));
        params
    };
    let expired = with(|params| params.not_after = date_time_ymd(2020, 1, 1));
    let early = with(|params| params.not_before = date_time_ymd(2999, 1, 1));
    let usage = with(|params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment]);
    let purpose = with(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    });
    let revoked = with(|params| params.serial_number = Some(SerialNumber::from(REVOKED)));
    let elsewhere = Authority::new("elsewhere").issue(Authority::workload(ALICE));
    let namesake = Authority::new("the authority").issue(Authority::workload(ALICE));
    let itself = Issued::by_itself(Authority::workload(ALICE));
    use AlertDescription as Alert;
    use HandshakeFailure as Reason;
    vec![
        ("another authority", elsewhere, Alert::UnknownCA, Reason::UnknownCa),
        ("one of that name", namesake, Alert::UnknownCA, Reason::UnknownCa),
        // It cannot be told from one of a namesake: the alert is that of RFC 8446 for a certificate
        // that matches no known authority.
        ("damaged", authority.identity(ALICE).damaged(), Alert::UnknownCA, Reason::UnknownCa),
        ("stolen", authority.identity(ALICE).stolen(), Alert::DecryptError, Reason::BadSignature),
        ("self-signed", itself, Alert::UnknownCA, Reason::UnknownCa),
        ("expired", authority.issue(expired), Alert::CertificateExpired, Reason::Expired),
        ("not yet valid", authority.issue(early), Alert::CertificateExpired, Reason::NotYetValid),
        ("usage", authority.issue(usage), Alert::UnsupportedCertificate, Reason::KeyUsage),
        ("purpose", authority.issue(purpose), Alert::UnsupportedCertificate, Reason::KeyUsage),
        ("two ids", authority.issue(two), Alert::CertificateUnknown, Reason::ManyIdentities),
        ("revoked", authority.issue(revoked), Alert::CertificateRevoked, Reason::Revoked),
        (
            "another id",
            authority.identity("spiffe://td/mallory"),
            Alert::AccessDenied,
            Reason::PeerNotAllowed,
        ),
    ]
}

fn revocation_list(authority: &Authority) -> Source {
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(2999, 1, 1),
        crl_number: SerialNumber::from(1u64),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from(REVOKED),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(authority.issuer()).unwrap();
    Source::memory("the revocation list", list.pem().unwrap())
}

/// A server that takes alice only.
fn strict(authority: &Authority) -> (Proxy, SocketAddr) {
    let mut settings = ServerSettings::new(authority.identity("spiffe://td/server").own());
    let mut clients = authority.trust().peers(Peers::parse([ALICE]).unwrap());
    clients.revocation_lists = vec![revocation_list(authority)];
    settings.clients = Some(clients);
    settings.application_protocols = vec![b"http/1.1".to_vec()];
    echo(ServerCredentials::load("echo", settings).unwrap())
}

/// A client of rustls's with this certificate.
fn client(authority: &Authority, shows: Option<&Issued>, provider: CryptoProvider) -> ClientConfig {
    let shown = shows.map(|shows| shows.unchecked(&provider));
    let builder = ClientConfig::builder_with_provider(provider.into())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .unwrap()
        .with_root_certificates(authority.roots());
    match shown {
        None => builder.with_no_client_auth(),
        Some(shown) => builder.with_client_cert_resolver(shown),
    }
}

/// Runs a handshake, and what comes behind it, until it is known how it ends: in order, or so.
fn end_of(mut tls: Connection, mut stream: TcpStream) -> Option<Error> {
    stream.set_read_timeout(Some(LONG)).unwrap();
    let mut ended = false;
    loop {
        if let Err(error) = tls.complete_io(&mut stream) {
            return match error.downcast::<Error>() {
                Ok(error) => Some(error),
                Err(error) => panic!("no alert: {error}"),
            };
        }
        if tls.process_new_packets().unwrap().peer_has_closed() {
            return None;
        }
        if !tls.is_handshaking() && !std::mem::replace(&mut ended, true) {
            tls.send_close_notify();
        }
    }
}

fn ask(address: SocketAddr, config: ClientConfig) -> Option<Error> {
    let name = ServerName::try_from("localhost").unwrap();
    let tls = ClientConnection::new(Arc::new(config), name).unwrap();
    end_of(tls.into(), TcpStream::connect(address).unwrap())
}

#[test]
fn clients_are_refused_with_the_alert_and_the_reason() {
    let authority = Authority::new("the authority");
    let provider = aws_lc_rs::default_provider;
    for (what, issued, alert, reason) in nobody_s(&authority) {
        let (proxy, address) = strict(&authority);
        let error = ask(address, client(&authority, Some(&issued), provider()));
        assert_eq!(error, Some(Error::AlertReceived(alert)), "{what}");
        let cells = proxy.registry().tls_listener("echo", 0);
        eventually(what, || cells.failures.value(reason) == 1);
        assert_eq!(cells.results.value(HandshakeResult::Failed), 1, "{what}");
        // Nobody else is refused for it.
        let alice = authority.identity(ALICE);
        assert_eq!(ask(address, client(&authority, Some(&alice), provider())), None, "{what}");
        assert_eq!(cells.results.value(HandshakeResult::Full), 1, "{what}");
    }
}

#[test]
fn clients_with_nothing_in_common_are_told_so() {
    let authority = Authority::new("the authority");
    let (proxy, address) = strict(&authority);
    let cells = proxy.registry().tls_listener("echo", 0);
    let alice = authority.identity(ALICE);
    let refused = |config, alert, reason| {
        assert_eq!(ask(address, config), Some(Error::AlertReceived(alert)));
        eventually(&format!("{reason}"), || cells.failures.value(reason) == 1);
    };
    let nobody = client(&authority, None, aws_lc_rs::default_provider());
    refused(nobody, AlertDescription::CertificateRequired, HandshakeFailure::NoCertificate);

    // The server's key is for ECDSA.
    let rsa_only = [aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256];
    let provider =
        CryptoProvider { cipher_suites: rsa_only.to_vec(), ..aws_lc_rs::default_provider() };
    let (chain, key) = alice.chain_and_key();
    let no_cipher = ClientConfig::builder_with_provider(provider.into())
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_client_auth_cert(chain, key)
        .unwrap();
    refused(no_cipher, AlertDescription::HandshakeFailure, HandshakeFailure::NoCommonCipher);

    let mut protocol = client(&authority, Some(&alice), aws_lc_rs::default_provider());
    protocol.alpn_protocols = vec![b"h2".to_vec()];
    let alert = AlertDescription::NoApplicationProtocol;
    refused(protocol, alert, HandshakeFailure::NoCommonProtocol);
}

/// A server of rustls's that shows `issued`, and what becomes of its first connection.
fn server(issued: &Issued, protocols: Vec<Vec<u8>>) -> (SocketAddr, mpsc::Receiver<Option<Error>>) {
    let provider = aws_lc_rs::default_provider();
    let shown = issued.unchecked(&provider);
    let mut config = ServerConfig::builder_with_provider(provider.into())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(shown);
    config.alpn_protocols = protocols;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let tls = ServerConnection::new(Arc::new(config)).unwrap();
        sender.send(end_of(tls.into(), stream)).unwrap();
    });
    (address, ended)
}

/// What a proxy that wants alice as its server does with this one.
fn served_by(
    authority: &Authority,
    issued: &Issued,
    change: impl FnOnce(&mut ClientSettings),
) -> (Proxy, mpsc::Receiver<Option<Error>>) {
    let mut servers = authority.trust().peers(Peers::parse([ALICE]).unwrap());
    servers.revocation_lists = vec![revocation_list(authority)];
    let mut settings = ClientSettings::new(servers);
    change(&mut settings);
    let (origin, ended) = server(issued, vec![b"http/1.1".to_vec()]);
    let (proxy, address) = relay(origin, ClientCredentials::load("secured", settings).unwrap());
    let mut stream = TcpStream::connect(address).unwrap();
    // It is closed, and nothing comes.
    let _ = std::io::Read::read_to_end(&mut stream, &mut Vec::new());
    (proxy, ended)
}

#[test]
fn servers_are_refused_with_the_alert_and_the_reason() {
    let authority = Authority::new("the authority");
    for (what, issued, alert, reason) in nobody_s(&authority) {
        let (proxy, ended) = served_by(&authority, &issued, |_| {});
        let error = ended.recv_timeout(LONG).unwrap();
        assert_eq!(error, Some(Error::AlertReceived(alert)), "{what}");
        let cells = proxy.registry().tls_cluster("secured", 0);
        assert_eq!(cells.failures.value(reason), 1, "{what}");
    }
}

#[test]
fn a_server_with_another_name_or_protocol_is_refused() {
    let authority = Authority::new("the authority");
    let alice = authority.identity(ALICE);
    let (proxy, ended) = served_by(&authority, &alice, |settings| {
        settings.servers.peers = None;
        settings.server_name = Some("elsewhere.example".try_into().unwrap());
    });
    let error = ended.recv_timeout(LONG).unwrap();
    assert_eq!(error, Some(Error::AlertReceived(AlertDescription::BadCertificate)));
    let cells = proxy.registry().tls_cluster("secured", 0);
    assert_eq!(cells.failures.value(HandshakeFailure::BadName), 1);

    // Here it is the server that refuses.
    let (proxy, ended) = served_by(&authority, &alice, |settings| {
        settings.application_protocols = vec![b"h2".to_vec()];
    });
    assert_eq!(ended.recv_timeout(LONG).unwrap(), Some(Error::NoApplicationProtocol));
    let cells = proxy.registry().tls_cluster("secured", 0);
    assert_eq!(cells.failures.value(HandshakeFailure::NoCommonProtocol), 1);
}
