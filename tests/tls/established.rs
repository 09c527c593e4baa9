//! What an established connection carries.

use std::io::{ErrorKind, Read, Write};

use rustls::{
    CipherSuite,
    crypto::{CryptoProvider, aws_lc_rs},
    version::{TLS12, TLS13},
};

use crate::stage::{Server, client, echo, exchange};

fn bytes(count: usize) -> Vec<u8> {
    (0..count as u32).map(|i| (i * 7 % 251) as u8).collect()
}

#[test]
fn every_cipher_suite_carries_messages_and_bulk() {
    let server = Server::new();
    let (_proxy, address) = echo(server.credentials());
    for suite in aws_lc_rs::ALL_CIPHER_SUITES {
        if format!("{suite:?}").contains("_RSA_") {
            // The certificate's key is an ECDSA one.
            continue;
        }
        let provider =
            CryptoProvider { cipher_suites: vec![*suite], ..aws_lc_rs::default_provider() };
        let mut roots = rustls::RootCertStore::empty();
        roots.add(server.certificate.clone()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(provider.into())
            .with_protocol_versions(&[suite.version()])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut client = client(address, config);
        exchange(&mut client, b"hello");
        assert_eq!(client.conn.negotiated_cipher_suite().unwrap().suite(), suite.suite());
        for size in [0, 1, 1369, 1370, 4096, 16_384, 16_385, 60_000] {
            exchange(&mut client, &bytes(size));
        }
    }
    assert_ne!(aws_lc_rs::ALL_CIPHER_SUITES[0].suite(), CipherSuite::Unknown(0));
}

#[test]
fn bulk_goes_both_ways_at_once() {
    let server = Server::new();
    let (_proxy, address) = echo(server.credentials());
    for version in [&TLS12, &TLS13] {
        let mut client = client(address, server.client(&[version]));
        let sent = bytes(16 << 20);
        let mut got = Vec::new();
        for piece in sent.chunks(256 << 10) {
            // Less than what socket buffers hold is on its way at any time.
            client.write_all(piece).unwrap();
            client.flush().unwrap();
            let mut part = vec![0; piece.len()];
            client.read_exact(&mut part).unwrap();
            got.extend_from_slice(&part);
        }
        assert!(got == sent);
    }
}

#[test]
fn the_end_is_a_close_notify_in_both_directions() {
    let server = Server::new();
    let (_proxy, address) = echo(server.credentials());
    for version in [&TLS12, &TLS13] {
        let mut client = client(address, server.client(&[version]));
        exchange(&mut client, b"hello");
        client.conn.send_close_notify();
        client.flush().unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
    }
}

#[test]
fn an_end_without_a_close_notify_is_an_error_to_the_service() {
    let server = Server::new();
    let (_proxy, address) = echo(server.credentials());
    let mut client = client(address, server.client(&[&TLS13]));
    exchange(&mut client, b"hello");
    client.sock.shutdown(std::net::Shutdown::Write).unwrap();
    // The echo ends its direction only after an end in order.
    let error = client.read_to_end(&mut Vec::new()).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset),
        "{error}"
    );
}

#[test]
fn keys_are_changed_when_the_peer_asks() {
    let server = Server::new();
    let (_proxy, address) = echo(server.credentials());
    let mut client = client(address, server.client(&[&TLS13]));
    for round in 0..100 {
        exchange(&mut client, &bytes(round * 31));
        client.conn.refresh_traffic_keys().unwrap();
    }
}

#[test]
fn a_session_is_resumed_by_the_next_connection() {
    let server = Server::new();
    let (_proxy, address) = echo(server.credentials());
    for version in [&TLS12, &TLS13] {
        let config = server.client(&[version]);
        let mut first = client(address, config.clone());
        exchange(&mut first, b"hello");
        assert_eq!(first.conn.handshake_kind(), Some(rustls::HandshakeKind::Full));
        let mut second = client(address, config);
        exchange(&mut second, b"hello");
        assert_eq!(second.conn.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
    }
}
