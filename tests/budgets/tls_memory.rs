//! What an idle connection costs in user space when its client speaks TLS.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
};

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, pki_types::ServerName};

use crate::process::{RelayProcess, possible, raise_file_limit};

/// Bytes.
const BUDGET: u64 = 6 << 10;
const CONNECTIONS: usize = 1000;

type Client = StreamOwned<ClientConnection, TcpStream>;

/// A relayed connection that has carried a message each way.
fn open(relay: &RelayProcess, config: &Arc<ClientConfig>) -> (Client, TcpStream) {
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(relay.address).unwrap();
    let mut client =
        StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), stream);
    client.write_all(b"ping").unwrap();
    client.flush().unwrap();
    let (mut origin, _) = relay.upstream.accept().unwrap();
    origin.read_exact(&mut [0; 4]).unwrap();
    origin.write_all(b"pong").unwrap();
    client.read_exact(&mut [0; 4]).unwrap();
    (client, origin)
}

#[test]
fn an_idle_tls_connection_costs_little_memory() {
    if !possible(None) {
        return;
    }
    raise_file_limit();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let pem = made.cert.pem() + &made.signing_key.serialize_pem();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(evenkeel::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    let relay = RelayProcess::start_tls(2, &pem);
    let open_some =
        |count: usize| -> Vec<_> { (0..count).map(|_| open(&relay, &config)).collect() };
    // What is paid once.
    let first = open_some(100);
    let before = relay.anonymous_memory();
    let idle = open_some(CONNECTIONS);
    let grown = relay.anonymous_memory().saturating_sub(before);
    let each = grown / CONNECTIONS as u64;
    assert!(each > 0, "so many connections cannot cost nothing");
    assert!(each <= BUDGET, "an idle TLS connection costs {each} bytes of at most {BUDGET}");
    println!("an idle TLS connection costs {each} bytes");
    drop((first, idle));
}
