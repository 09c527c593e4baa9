//! Certificates are replaced under connections that are in use.

use std::{
    collections::HashSet,
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use evenkeel::{
    Connection, Listener, Proxy, Relay, ServiceFactory,
    http::{self, Answer, Filter, Flow, RequestHead, Routes},
    shard::Shard,
    telemetry::CloseReason,
    tls::{
        self, ClientCredentials, ServerCredentials,
        credentials::{ClientSettings, OwnCertificate, Reloaded, ServerSettings, Source},
    },
    upstream::{cluster::Cluster, settings::ClusterSettings},
};
use rustls::{
    ClientConfig, ClientConnection, StreamOwned,
    version::{TLS12, TLS13},
};

use crate::{
    authority::{Authority, Issued},
    kernel,
    stage::{self, eventually, exchange},
};

const ID: &str = "spiffe://td/proxy";
const SOON: Option<Duration> = Some(Duration::from_millis(100));

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A certificate in files, which another takes the place of.
struct Rotating {
    authority: Authority,
    folder: tempfile::TempDir,
    shown: Mutex<Issued>,
}

impl Rotating {
    fn new() -> Rotating {
        let authority = Authority::new("the authority");
        let shown = Mutex::new(authority.identity(ID));
        let rotating = Rotating { authority, folder: tempfile::tempdir().unwrap(), shown };
        rotating.write();
        rotating
    }

    fn write(&self) {
        let shown = self.shown.lock().unwrap();
        fs::write(self.folder.path().join("own.pem"), &shown.pem).unwrap();
        fs::write(self.folder.path().join("own.key"), &shown.key_pem).unwrap();
    }

    fn issue(&self) {
        *self.shown.lock().unwrap() = self.authority.identity(ID);
        self.write();
    }

    fn sha256(&self) -> String {
        tls::Certificate::read(&self.shown.lock().unwrap().certificate).unwrap().sha256()
    }

    fn own(&self) -> OwnCertificate {
        let path = |name: &str| Source::file(self.folder.path().join(name));
        OwnCertificate { certificate: path("own.pem"), key: path("own.key") }
    }

    fn server(&self, drain_after: Option<Duration>) -> ServerCredentials {
        let mut settings = ServerSettings::new(self.own());
        settings.drain_after = drain_after;
        ServerCredentials::load("server", settings).unwrap()
    }

    fn client(&self, drain_after: Option<Duration>) -> ClientCredentials {
        let mut settings = ClientSettings::new(self.authority.trust());
        settings.server_name = Some("localhost".try_into().unwrap());
        settings.own = Some(self.own());
        settings.drain_after = drain_after;
        ClientCredentials::load("client", settings).unwrap()
    }

    /// A server that asks for certificates, and is not replaced itself.
    fn strict(&self) -> ServerCredentials {
        let mut settings = ServerSettings::new(self.authority.identity("spiffe://td/b").own());
        settings.clients = Some(self.authority.trust());
        ServerCredentials::load("strict", settings).unwrap()
    }

    fn connect(&self, address: SocketAddr) -> Tls {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let config = ClientConfig::builder_with_provider(provider.into())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .unwrap()
            .with_root_certificates(self.authority.roots())
            .with_no_client_auth();
        stage::client(address, config)
    }
}

fn serve(name: &str, service: impl ServiceFactory) -> (Proxy, SocketAddr) {
    let listener = Listener::bind("127.0.0.1:0").unwrap().named(name).serve(service);
    let builder = Proxy::builder().capabilities(kernel::capabilities()).shards(1);
    let proxy = builder.listener(listener).start().unwrap();
    let address = proxy.local_addr(name).unwrap();
    (proxy, address)
}

fn closed(proxy: &Proxy, listener: &str) -> u64 {
    proxy.registry().listener(listener, 0).closed.value(CloseReason::Drain)
}

/// Sends back what comes, without TLS.
fn plain_echo() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let ended = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&ended);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let count = Arc::clone(&count);
            thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(length @ 1..) = stream.read(&mut bytes) {
                    if stream.write_all(&bytes[..length]).is_err() {
                        break;
                    }
                }
                count.fetch_add(1, Relaxed);
            });
        }
    });
    (address, ended)
}

