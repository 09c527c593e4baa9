//! Connections over TLS 1.3, each for one HTTP request: what a handshake costs, and who is let in.
//!
//! In: an address and a [`Handshake`]. Out: a [`Load`], whose requests are handshakes. Some clients on
//! a thread each; a client's next connection follows when the server has ended the last. The key
//! exchange and the cipher are what the client offers, one of each, so that every proxy does the same.
//! Clients check no signature and no name: that is their work, not the proxy's, and they share a CPU
//! with the origin.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, SignatureScheme, Stream,
};

use super::closed::Load;
use super::{histogram, record};
use crate::credentials::{CLIENT, SERVER_NAME};
use crate::exchange::Exchange;

/// Besides, each client gets a ticket, and the proxy its connections to the origin.
const WARM_UP: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

/// Where a client's connections stand.
const WARMING_UP: u8 = 0;
const COUNTING: u8 = 1;
const OVER: u8 = 2;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Handshake {
    /// By a ticket of the connection before, each used once; otherwise a full one.
    pub(crate) resumed: bool,
    /// The key exchange is X25519MLKEM768 in place of X25519.
    pub(crate) post_quantum: bool,
}

/// Loads `proxy` with handshakes for `duration`, and calls `sample` at both ends of that time.
///
/// # Errors
/// A connection failed, a handshake was not of the kind that was asked for, next to nothing came
/// through, or a sample failed.
pub(crate) fn run<T>(
    proxy: SocketAddr,
    handshake: Handshake,
    clients: usize,
    duration: Duration,
    mut sample: impl FnMut() -> io::Result<T>,
) -> io::Result<(Load, T, T)> {
    let (stage, ready, done) = (AtomicU8::new(WARMING_UP), AtomicU64::new(0), AtomicU64::new(0));
    let enough = 2 * clients as u64;
    let (sampled, counted) = thread::scope(|scope| {
        let clients: Vec<_> = (0..clients)
            .map(|_| scope.spawn(|| keep_on(proxy, handshake, &stage, [&ready, &done])))
            .collect();
        // On a busy machine a short time may be without any CPU.
        let await_count = |count: &AtomicU64, enough| {
            let started = Instant::now();
            while count.load(Ordering::Relaxed) < enough && started.elapsed() < PATIENCE {
                thread::sleep(PAUSE);
            }
        };
        let mut measure = || {
            thread::sleep(WARM_UP);
            await_count(&ready, clients.len() as u64);
            let before = sample()?;
            let started = Instant::now();
            stage.store(COUNTING, Ordering::Relaxed);
            thread::sleep(duration);
            await_count(&done, enough);
            let after = sample()?;
            Ok((before, after, started.elapsed()))
        };
        let sampled: io::Result<_> = measure();
        stage.store(OVER, Ordering::Relaxed);
        let panicked = |_| Err(io::Error::other("a client panicked"));
        let counted: io::Result<Vec<_>> =
            clients.into_iter().map(|client| client.join().unwrap_or_else(panicked)).collect();
        (sampled, counted)
    });
    let mut load = Load::new();
    for latency in counted? {
        // They have the same bounds.
        let _ = load.latency.add(latency);
    }
    let (before, after, elapsed) = sampled?;
    (load.requests, load.elapsed) = (load.latency.len(), elapsed);
    if load.requests < enough {
        return Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "next to no handshakes came to an end",
        ));
    }
    Ok((load, before, after))
}

/// One client. The times of connections, from the connect to the response's last byte.
fn keep_on(
    proxy: SocketAddr,
    handshake: Handshake,
    stage: &AtomicU8,
    [ready, done]: [&AtomicU64; 2],
) -> io::Result<Histogram<u64>> {
    let client = Client::new(handshake, None)?;
    let wanted = if handshake.resumed { HandshakeKind::Resumed } else { HandshakeKind::Full };
    let mut latency = histogram();
    // Gets the first ticket.
    client.exchange(proxy)?;
    ready.fetch_add(1, Ordering::Relaxed);
    loop {
        let started = Instant::now();
        let kind = client.exchange(proxy)?;
        match stage.load(Ordering::Relaxed) {
            COUNTING if kind != wanted => {
                return Err(io::Error::other(format!("a handshake was {kind:?}, not {wanted:?}")));
            }
            COUNTING => {
                record(&mut latency, started.elapsed());
                done.fetch_add(1, Ordering::Relaxed);
            }
            OVER => return Ok(latency),
            _ => {}
        }
    }
}

/// Who connects over TLS.
pub(crate) struct Client {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Client {
    /// Shows the certificate of the client in `credentials`, or none.
    ///
    /// # Errors
    /// The certificate cannot be read.
    pub(crate) fn new(handshake: Handshake, credentials: Option<&Path>) -> io::Result<Self> {
        let group: &'static dyn SupportedKxGroup =
            if handshake.post_quantum { kx_group::X25519MLKEM768 } else { kx_group::X25519 };
        let provider = Arc::new(CryptoProvider {
            kx_groups: vec![group],
            cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256],
            ..default_provider()
        });
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)));
        let mut config = match credentials {
            None => builder.with_no_client_auth(),
            Some(folder) => {
                let file = folder.join(CLIENT);
                let certificate = CertificateDer::from_pem_file(&file).map_err(io::Error::other)?;
                let key = PrivateKeyDer::from_pem_file(folder.join(format!("{CLIENT}.key")))
                    .map_err(io::Error::other)?;
                builder.with_client_auth_cert(vec![certificate], key).map_err(io::Error::other)?
            }
        };
        config.resumption = match handshake.resumed {
            true => Resumption::in_memory_sessions(1),
            false => Resumption::disabled(),
        };
        let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
        Ok(Self { config: Arc::new(config), name })
    }

    /// One HTTP request on a connection of its own, which the server ends behind the response.
    ///
    /// # Errors
    /// The connection, the handshake or the response failed.
    pub(crate) fn exchange(&self, proxy: SocketAddr) -> io::Result<HandshakeKind> {
        let mut socket = TcpStream::connect_timeout(&proxy, PATIENCE)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .map_err(io::Error::other)?;
        let mut stream = Stream::new(&mut connection, &mut socket);
        let exchange = Exchange::HTTP_LAST;
        stream.write_all(exchange.request)?;
        let (mut response, mut buffer) = (exchange.response(), [0; 4096]);
        loop {
            match stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                len if response.feed(&buffer[..len]).map_err(io::Error::other)? => break,
                _ => {}
            }
        }
        // The end, with or without a close_notify.
        while stream.read(&mut buffer).is_ok_and(|len| len > 0) {}
        connection.handshake_kind().ok_or_else(|| io::Error::other("a response before a handshake"))
    }
}

/// Takes any server for who it says it is.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 was not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
