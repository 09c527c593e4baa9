//! The stage of these tests: a pod with a proxy, its neighbours, and what they say to each other.
//!
//! The client is 10.77.0.2 and fd77::2, the pod 10.77.0.1 and fd77::1 towards it. Where there is a server behind the pod,
//! it is 10.78.0.2 and fd78::2, and the pod 10.78.0.1 and fd78::1 towards it. Everybody's default route leads to the pod.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use evenkeel::{
    Builder, Proxy,
    telemetry::{LookupResult, RejectReason},
};

use crate::{
    kernel,
    netns::{End, Namespace, connect},
    origin,
};

/// Far above what these machines take, far below what a reader of test output would wait for.
const PATIENCE: Duration = Duration::from_secs(5);

/// The mark of the proxy's own connections.
pub(crate) const MARK: u32 = 1337;

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// A client's namespace and the pod's.
pub(crate) fn client_and_pod() -> (Namespace, Namespace) {
    let (client, pod) = (Namespace::new(), Namespace::new());
    connect(
        &End { namespace: &client, interface: "eth0", addresses: &["10.77.0.2/24", "fd77::2/64"] },
        &End { namespace: &pod, interface: "client0", addresses: &["10.77.0.1/24", "fd77::1/64"] },
    );
    client.commands(&["ip route add default via 10.77.0.1", "ip -6 route add default via fd77::1"]);
    (client, pod)
}

/// A server's namespace behind the pod.
pub(crate) fn server_behind(pod: &Namespace) -> Namespace {
    let server = Namespace::new();
    connect(
        &End { namespace: &server, interface: "eth0", addresses: &["10.78.0.2/24", "fd78::2/64"] },
        &End { namespace: pod, interface: "server0", addresses: &["10.78.0.1/24", "fd78::1/64"] },
    );
    server.commands(&["ip route add default via 10.78.0.1", "ip -6 route add default via fd78::1"]);
    server
}

/// Serves a port of all addresses in `namespace`, until the process ends: says the address that it was reached at and
/// who called, then echoes.
pub(crate) fn serve(namespace: &Namespace, port: u16) {
    let any = SocketAddr::from(([0; 8], port));
    let listener = namespace.run(|| TcpListener::bind(any).unwrap());
    origin::serve(listener, |stream| {
        let _ = greet(&stream).and_then(|()| origin::echo(stream));
    });
}

fn greet(mut stream: &TcpStream) -> io::Result<()> {
    let (at, from) = (stream.local_addr()?, stream.peer_addr()?.ip().to_canonical());
    let at = SocketAddr::new(at.ip().to_canonical(), at.port());
    writeln!(stream, "{}", answer(at, from))
}

fn answer(at: SocketAddr, from: IpAddr) -> String {
    format!("{at} reached from {from}")
}

/// What a server at `at` says to `from`.
pub(crate) fn reached(at: &str, from: &str) -> String {
    answer(at.parse().unwrap(), from.parse().unwrap())
}

pub(crate) fn dial(namespace: &Namespace, destination: &str) -> TcpStream {
    namespace.run(|| dial_from_here(destination))
}

/// Dials from the namespace, and as the user, of this thread.
fn dial_from_here(destination: &str) -> TcpStream {
    let stream = TcpStream::connect_timeout(&at(destination), PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads a server's first line.
pub(crate) fn first_line(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte).unwrap();
        match byte[0] {
            b'\n' => return String::from_utf8(line).unwrap(),
            byte => line.push(byte),
        }
    }
}

/// Reads the server's first line, then sends bytes that must come back, and ends the connection in both directions.
fn converse(mut stream: TcpStream) -> String {
    let line = first_line(&mut stream);
    let message: Vec<u8> =
        (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut echoed = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = &stream;
            writer.write_all(&message).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        (&stream).read_to_end(&mut echoed).unwrap();
    });
    assert!(echoed == message, "{} bytes came back as {} others", message.len(), echoed.len());
    line
}

/// Dials, and has what the server says.
pub(crate) fn visit(namespace: &Namespace, destination: &str) -> String {
    converse(dial(namespace, destination))
}

/// [`visit`], from the namespace, and as the user, of this thread.
pub(crate) fn visit_from_here(destination: &str) -> String {
    converse(dial_from_here(destination))
}

/// Dials, and must be closed without a byte.
pub(crate) fn visit_in_vain(namespace: &Namespace, destination: &str) {
    let mut stream = dial(namespace, destination);
    match stream.read(&mut [0]) {
        Ok(0) => {}
        Ok(_) => panic!("{destination} answered"),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{destination}"),
    }
}

/// A proxy inside a namespace.
pub(crate) fn start(namespace: &Namespace, builder: Builder) -> Proxy {
    namespace.run(|| builder.capabilities(kernel::capabilities()).start().unwrap())
}

pub(crate) fn loads(proxy: &Proxy) -> Vec<u32> {
    proxy.shards().iter().map(|load| load.connections).collect()
}

/// How many lookups of a listener ended so.
pub(crate) fn lookups(proxy: &Proxy, listener: &str, result: LookupResult) -> u64 {
    let shards = 0..proxy.shards().len();
    let of = |shard| proxy.registry().listener(listener, shard).lookups.value(result);
    shards.map(of).sum()
}

/// How many connections of a listener were refused for this reason.
pub(crate) fn rejected(proxy: &Proxy, listener: &str, reason: RejectReason) -> u64 {
    let shards = 0..proxy.shards().len();
    let of = |shard| proxy.registry().listener(listener, shard).rejected.value(reason);
    shards.map(of).sum()
}

/// How many connections of a listener were served.
pub(crate) fn served(proxy: &Proxy, listener: &str) -> u64 {
    proxy.registry().listener_shards(listener).iter().map(|shard| shard.total).sum()
}

/// How many connections the kernel handed over for a listener.
pub(crate) fn accepted(proxy: &Proxy, listener: &str) -> u64 {
    proxy.registry().accept(listener, 0).accepts.value()
}

/// How many connections were made to a cluster.
pub(crate) fn connected(proxy: &Proxy, cluster: &str) -> u64 {
    let shards = 0..proxy.shards().len();
    shards.map(|shard| proxy.registry().cluster(cluster, shard).connections.value()).sum()
}

/// Waits until nothing counts as open any more, on shards, listeners and clusters.
pub(crate) fn at_rest(proxy: &Proxy, listeners: &[&str], clusters: &[&str]) {
    let shards = proxy.shards().len();
    let registry = proxy.registry();
    let open = || {
        let listeners = listeners
            .iter()
            .flat_map(|name| registry.listener_shards(name))
            .map(|shard| shard.active)
            .sum::<i64>();
        let clusters = clusters
            .iter()
            .flat_map(|name| (0..shards).map(|shard| registry.cluster(name, shard).active.value()))
            .sum::<i64>();
        (loads(proxy), listeners, clusters)
    };
    let deadline = Instant::now() + PATIENCE;
    while open() != (vec![0; shards], 0, 0) {
        assert!(Instant::now() < deadline, "still open: {:?}", open());
        thread::sleep(Duration::from_millis(5));
    }
}