#[test]
fn relayed_connections_end_in_order_some_time_after_a_rotation() {
    let files = Rotating::new();
    let (upstream, ended) = plain_echo();
    let (draining, staying) = (files.server(SOON), files.server(None));
    let relay = || Relay::to([upstream.to_string()]);
    let (proxy, address) = serve("drains", tls::terminate(draining.clone(), relay()));
    let (_stays, other) = serve("stays", tls::terminate(staying.clone(), relay()));
    let mut old = files.connect(address);
    let mut kept = files.connect(other);
    exchange(&mut old, b"before");
    exchange(&mut kept, b"before");
    files.issue();
    assert_eq!(draining.reload().unwrap(), Reloaded::Replaced);
    assert_eq!(staying.reload().unwrap(), Reloaded::Replaced);
    let mut new = files.connect(address);
    exchange(&mut new, b"behind");
    // In its time it goes on as before.
    exchange(&mut old, b"after");
    assert_eq!(old.read(&mut [0; 16]).expect("a close_notify"), 0);
    eventually("the upstream is told as well", || ended.load(Relaxed) == 1);
    assert_eq!(closed(&proxy, "drains"), 1);
    exchange(&mut kept, b"for as long as it likes");
    exchange(&mut new, b"likewise");
}

#[test]
fn so_do_those_whose_upstream_knows_the_old_certificate() {
    let files = Rotating::new();
    let ended = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&ended);
    let echo = move |_: &Shard| {
        let count = Arc::clone(&count);
        move |mut connection: Connection| {
            let count = Arc::clone(&count);
            async move {
                while let Ok(received) = connection.receive().await {
                    let Some(chunk) = received else {
                        count.fetch_add(1, Relaxed);
                        return;
                    };
                    connection.start_send(chunk).unwrap();
                }
            }
        }
    };
    let (_upstream, upstream) = serve("strict", tls::terminate(files.strict(), echo));
    let credentials = files.client(SOON);
    let relay = Relay::to([upstream.to_string()]).tls(credentials.clone());
    let (proxy, address) = serve("plain", relay);
    let mut client = TcpStream::connect(address).unwrap();
    exchange(&mut client, b"before");
    files.issue();
    assert_eq!(credentials.reload().unwrap(), Reloaded::Replaced);
    assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 0);
    assert_eq!(closed(&proxy, "plain"), 1);
    eventually("it ended with a close_notify", || ended.load(Relaxed) == 1);
}

#[test]
fn a_relay_that_never_pauses_is_cut_and_nobody_takes_that_for_the_end() {
    let files = Rotating::new();
    let (upstream, _) = plain_echo();
    let credentials = files.server(SOON);
    let (proxy, address) =
        serve("drains", tls::terminate(credentials.clone(), Relay::to([upstream.to_string()])));
    let mut client = files.connect(address);
    exchange(&mut client, b"before");
    files.issue();
    credentials.reload().unwrap();
    let begun = Instant::now();
    let error = loop {
        let told = client.write_all(b"on and on").and_then(|()| client.flush());
        let heard = told.and_then(|()| client.read(&mut [0; 64]));
        match heard {
            Ok(0) => panic!("an end in order"),
            Ok(_) => thread::sleep(Duration::from_millis(5)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => break error,
        }
    };
    assert!(begun.elapsed() > Duration::from_secs(1), "{error}");
    eventually("it counts", || closed(&proxy, "drains") == 1);
}

/// Tells each client which certificate it has shown.
struct WhoIsIt;

impl Filter for WhoIsIt {
    type State = ();

    async fn request(&self, _: &mut RequestHead, from: &Connection, (): &mut ()) -> Flow {
        let shown = from.tls().unwrap().peer().unwrap().certificate().sha256();
        Flow::Answer(Answer::status(200).body("text/plain", shown))
    }
}

/// Two proxies in a row with TLS in front of each, of which the first has the certificate that is
/// replaced.
struct Chain {
    files: Rotating,
    downstream: ServerCredentials,
    upstream: ClientCredentials,
    first: Proxy,
    address: SocketAddr,
    _second: Proxy,
}

impl Chain {
    fn new(drain_after: Option<Duration>) -> Chain {
        let files = Rotating::new();
        let nobody = ClusterSettings::builder("nobody").endpoint("127.0.0.1:1").build().unwrap();
        let nobody = Routes::to(Cluster::new(nobody, Instant::now(), 1));
        let origin = http::proxy(nobody).filter(|_: &Shard| WhoIsIt);
        let (_second, origin) = serve("strict", tls::terminate(files.strict(), origin));
        let (downstream, upstream) = (files.server(drain_after), files.client(drain_after));
        let cluster = ClusterSettings::builder("second").endpoint(&origin.to_string());
        let cluster = cluster.tls(upstream.clone()).pool_idle(None).build().unwrap();
        let web = http::proxy(Routes::to(Cluster::new(cluster, Instant::now(), 1)));
        let (first, address) = serve("web", tls::terminate(downstream.clone(), web));
        Chain { files, downstream, upstream, first, address, _second }
    }

    fn rotate(&self) {
        self.files.issue();
        assert_eq!(self.downstream.reload().unwrap(), Reloaded::Replaced);
        assert_eq!(self.upstream.reload().unwrap(), Reloaded::Replaced);
    }

    fn client(&self) -> Client {
        Client { stream: BufReader::new(self.files.connect(self.address)) }
    }
}

struct Client {
    stream: BufReader<Tls>,
}

/// What a client got: who its proxy was to the origin, and whether its connection goes on.
struct Told {
    shown: String,
    goes_on: bool,
}

impl Client {
    fn ask(&mut self) -> Told {
        let tls = self.stream.get_mut();
        tls.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        tls.flush().unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.stream.read_line(&mut head).unwrap(), 0, "cut in {head:?}");
        }
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let mut shown = vec![0; 64];
        self.stream.read_exact(&mut shown).unwrap();
        let goes_on = !head.to_ascii_lowercase().contains("connection: close");
        Told { shown: String::from_utf8(shown).unwrap(), goes_on }
    }

    fn server(&mut self) -> String {
        let certificates = self.stream.get_ref().conn.peer_certificates().unwrap();
        tls::Certificate::read(&certificates[0]).unwrap().sha256()
    }
}

