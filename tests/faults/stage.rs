//! A proxy, origins and clients to put into trouble.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use evenkeel::{Builder, Listener, Proxy, Relay};
use socket2::SockRef;

use crate::kernel;

pub(crate) use crate::origin::{echo_origin, origin, refusing_address};

/// The name of the listener, and of the cluster behind it.
pub(crate) const NAME: &str = "plain";

/// A proxy that uses no more of io_uring than the kernel that EVENKEEL_KERNEL names.
pub(crate) fn builder() -> Builder {
    Proxy::builder().capabilities(kernel::capabilities())
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
