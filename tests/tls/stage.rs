//! A certificate, a proxy that echoes what comes over TLS, and clients.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use evenkeel::{Connection, Listener, Proxy, shard::Shard, tls};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned,
    SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};

use crate::kernel;

/// A certificate for `localhost`, and its key.
pub(crate) struct Server {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Server {
    pub(crate) fn new() -> Server {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Server {
            certificate: made.cert.der().clone(),
            key: PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into()),
        }
    }

    pub(crate) fn config(&self) -> ServerConfig {
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())
            .unwrap();
        config.enable_secret_extraction = true;
        config
    }

    pub(crate) fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let mut config = ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.enable_secret_extraction = true;
        config
    }
}

/// A proxy that sends back what comes over TLS, and ends when the client does.
pub(crate) fn echo(config: ServerConfig) -> (Proxy, SocketAddr) {
    let config = Arc::new(config);
    let service = move |_: &Shard| {
        let config = Arc::clone(&config);
        async move |mut connection: Connection| {
            if tls::accept(&mut connection, Arc::clone(&config)).await.is_err() {
                return;
            }
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
    };
    let listener = Listener::bind("127.0.0.1:0").unwrap().named("echo").serve(service);
    let builder = Proxy::builder().capabilities(kernel::capabilities()).shards(1);
    let proxy = builder.listener(listener).start().unwrap();
    let address = proxy.local_addr("echo").unwrap();
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
