//! What HTTP is carried by: TLS on both sides of the proxy, each end of which has a certificate with
//! a SPIFFE id and asks for one.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc, LazyLock, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use evenkeel::{
    ServiceFactory,
    tls::{
        self, ClientCredentials, Peers, ServerCredentials,
        credentials::{ClientSettings, ServerSettings},
    },
    upstream::settings::ClusterBuilder,
};
use rustls::{
    ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection,
    crypto::aws_lc_rs,
    pki_types::ServerName,
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};

use crate::authority::{Authority, Issued};

pub(crate) const SCHEME: &str = "https";

pub(crate) const CLIENT: &str = "spiffe://td/ns/default/sa/client";
pub(crate) const PROXY: &str = "spiffe://td/ns/default/sa/proxy";
pub(crate) const ORIGIN: &str = "spiffe://td/ns/default/sa/origin";

/// What each party has.
struct Parties {
    authority: Authority,
    client_certificate: Issued,
    client: Arc<ClientConfig>,
    origin: Arc<ServerConfig>,
    downstream: ServerCredentials,
    upstream: ClientCredentials,
}

/// Made once, so that sessions are resumed.
static PARTIES: LazyLock<Parties> = LazyLock::new(|| {
    let authority = Authority::new("the authority");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let client_certificate = authority.identity(CLIENT);
    let (chain, key) = client_certificate.chain_and_key();
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_client_auth_cert(chain, key)
        .unwrap();
    let (chain, key) = authority.identity(ORIGIN).chain_and_key();
    let roots = Arc::new(authority.roots());
    let clients = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
    let mut origin = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    origin.ticketer = aws_lc_rs::Ticketer::new().unwrap();
    let proxy = authority.identity(PROXY).own();
    let peers = |id| Peers::parse([id]).unwrap();
    let mut downstream = ServerSettings::new(proxy.clone());
    // The second of two proxies in a row has the first as its client.
    downstream.clients = Some(authority.trust().peers(peers("spiffe://td/ns/default/*")));
    let mut upstream = ClientSettings::new(authority.trust().peers(peers("spiffe://td/ns/*")));
    upstream.own = Some(proxy);
    Parties {
        client: Arc::new(client),
        origin: Arc::new(origin),
        downstream: ServerCredentials::load("web", downstream).unwrap(),
        upstream: ClientCredentials::load("origin", upstream).unwrap(),
        authority,
        client_certificate,
    }
});

/// One end of a connection. Clones are the same end: one may send while the other receives.
pub(crate) struct Socket {
    stream: TcpStream,
    tls: Arc<Mutex<Connection>>,
    /// Received, and not looked at.
    unopened: VecDeque<u8>,
    /// Held from when a record is made until it is sent, so that records stay in order.
    sends: Arc<Mutex<()>>,
    /// It ends without a word.
    is_silent: Arc<AtomicBool>,
}

pub(crate) fn connect(address: SocketAddr) -> Socket {
    let name = ServerName::try_from("localhost").unwrap();
    let tls = ClientConnection::new(Arc::clone(&PARTIES.client), name).unwrap();
    Socket::new(TcpStream::connect(address).unwrap(), tls.into())
}

pub(crate) fn accept(stream: TcpStream) -> Socket {
    Socket::new(stream, ServerConnection::new(Arc::clone(&PARTIES.origin)).unwrap().into())
}

/// Ends the sending direction in order.
pub(crate) fn finish(socket: &mut Socket) {
    socket.end();
    let _ = socket.stream.shutdown(Shutdown::Write);
}

/// Ends the connection with a reset.
pub(crate) fn reset(socket: Socket) {
    socket2::SockRef::from(&socket.stream).set_linger(Some(Duration::ZERO)).unwrap();
    socket.is_silent.store(true, Relaxed);
}

/// Ends the connection without a close_notify.
pub(crate) fn abandon(socket: &mut Socket) {
    socket.is_silent.store(true, Relaxed);
    let _ = socket.stream.shutdown(Shutdown::Both);
}

/// Who has signed for everybody.
pub(crate) fn authority() -> &'static Authority {
    &PARTIES.authority
}

pub(crate) fn client_certificate() -> &'static Issued {
    &PARTIES.client_certificate
}

/// What a proxy shows and asks for towards origins.
pub(crate) fn upstream_credentials() -> ClientCredentials {
    PARTIES.upstream.clone()
}

/// What a proxy shows and asks for towards its clients.
pub(crate) fn downstream() -> ServerCredentials {
    PARTIES.downstream.clone()
}

/// How a proxy serves its clients.
pub(crate) fn serve(service: impl ServiceFactory) -> impl ServiceFactory {
    tls::terminate(PARTIES.downstream.clone(), service)
}

/// How a proxy connects to origins.
pub(crate) fn upstream(cluster: ClusterBuilder) -> ClusterBuilder {
    cluster.tls(PARTIES.upstream.clone())
}

impl Socket {
    /// The handshake comes first, as a connection does that is made before anything is asked.
    fn new(mut stream: TcpStream, mut tls: Connection) -> Socket {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        while tls.is_handshaking() && tls.complete_io(&mut stream).is_ok() {}
        let tls = Arc::new(Mutex::new(tls));
        Socket {
            stream,
            tls,
            unopened: VecDeque::new(),
            sends: Arc::default(),
            is_silent: Arc::default(),
        }
    }

    pub(crate) fn try_clone(&self) -> io::Result<Socket> {
        let stream = self.stream.try_clone()?;
        Ok(Socket {
            stream,
            tls: Arc::clone(&self.tls),
            unopened: VecDeque::new(),
            sends: Arc::clone(&self.sends),
            is_silent: Arc::clone(&self.is_silent),
        })
    }

    pub(crate) fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.stream.set_nodelay(nodelay)
    }

    pub(crate) fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(limit)
    }

    pub(crate) fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.stream.set_write_timeout(limit)
    }

    fn tls(&self) -> MutexGuard<'_, Connection> {
        self.tls.lock().unwrap()
    }

    /// Sends what `write` writes. The other direction goes on meanwhile.
    fn send(
        &mut self,
        write: impl FnOnce(&mut Connection) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let _order = self.sends.lock().unwrap();
        let mut records = Vec::new();
        let length = {
            let mut tls = self.tls.lock().unwrap();
            let length = write(&mut tls)?;
            while tls.wants_write() {
                tls.write_tls(&mut records)?;
            }
            length
        };
        (&self.stream).write_all(&records)?;
        Ok(length)
    }

    fn end(&mut self) {
        let _ = self.send(|tls| {
            tls.send_close_notify();
            Ok(0)
        });
    }
}

impl Read for Socket {
    /// The end without a close_notify is an error.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.tls().reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            if self.unopened.is_empty() {
                let mut records = [0; 16 << 10];
                match self.stream.read(&mut records) {
                    Ok(length) => self.unopened.extend(&records[..length]),
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                }
            }
            // As much as it takes, and no more before that is read; nothing at all is the end.
            let mut tls = self.tls.lock().unwrap();
            tls.read_tls(&mut self.unopened)?;
            tls.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(16 << 10)];
        self.send(|tls| tls.writer().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The last one says that this is the end, as far as there is room.
impl Drop for Socket {
    fn drop(&mut self) {
        let is_last = Arc::strong_count(&self.tls) == 1;
        if is_last && !self.is_silent.load(Relaxed) && !self.tls().is_handshaking() {
            let _ = self.stream.set_write_timeout(Some(Duration::from_millis(10)));
            self.end();
        }
    }
}
