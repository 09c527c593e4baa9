//! A certificate, a proxy that echoes what comes over TLS, and clients.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use evenkeel::{
    Connection, Listener, Proxy, Relay,
    shard::Shard,
    tls::{
        self, ClientCredentials, ServerCredentials,
        credentials::{ClientSettings, OwnCertificate, ServerSettings, Source, Trust},
    },
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName},
};

use crate::kernel;

/// A certificate for `localhost`, and its key.
pub(crate) struct Server {
    pub(crate) certificate: CertificateDer<'static>,
    own: OwnCertificate,
}

impl Server {
    pub(crate) fn new() -> Server {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let own = OwnCertificate {
            certificate: Source::memory("the certificate", made.cert.pem()),
            key: Source::memory("the key", made.signing_key.serialize_pem()),
        };
        Server { certificate: made.cert.der().clone(), own }
    }

    pub(crate) fn credentials(&self) -> ServerCredentials {
        ServerCredentials::load("echo", ServerSettings::new(self.own.clone())).unwrap()
    }

    /// What a proxy connects to this server with.
    pub(crate) fn client_credentials(&self, name: &'static str) -> ClientCredentials {
        let mut settings = ClientSettings::new(Trust::any(self.own.certificate.clone()));
        settings.server_name = Some(name.try_into().unwrap());
        ClientCredentials::load("upstream", settings).unwrap()
    }

    pub(crate) fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.enable_secret_extraction = true;
        config
    }
}

/// Sends back what comes, and ends when the client does.
pub(crate) async fn send_back(mut connection: Connection) {
    loop {
        match connection.receive().await {
            Ok(Some(chunk)) => connection.start_send(chunk).unwrap(),
            Ok(None) => break,
            Err(_) => return,
        }
    }
    connection.finish();
    let _ = connection.flush().await;
}

/// A proxy that sends back what comes over TLS.
pub(crate) fn echo(credentials: ServerCredentials) -> (Proxy, SocketAddr) {
    let service = tls::terminate(credentials, |_: &Shard| send_back);
    let listener = Listener::bind("127.0.0.1:0").unwrap().named("echo").serve(service);
    let builder = Proxy::builder().capabilities(kernel::capabilities()).shards(1);
    let proxy = builder.listener(listener).start().unwrap();
    let address = proxy.local_addr("echo").unwrap();
    (proxy, address)
}

/// A relay that speaks TLS to its upstream.
pub(crate) fn relay(upstream: SocketAddr, credentials: ClientCredentials) -> (Proxy, SocketAddr) {
    let relay = Relay::to([upstream.to_string()]).cluster("secured").tls(credentials);
    let listener = Listener::bind("127.0.0.1:0").unwrap().named("plain").serve(relay);
    let builder = Proxy::builder().capabilities(kernel::capabilities()).shards(1);
    let proxy = builder.listener(listener).start().unwrap();
    let address = proxy.local_addr("plain").unwrap();
    (proxy, address)
}

/// A client of rustls's own.
pub(crate) fn client(
    address: SocketAddr,
    config: ClientConfig,
) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
}

/// Sends `message` and reads it back.
pub(crate) fn exchange(stream: &mut (impl Read + Write), message: &[u8]) {
    stream.write_all(message).unwrap();
    stream.flush().unwrap();
    let mut answer = vec![0; message.len()];
    stream.read_exact(&mut answer).unwrap();
    assert!(answer == message);
}

/// Waits until a condition holds, for at most 20 s: a busy machine is no failure.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
