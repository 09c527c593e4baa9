//! A proxy, origins and clients to put into trouble.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use evenkeel::{Builder, Listener, Proxy, Relay, ring::Capabilities};
use socket2::SockRef;

/// The name of the listener, and of the cluster behind it.
pub(crate) const NAME: &str = "plain";

/// A proxy that uses no more of io_uring than the kernel that EVENKEEL_KERNEL names.
pub(crate) fn builder() -> Builder {
    let mask = match std::env::var("EVENKEEL_KERNEL").as_deref() {
        Ok("6.1") => Capabilities::LINUX_6_1,
        Ok("6.12") => Capabilities::LINUX_6_12,
        Ok(other) => panic!("EVENKEEL_KERNEL is {other:?}: write 6.1 or 6.12"),
        Err(_) => Capabilities::ALL,
    };
    Proxy::builder().capabilities(mask)
}

pub(crate) fn listen() -> Listener {
    Listener::bind("127.0.0.1:0").unwrap().named(NAME)
}

pub(crate) fn to(origins: &[SocketAddr]) -> Relay {
    Relay::to(origins.iter().map(SocketAddr::to_string)).cluster(NAME)
}

/// A proxy with one listener, and the address of that.
pub(crate) fn start(shards: usize, relay: Relay) -> (Proxy, SocketAddr) {
    let proxy = builder().shards(shards).listener(listen().serve(relay)).start().unwrap();
    let address = proxy.local_addr(NAME).unwrap();
    (proxy, address)
}

/// Serves each connection on a thread of its own.
pub(crate) fn origin(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Echoes what each connection sends until it ends.
pub(crate) fn echo_origin() -> SocketAddr {
    origin(|mut stream| {
        let Ok(mut writer) = stream.try_clone() else { return };
        let _ = std::io::copy(&mut stream, &mut writer);
        let _ = writer.shutdown(Shutdown::Write);
    })
}

/// Accepts connections and never reads from them.
pub(crate) fn deaf_origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            kept.push(stream);
        }
    });
    address
}

/// Nobody listens there.
pub(crate) fn refusing_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A client that gives up waiting after 5 s.
pub(crate) fn client(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
}

pub(crate) fn exchange(stream: &mut TcpStream, message: &[u8]) {
    try_exchange(stream, message).unwrap();
}

pub(crate) fn try_exchange(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    stream.write_all(message)?;
    let mut answer = vec![0; message.len()];
    stream.read_exact(&mut answer)?;
    assert_eq!(answer, message, "the echo");
    Ok(())
}

/// Ends a connection by RST.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Waits until a condition holds, for at most 20 s: a busy machine is no failure.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn loads(proxy: &Proxy) -> Vec<u32> {
    proxy.shards().iter().map(|load| load.connections).collect()
}

/// Waits until nothing counts as open any more: loads, downstream and upstream connections.
pub(crate) fn assert_quiet(proxy: &Proxy) {
    let shards = 0..proxy.shards().len();
    eventually("every load is zero", || loads(proxy).iter().all(|load| *load == 0));
    let registry = proxy.registry();
    eventually("no connection counts as active", || {
        shards.clone().all(|shard| {
            registry.listener(NAME, shard).active.value() == 0
                && registry.cluster(NAME, shard).active.value() == 0
        })
    });
}
