//! TLS to an upstream, by the relay.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use evenkeel::{Listener, Proxy, Relay};

use crate::{
    kernel,
    stage::{Server, echo, exchange},
};

/// A relay that speaks TLS to its upstream.
fn relay(upstream: SocketAddr, server: &Server, name: &'static str) -> (Proxy, SocketAddr) {
    let relay =
        Relay::to([upstream.to_string()]).cluster("secured").tls(server.client_credentials(name));
    let listener = Listener::bind("127.0.0.1:0").unwrap().named("plain").serve(relay);
    let builder = Proxy::builder().capabilities(kernel::capabilities()).shards(1);
    let proxy = builder.listener(listener).start().unwrap();
    let address = proxy.local_addr("plain").unwrap();
    (proxy, address)
}

#[test]
fn a_relay_speaks_tls_to_its_upstream() {
    let server = Server::new();
    let (_echo, upstream) = echo(server.credentials());
    let (_relay, address) = relay(upstream, &server, "localhost");
    let mut client = TcpStream::connect(address).unwrap();
    exchange(&mut client, b"hello");
    let bulk: Vec<u8> = (0..4_000_000u32).map(|i| (i * 7 % 251) as u8).collect();
    for piece in bulk.chunks(100_000) {
        exchange(&mut client, piece);
    }
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 0);
}

#[test]
fn an_upstream_whose_certificate_has_another_name_gets_nothing() {
    let server = Server::new();
    let (_echo, upstream) = echo(server.credentials());
    let (_relay, address) = relay(upstream, &server, "somebody.example");
    let mut client = TcpStream::connect(address).unwrap();
    let _ = client.write_all(b"hello");
    assert!(matches!(client.read(&mut [0; 16]), Err(_) | Ok(0)));
}
