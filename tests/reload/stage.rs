//! A proxy on loopback, origins behind it, and clients.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use evenkeel::{Builder, Listener, Proxy, Relay};

/// A builder of a proxy with two shards.
pub(crate) fn two_shards() -> Builder {
    Proxy::builder().shards(2)
}

/// Greets each connection, then holds it until the client ends it.
pub(crate) fn origin(greeting: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let _ = writeln!(stream, "{greeting}");
                let _ = stream.read(&mut [0]);
            });
        }
    });
    address
}

pub(crate) fn relay(origin: SocketAddr) -> Relay {
    Relay::to([origin.to_string()]).cluster("origin")
}

/// A listener on a port of the kernel's choice.
pub(crate) fn listener(name: &str) -> Listener {
    Listener::bind("127.0.0.1:0").unwrap().named(name)
}

pub(crate) fn address(proxy: &Proxy, listener: &str) -> SocketAddr {
    proxy.local_addr(listener).unwrap()
}

/// A client that was greeted, and the greeting; `None`: it was closed instead.
pub(crate) fn visit(address: SocketAddr) -> Option<(TcpStream, String)> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut greeting = Vec::new();
    let mut byte = [0];
    loop {
        match stream.read(&mut byte) {
            Ok(1) if byte[0] == b'\n' => {
                return Some((stream, String::from_utf8(greeting).unwrap()));
            }
            Ok(1) => greeting.push(byte[0]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                panic!("neither greeted nor closed")
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            _ => return None,
        }
    }
}

pub(crate) fn greeting(address: SocketAddr) -> Option<String> {
    visit(address).map(|(_, greeting)| greeting)
}

pub(crate) fn loads(proxy: &Proxy) -> Vec<u32> {
    proxy.shards().iter().map(|load| load.connections).collect()
}

/// Waits until a condition holds, for at most 20 s: a busy machine is no failure.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