/// Clients that ask all the time, for as long as `meanwhile` takes. How often they had to connect, and
/// what they have seen of the proxy last: as their server, and as the origin's client.
fn load(chain: &Chain, meanwhile: impl FnOnce()) -> (u64, HashSet<(String, String)>) {
    let (stop, connects) = (AtomicBool::new(false), AtomicU64::new(0));
    let last = thread::scope(|scope| {
        let ask = || {
            let mut client = chain.client();
            connects.fetch_add(1, Relaxed);
            loop {
                let told = client.ask();
                if stop.load(Relaxed) {
                    return (client.server(), told.shown);
                }
                if !told.goes_on {
                    assert_eq!(client.stream.read(&mut [0]).expect("a close_notify"), 0);
                    client = chain.client();
                    connects.fetch_add(1, Relaxed);
                }
            }
        };
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        thread::sleep(Duration::from_millis(100));
        meanwhile();
        stop.store(true, Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    (connects.load(Relaxed), last)
}

#[test]
fn a_rotation_with_a_drain_under_load_loses_no_request() {
    let chain = Chain::new(SOON);
    let mut idle = chain.client();
    assert!(idle.ask().goes_on);
    let (connects, last) = load(&chain, || {
        for _ in 0..3 {
            chain.rotate();
            thread::sleep(Duration::from_millis(600));
        }
        // Time enough for the slowest, on a busy machine too.
        thread::sleep(Duration::from_secs(1));
    });
    assert!((8..=16).contains(&connects), "{connects}: once more after a rotation");
    let current = chain.files.sha256();
    assert_eq!(last, HashSet::from([(current.clone(), current)]));
    assert_eq!(idle.stream.read(&mut [0]).expect("a close_notify"), 0);
    eventually("it counts", || closed(&chain.first, "web") == 1);
}

#[test]
fn a_rotation_without_one_ends_no_connection() {
    let chain = Chain::new(None);
    let before = chain.files.sha256();
    let mut alone = chain.client();
    assert_eq!(alone.ask().shown, before);
    chain.rotate();
    thread::sleep(Duration::from_millis(1500));
    let told = alone.ask();
    assert!(told.goes_on);
    assert_eq!(told.shown, before, "the upstream connection is used again as well");
    let between = chain.files.sha256();
    let (connects, last) = load(&chain, || {
        chain.rotate();
        thread::sleep(Duration::from_millis(500));
    });
    assert_eq!(connects, 4);
    assert!(last.iter().all(|(server, _)| *server == between), "{last:?}");
    let mut new = chain.client();
    assert!(new.ask().goes_on);
    assert_eq!(new.server(), chain.files.sha256(), "who comes now sees the new one");
}
