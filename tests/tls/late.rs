//! A server of TLS 1.3 that refuses our certificate when the handshake is over for us already.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use evenkeel::{
    Listener, Proxy, Relay, ServiceFactory,
    http::{self, Routes},
    telemetry::{
        HandshakeFailure, HandshakeResult,
        access_log::{AccessLog, Format},
    },
    tls::{
        ClientCredentials,
        credentials::{ClientSettings, Version},
    },
    upstream::{cluster::Cluster, retry::RetryPolicy, settings::ClusterSettings},
};
use serde_json::Value;

use crate::{
    authority::Authority,
    kernel,
    others::{Files, Running, free, have, openssl},
    stage::eventually,
};

const LONG: Duration = Duration::from_secs(20);

fn serve(service: impl ServiceFactory) -> (Proxy, SocketAddr) {
    let listener = Listener::bind("127.0.0.1:0").unwrap().named("plain").serve(service);
    let builder = Proxy::builder().capabilities(kernel::capabilities()).shards(1);
    let proxy = builder.listener(listener).start().unwrap();
    let address = proxy.local_addr("plain").unwrap();
    (proxy, address)
}

/// OpenSSL's server, which takes the certificates of the authority in `files` only.
fn strict(files: &Files, version: &str) -> (Running, SocketAddr) {
    let origin = free();
    let accept = origin.to_string();
    let arguments = [
        &["-accept", &accept, "-quiet", version, "-Verify", "1", "-verify_return_error"][..],
        &["-CAfile", "ca.pem", "-cert", "server.pem", "-key", "server.key"],
    ]
    .concat();
    let mut command = openssl("s_server", files.directory(), &arguments);
    (Running::listening(&mut command, origin), origin)
}

/// Trusts the server, and shows what it does not trust, or nothing.
fn stranger(files: &Files, shows: bool) -> ClientCredentials {
    let mut settings = ClientSettings::new(files.authority.trust());
    settings.server_name = Some("localhost".try_into().unwrap());
    let own = Authority::new("a stranger").identity("spiffe://td/stranger").own();
    settings.own = shows.then_some(own);
    settings.oldest_version = Version::Tls12;
    ClientCredentials::load("secured", settings).unwrap()
}

fn log() -> (AccessLog, Receiver<Value>) {
    let (sender, lines) = mpsc::channel();
    let log = AccessLog::to(move |written: &[u8]| {
        for line in std::str::from_utf8(written).unwrap().lines() {
            sender.send(serde_json::from_str(line).unwrap()).map_err(std::io::Error::other)?;
        }
        Ok(())
    });
    (log.unwrap().format(Format::json()), lines)
}

#[test]
fn openssl_refuses_late_and_that_is_a_handshake_that_failed() {
    if !have("openssl_refuses_late_and_that_is_a_handshake_that_failed", &["openssl"]) {
        return;
    }
    let files = Files::new();
    for (version, shows) in [("-tls1_3", true), ("-tls1_3", false), ("-tls1_2", true)] {
        let (_origin, origin) = strict(&files, version);
        let cluster = ClusterSettings::builder("secured").endpoint(&origin.to_string());
        let retry = RetryPolicy { attempts: 2, ..RetryPolicy::default() };
        let cluster = cluster.tls(stranger(&files, shows)).retry(Some(retry)).build().unwrap();
        let (log, lines) = log();
        let routes = Routes::to(Cluster::new(cluster, Instant::now(), 1));
        let (proxy, address) = serve(http::proxy(routes).access_log(log));
        let mut client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(LONG)).unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        client.write_all(request).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        let line = lines.recv_timeout(LONG).unwrap();
        assert_eq!(line["response_flags"], "UF", "{version}: {line}");
        let cells = proxy.registry().tls_cluster("secured", 0);
        assert_eq!(cells.failures.value(HandshakeFailure::RefusedByPeer), 3, "{version} {shows}");
        assert_eq!(cells.results.value(HandshakeResult::Failed), 3, "once for each attempt");
        assert_eq!(cells.results.value(HandshakeResult::Full), 0);
        let reason = line["upstream_transport_failure_reason"].as_str().unwrap();
        assert!(reason.contains("AlertReceived") || reason.contains("alert"), "{reason}");
    }
}

#[test]
fn a_relay_counts_it_as_well() {
    if !have("a_relay_counts_it_as_well", &["openssl"]) {
        return;
    }
    let files = Files::new();
    let (_origin, origin) = strict(&files, "-tls1_3");
    let relay = Relay::to([origin.to_string()]).cluster("secured").tls(stranger(&files, true));
    let (proxy, address) = serve(relay);
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    assert!(client.read_to_end(&mut Vec::new()).is_err(), "a reset");
    let cells = proxy.registry().tls_cluster("secured", 0);
    eventually("it is counted", || {
        cells.failures.value(HandshakeFailure::RefusedByPeer) == 1
            && cells.results.value(HandshakeResult::Full) == 0
    });
}

#[test]
fn a_server_that_says_nothing_has_taken_us() {
    let files = Files::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = listener.local_addr().unwrap();
    let (chain, key) = files.authority.identity("spiffe://td/server").chain_and_key();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let mut config = rustls::ServerConfig::builder_with_provider(provider.into())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    // No ticket either.
    config.send_tls13_tickets = 0;
    let config = std::sync::Arc::new(config);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut tls = rustls::ServerConnection::new(config.clone()).unwrap();
            while tls.complete_io(&mut stream).is_ok() && tls.is_handshaking() {}
            let _ = stream.read(&mut [0; 64]);
        }
    });
    let relay = Relay::to([origin.to_string()]).cluster("secured").tls(files.upstream());
    let (proxy, address) = serve(relay);
    let client = TcpStream::connect(address).unwrap();
    let cells = proxy.registry().tls_cluster("secured", 0);
    eventually("it is connected", || proxy.registry().cluster("secured", 0).active.value() == 1);
    drop(client);
    eventually("it is counted", || cells.results.value(HandshakeResult::Full) == 1);
    assert_eq!(cells.results.value(HandshakeResult::Failed), 0);
}
