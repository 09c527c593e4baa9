//! TLS and no TLS on one port, and what comes in pieces, too early or not at all.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use evenkeel::{
    Connection, Listener, Proxy,
    shard::Shard,
    telemetry::{HandshakeFailure, HandshakeResult},
    tls,
};
use rustls::{
    AlertDescription, ClientConnection, Error, StreamOwned, pki_types::ServerName, version::TLS13,
};

use crate::{
    kernel,
    stage::{Server, client, echo, eventually, exchange, send_back},
};

const WITHIN: Duration = Duration::from_millis(400);

fn plain(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// A proxy that sends back what comes, with or without TLS.
fn permissive(server: &Server) -> (Proxy, SocketAddr) {
    let service = tls::terminate(server.credentials(), |_: &Shard| send_back).permissive(WITHIN);
    let listener = Listener::bind("127.0.0.1:0").unwrap().named("echo").serve(service);
    let builder = Proxy::builder().capabilities(kernel::capabilities()).shards(1);
    let proxy = builder.listener(listener).start().unwrap();
    let address = proxy.local_addr("echo").unwrap();
    (proxy, address)
}

#[test]
fn plaintext_and_tls_are_served_on_one_port() {
    let server = Server::new();
    let (proxy, address) = permissive(&server);
    exchange(&mut plain(address), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    exchange(&mut client(address, server.client(&[&TLS13])), b"hello");
    // What merely looks like it at first is none.
    exchange(&mut plain(address), b"\x16\x02 is no record");
    let rubbish: Vec<u8> = (0..64 << 10).map(|i: u32| (i * 31 % 255) as u8).collect();
    exchange(&mut plain(address), &rubbish);
    let cells = proxy.registry().tls_listener("echo", 0);
    assert_eq!(cells.results.value(HandshakeResult::Full), 1);
    assert_eq!(cells.results.value(HandshakeResult::Failed), 0);
}

#[test]
fn one_byte_and_then_nothing_is_plaintext_in_time() {
    let (_proxy, address) = permissive(&Server::new());
    let mut stream = plain(address);
    let begun = Instant::now();
    exchange(&mut stream, b"\x16");
    assert!(begun.elapsed() >= WITHIN && begun.elapsed() < WITHIN * 20);
    exchange(&mut stream, b"\x03\x01 and so on");
}

#[test]
fn a_server_that_speaks_first_does() {
    let server = Server::new();
    let greets = |_: &Shard| {
        async |mut connection: Connection| {
            connection.start_send("welcome").unwrap();
            send_back(connection).await;
        }
    };
    let service = tls::terminate(server.credentials(), greets).permissive(WITHIN);
    let listener = Listener::bind("127.0.0.1:0").unwrap().named("greets").serve(service);
    let builder = Proxy::builder().capabilities(kernel::capabilities()).shards(1);
    let proxy = builder.listener(listener).start().unwrap();
    let address = proxy.local_addr("greets").unwrap();
    let mut stream = plain(address);
    let mut secured = client(address, server.client(&[&TLS13]));
    // The one that waits for the server is not to hold up the one that does not.
    for stream in [&mut secured as &mut dyn Read, &mut stream] {
        let mut greeting = [0; 7];
        stream.read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting, b"welcome");
    }
    exchange(&mut stream, b"EHLO");
}

/// A client, and the records of its ClientHello.
fn hello(server: &Server) -> (ClientConnection, Vec<u8>) {
    let name = ServerName::try_from("localhost").unwrap();
    let config = Arc::new(server.client(&[&TLS13]));
    let mut connection = ClientConnection::new(config, name).unwrap();
    let mut records = Vec::new();
    connection.write_tls(&mut records).unwrap();
    (connection, records)
}

/// The same message in records of at most so many bytes.
fn in_records_of(longest: usize, record: &[u8]) -> Vec<u8> {
    let pieces = record[5..].chunks(longest);
    pieces
        .flat_map(|piece| {
            let length = (piece.len() as u16).to_be_bytes();
            [&record[..3], &length[..], piece].concat()
        })
        .collect()
}

#[test]
fn a_client_hello_may_come_byte_by_byte_and_in_many_records() {
    let server = Server::new();
    let strict = echo(server.credentials());
    let (permissive, address) = permissive(&server);
    for address in [strict.1, address] {
        for longest in [1 << 14, 100, 7] {
            let (connection, record) = hello(&server);
            let mut stream = plain(address);
            for byte in in_records_of(longest, &record).chunks(1) {
                stream.write_all(byte).unwrap();
                thread::sleep(Duration::from_micros(50));
            }
            exchange(&mut StreamOwned::new(connection, stream), b"hello");
        }
    }
    let cells = permissive.registry().tls_listener("echo", 0);
    assert_eq!(cells.results.value(HandshakeResult::Full), 3);
}

/// All that comes until the end, however that is.
fn rest(mut stream: TcpStream) -> Vec<u8> {
    let _ = stream.shutdown(Shutdown::Write);
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => rest,
    }
}

