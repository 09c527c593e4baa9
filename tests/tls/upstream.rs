//! TLS to an upstream, by the relay.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use crate::stage::{Server, echo, exchange, relay};

#[test]
fn a_relay_speaks_tls_to_its_upstream() {
    let server = Server::new();
    let (_echo, upstream) = echo(server.credentials());
    let (_relay, address) = relay(upstream, server.client_credentials("localhost"));
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
    let (_relay, address) = relay(upstream, server.client_credentials("somebody.example"));
    let mut client = TcpStream::connect(address).unwrap();
    let _ = client.write_all(b"hello");
    assert!(matches!(client.read(&mut [0; 16]), Err(_) | Ok(0)));
}
