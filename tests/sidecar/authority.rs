//! An authority in memory, the files that it fills, and clients and servers of rustls that trust it.

use std::{
    fs,
    io::{BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection,
    StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tempfile::TempDir;

use super::{origin::origin, web::Message};

pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// A certificate and its key, in PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    /// With its own certificate as `ca.pem` in its folder.
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Authority { issuer, folder: tempfile::tempdir().unwrap() };
        fs::write(authority.path("ca.pem"), authority.issuer.pem()).unwrap();
        authority
    }

    /// Where a file is, or would be.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Names with a scheme are URIs.
    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        let (uris, others): (Vec<&str>, Vec<&str>) =
            names.iter().partition(|name| name.contains("://"));
        let others: Vec<_> = others.into_iter().map(str::to_owned).collect();
        let mut params = CertificateParams::new(others).unwrap();
        let uris = uris.into_iter().map(|uri| SanType::URI(uri.try_into().unwrap()));
        params.subject_alt_names.extend(uris);
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// Issues a certificate and writes it as `NAME.pem` and `NAME.key`.
    pub(crate) fn write(&self, name: &str, names: &[&str]) -> Issued {
        let issued = self.issue(names);
        fs::write(self.path(&format!("{name}.pem")), &issued.certificate).unwrap();
        fs::write(self.path(&format!("{name}.key")), &issued.key).unwrap();
        issued
    }

    /// The lines of a section that shows what was written as `name`.
    pub(crate) fn own(&self, name: &str) -> String {
        let path = |kind: &str| self.path(&format!("{name}.{kind}"));
        format!("certificate = '{}'\nkey = '{}'\n", path("pem").display(), path("key").display())
    }

    /// The line of a section that trusts this authority.
    pub(crate) fn roots(&self) -> String {
        format!("roots = '{}'\n", self.path("ca.pem").display())
    }

    /// A client that trusts this authority and shows something, or nothing.
    pub(crate) fn client(&self, own: Option<&Issued>, alpn: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(evenkeel::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => builder.with_client_auth_cert(own.chain(), own.private_key()).unwrap(),
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// Answers everything that is asked for with TLS with its own name.
    pub(crate) fn origin(&self, name: &'static str) -> SocketAddr {
        let own = self.issue(&[name]);
        let config = ServerConfig::builder_with_provider(evenkeel::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(own.chain(), own.private_key())
            .unwrap();
        let config = Arc::new(config);
        origin(move |stream| {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            let mut bytes = [0; 64];
            while stream.read(&mut bytes).is_ok_and(|read| read > 0) {
                if stream.write_all(name.as_bytes()).and_then(|()| stream.flush()).is_err() {
                    return;
                }
            }
        })
    }
}

impl Issued {
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()]
    }

    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }
}

pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A connection on which nothing was done yet.
pub(crate) fn connect(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> Stream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), stream)
}

/// What came of a request.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) message: Message,
    pub(crate) resumed: bool,
    /// What the server has shown.
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) protocol: Option<Vec<u8>>,
}

/// Sends a request of HTTP over a connection of its own. `None`: it failed.
pub(crate) fn ask(address: SocketAddr, config: &Arc<ClientConfig>) -> Option<Asked> {
    let mut stream = BufReader::new(connect(address, "localhost", config));
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.get_mut().write_all(request).and_then(|()| stream.get_mut().flush()).ok()?;
    let message = Message::read(&mut stream)?;
    let connection = &stream.get_ref().conn;
    Some(Asked {
        message,
        resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        certificate: connection.peer_certificates()?.first()?.clone().into_owned(),
        protocol: connection.alpn_protocol().map(<[u8]>::to_vec),
    })
}