#[test]
fn rubbish_in_place_of_a_handshake_gets_an_alert_and_nothing_else() {
    let server = Server::new();
    let (strict, strict_address) = echo(server.credentials());
    let (permissive, permissive_address) = permissive(&server);
    let long = [&b"\x16\x03\x01\x40\x00"[..], &[0x5a; 64 << 10]].concat();
    for (proxy, address, rubbish) in [
        (&strict, strict_address, &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..]),
        (&strict, strict_address, &long),
        (&permissive, permissive_address, &long),
    ] {
        let cells = proxy.registry().tls_listener("echo", 0);
        let before = cells.failures.value(HandshakeFailure::Protocol);
        let mut stream = plain(address);
        let _ = stream.write_all(rubbish);
        let got = rest(stream);
        assert!(got.is_empty() || got[0] == 21, "no alert: {got:?}");
        eventually("it is counted", || {
            cells.failures.value(HandshakeFailure::Protocol) == before + 1
        });
    }
}

/// What an attacker puts in front of a client's handshake, or in the middle of it, must be neither
/// answered nor taken for what the client says later.
#[test]
fn plaintext_around_a_handshake_is_refused() {
    let server = Server::new();
    let (proxy, address) = echo(server.credentials());
    let data = b"\x17\x03\x03\x00\x06inject";
    let (_, record) = hello(&server);
    let cells = proxy.registry().tls_listener("echo", 0);
    for (count, injected) in
        [[&data[..], &record].concat(), [&record, &data[..]].concat()].into_iter().enumerate()
    {
        let mut stream = plain(address);
        stream.write_all(&injected).unwrap();
        let got = rest(stream);
        assert!(!got.windows(6).any(|bytes| bytes == b"inject"));
        eventually("it is counted", || {
            cells.failures.value(HandshakeFailure::Protocol) == count as u64 + 1
        });
        assert_eq!(cells.results.value(HandshakeResult::Failed), count as u64 + 1);
    }
}

#[test]
fn plaintext_behind_a_handshake_ends_the_connection() {
    let server = Server::new();
    let (_proxy, address) = echo(server.credentials());
    for injected in [&b"\x17\x03\x03\x00\x20............ inject ............"[..], b"inject me"] {
        let mut client = client(address, server.client(&[&TLS13]));
        exchange(&mut client, b"hello");
        client.sock.write_all(injected).unwrap();
        let error = client.read(&mut [0; 64]).unwrap_err();
        let alert = error.downcast::<Error>().unwrap();
        assert!(
            matches!(
                alert,
                Error::AlertReceived(
                    AlertDescription::BadRecordMac
                        | AlertDescription::DecodeError
                        | AlertDescription::UnexpectedMessage
                        | AlertDescription::ProtocolVersion
                )
            ),
            "{alert}"
        );
    }
}
