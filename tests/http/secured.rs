//! What is different with TLS: ends without a close_notify, and what is said of whom.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use evenkeel::{
    Connection, Listener, Proxy, Relay,
    http::{
        self, Answer, CertificateDetails, Filter, Flow, ForwardedClientCertificate, RequestHead,
        Routes,
    },
    shard::Shard,
    telemetry::{
        CloseReason, CodeClass, ResponseFlag,
        access_log::{AccessLog, Format},
    },
    tls::{
        self, Certificate, ClientCredentials, Peers, ServerCredentials,
        credentials::{ClientSettings, ServerSettings, Version},
    },
    upstream::settings::ClusterSettings,
};
use serde_json::Value;

use crate::{
    authority::Authority,
    kernel,
    stage::{Origin, Stage, build, cluster, eventually, get, ok, settings},
    transport::{self, CLIENT, ORIGIN, PROXY},
    wire::Wire,
};

fn closed(stage: &Stage, reason: CloseReason) -> u64 {
    stage.proxy.registry().listener("web", 0).closed.value(reason)
}

#[test]
fn between_requests_an_end_without_a_word_is_an_ordinary_one() {
    let origin = Origin::echo();
    let stage = Stage::to(origin.address);
    // At once, while the connection waits without its working memory, and without any request.
    for (count, pause) in [Some(0), Some(300), None].into_iter().enumerate() {
        let mut client = stage.client();
        if let Some(pause) = pause {
            assert_eq!(client.ask(get("/")).status(), 200);
            thread::sleep(Duration::from_millis(pause));
        }
        transport::abandon(&mut client.stream);
        eventually("it is done", || closed(&stage, CloseReason::Done) == count as u64 + 1);
    }
    assert_eq!(closed(&stage, CloseReason::DownstreamReset), 0);
    stage.is_quiet();
}

#[test]
fn a_client_is_told_of_the_end_also_where_it_waits_for_nothing() {
    let origin = Origin::echo();
    let mut timeouts = http::Timeouts::default();
    timeouts.idle = Some(Duration::from_millis(100));
    let web = http::proxy(Routes::to(cluster("origin", origin.address))).timeouts(timeouts);
    let stage = Stage::serving(web);
    let mut client = stage.client();
    assert_eq!(client.ask(get("/")).status(), 200);
    assert_eq!(client.stream.read(&mut [0]).expect("a close_notify"), 0);
}

/// Answers the first time with a part of a body that its end delimits, and with or without a word
/// at that.
fn until_close(abandons: bool) -> Origin {
    Origin::new(move |wire, _| {
        wire.request();
        wire.send("HTTP/1.1 200 OK\r\n\r\nso far");
        if abandons {
            // Not before the client has it.
            thread::sleep(Duration::from_millis(100));
            transport::abandon(&mut wire.stream);
        }
    })
}

#[test]
fn a_body_that_its_end_delimits_is_whole_only_with_a_close_notify() {
    let whole = until_close(false);
    let stage = Stage::to(whole.address);
    assert_eq!(stage.ask(get("/")).text(), "so far");
    stage.counted(CodeClass::Success, ResponseFlag::None, 1);

    let cut = until_close(true);
    let stage = Stage::to(cut.address);
    let mut client = stage.client();
    client.send(get("/"));
    assert!(client.head().unwrap().contains("chunked"));
    assert!(!client.rest().ends_with(b"0\r\n\r\n"));
    let mut old = stage.client();
    old.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    let mut rest = Vec::new();
    old.stream.read_to_end(&mut rest).expect_err("no end in order");
    stage.counted(CodeClass::Success, ResponseFlag::UpstreamConnectionTermination, 2);
    stage.is_quiet();
}

#[test]
fn an_idle_connection_that_its_origin_ends_without_a_word_costs_nobody_a_request() {
    let origin = Origin::new(|wire, _| {
        wire.request();
        wire.send(ok("once"));
        thread::sleep(Duration::from_millis(20));
        transport::abandon(&mut wire.stream);
    });
    let stage = Stage::to(origin.address);
    let mut client = stage.client();
    for _ in 0..10 {
        assert_eq!(client.ask(get("/")).text(), "once");
        thread::sleep(Duration::from_millis(40));
    }
    stage.counted(CodeClass::Success, ResponseFlag::None, 10);
    assert_eq!(origin.connections(), 10);
}

const EVERYTHING: CertificateDetails =
    CertificateDetails { certificate: true, chain: true, subject: true, uri: true, dns: true };
const NAMES: CertificateDetails =
    CertificateDetails { certificate: false, chain: false, subject: true, uri: true, dns: true };
const CLAIM: &str = "By=spiffe://td/edge;Hash=00;URI=spiffe://td/admin";

/// What the origin gets of a request that claims something.
fn forwarded(web: http::Proxy, ask: impl Fn(SocketAddr, &str) -> String) -> Option<String> {
    let stage = Stage::serving(web);
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Client-Cert: {CLAIM}\r\n\r\n");
    let seen = ask(stage.address, &request);
    let lines: Vec<&str> =
        seen.lines().filter(|line| line.starts_with("X-Forwarded-Client")).collect();
    assert!(lines.len() < 2, "{seen}");
    lines.first().map(|line| line.split_once(": ").unwrap().1.to_owned())
}

/// An origin that answers with the head of each request.
fn heads() -> Origin {
    Origin::new(|wire, _| {
        while let Some(request) = wire.request() {
            wire.send(ok(request.head));
        }
    })
}

#[test]
fn the_client_s_certificate_is_told_in_envoy_s_forms() {
    use ForwardedClientCertificate as Policy;
    let origin = heads();
    let told = |policy| {
        let to_origin = Routes::to(cluster("origin", origin.address));
        let web = http::proxy(to_origin).forwarded_client_certificate(policy);
        forwarded(web, |address, request| Wire::connect(address).ask(request).text().to_owned())
    };
    let client = Certificate::read(&transport::client_certificate().certificate).unwrap();
    let hash = client.sha256();
    let element =
        format!("By={PROXY};Hash={hash};Subject=\"CN=client\";URI={CLIENT};DNS=localhost");
    assert_eq!(told(Policy::Sanitize), None);
    assert_eq!(told(Policy::ForwardOnly).as_deref(), Some(CLAIM));
    assert_eq!(told(Policy::AlwaysForwardOnly).as_deref(), Some(CLAIM));
    assert_eq!(told(Policy::SanitizeSet(NAMES)), Some(element.clone()));
    assert_eq!(told(Policy::AppendForward(NAMES)), Some(format!("{CLAIM},{element}")));
    let least = told(Policy::SanitizeSet(CertificateDetails::default()));
    assert_eq!(least, Some(format!("By={PROXY};Hash={hash}")));

    let everything = told(Policy::SanitizeSet(EVERYTHING)).unwrap();
    let pem = |key: &str| {
        let (_, rest) = everything.split_once(&format!(";{key}=\"")).unwrap();
        let pem = rest.split_once('"').unwrap().0;
        let decoded = [("%0A", "\n"), ("%20", " "), ("%2B", "+"), ("%2F", "/"), ("%3D", "=")];
        decoded.iter().fold(pem.to_owned(), |pem, (code, text)| pem.replace(code, text))
    };
    assert_eq!(pem("Cert"), pem("Chain"), "the client sends no other");
    assert_eq!(pem("Cert"), transport::client_certificate().pem.replace("\r\n", "\n"));
}

#[test]
fn a_client_without_a_verified_certificate_is_never_believed() {
    use ForwardedClientCertificate as Policy;
    let origin = heads();
    let plain = |policy: Policy| {
        let to_origin = Routes::to(cluster("origin", origin.address));
        let web = http::proxy(to_origin).forwarded_client_certificate(policy);
        // One port for those with and without TLS.
        let web = tls::terminate(transport::downstream(), web).permissive(Duration::from_secs(5));
        let listener = Listener::bind("127.0.0.1:0").unwrap().named("web").serve(web);
        let builder = Proxy::builder().capabilities(kernel::capabilities()).shards(1);
        let proxy = builder.listener(listener).start().unwrap();
        let mut client = TcpStream::connect(proxy.local_addr("web").unwrap()).unwrap();
        let request = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Forwarded-Client-Cert: {CLAIM}\r\n\r\n"
        );
        client.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.contains("X-Forwarded-Proto: http\r\n")
        );
        answer.contains("Client-Cert")
    };
    for policy in [
        Policy::Sanitize,
        Policy::SanitizeSet(EVERYTHING),
        Policy::AppendForward(EVERYTHING),
        Policy::ForwardOnly,
    ] {
        assert!(!plain(policy), "{policy:?}");
    }
    assert!(plain(Policy::AlwaysForwardOnly));
}

#[test]
fn a_filter_sees_who_the_client_is() {
    struct WhoIsIt;
    impl Filter for WhoIsIt {
        type State = ();
        async fn request(&self, _: &mut RequestHead, from: &Connection, (): &mut ()) -> Flow {
            let tls = from.tls().unwrap();
            let id = tls.peer().unwrap().spiffe_id().unwrap();
            let text = format!("{id} asks {}", tls.server_name().unwrap());
            Flow::Answer(Answer::status(200).body("text/plain", text))
        }
    }
    let to_nowhere = Routes::to(cluster("origin", crate::stage::nowhere()));
    let stage = Stage::serving(http::proxy(to_nowhere).filter(|_: &Shard| WhoIsIt));
    assert_eq!(stage.ask(get("/")).text(), format!("{CLIENT} asks localhost"));
}

/// A log of JSON lines, and where they go.
fn log() -> (AccessLog, impl FnMut() -> Value) {
    let (sender, lines) = mpsc::channel();
    let log = AccessLog::to(move |lines: &[u8]| {
        sender.send(lines.to_vec()).map_err(std::io::Error::other)
    });
    let mut pending = Vec::new();
    let next = move || {
        while pending.is_empty() {
            let lines = lines.recv_timeout(Duration::from_secs(20)).expect("a line is written");
            let lines = String::from_utf8(lines).unwrap();
            pending.extend(lines.lines().map(|line| serde_json::from_str(line).unwrap()));
        }
        pending.remove(0)
    };
    (log.unwrap().format(Format::json()), next)
}

fn assert_told(line: &Value, told: &[(&str, &str)]) {
    for (key, value) in told {
        assert_eq!(line[*key], *value, "{key}: {line}");
    }
}

/// What a line says where all is well.
const BOTH_SIDES: &[(&str, &str)] = &[
    ("requested_server_name", "localhost"),
    ("downstream_tls_version", "TLSv1.3"),
    ("downstream_peer_uri_san", CLIENT),
    ("downstream_peer_subject", "CN=client"),
    ("downstream_local_uri_san", PROXY),
    ("upstream_tls_version", "TLSv1.3"),
    ("upstream_peer_uri_san", ORIGIN),
    ("upstream_peer_subject", "CN=origin"),
    ("upstream_local_uri_san", PROXY),
    ("response_flags", "-"),
];

#[test]
fn a_line_of_the_log_says_who_both_peers_are() {
    let origin = Origin::echo();
    let (log, mut line) = log();
    let web = http::proxy(Routes::to(cluster("origin", origin.address))).access_log(log);
    let stage = Stage::serving(web);
    let mut client = stage.client();
    for _ in 0..2 {
        assert_eq!(client.ask(get("/")).status(), 200);
        assert_told(&line(), BOTH_SIDES);
    }
}

#[test]
fn so_does_the_line_of_a_relayed_connection() {
    let origin = Origin::new(|wire, _| {
        let word = wire.exactly(5).unwrap();
        wire.send(word);
    });
    let (log, mut line) = log();
    let relay = Relay::to([origin.address.to_string()]).tls(transport::upstream_credentials());
    let stage = Stage::serving(relay.access_log(log));
    let mut client = stage.client();
    client.send("hello");
    assert_eq!(client.exactly(5).unwrap(), b"hello");
    transport::finish(&mut client.stream);
    assert!(client.is_over());
    assert_told(&line(), BOTH_SIDES);
}

/// The line of a request whose upstream cannot be had over TLS.
fn failed(origin: SocketAddr, upstream: ClientCredentials) -> Value {
    let (log, mut line) = log();
    let cluster = ClusterSettings::builder("origin").endpoint(&origin.to_string()).tls(upstream);
    let stage = Stage::serving(http::proxy(Routes::to(build(cluster))).access_log(log));
    assert_eq!(stage.ask(get("/")).status(), 503);
    stage.counted(CodeClass::ServerError, ResponseFlag::UpstreamConnectionFailure, 1);
    line()
}

#[test]
fn a_handshake_that_fails_is_a_connection_that_failed_and_the_log_says_why() {
    let origin = Origin::echo();
    let mut other = ClientSettings::new(
        transport::authority().trust().peers(Peers::parse(["spiffe://td/other"]).unwrap()),
    );
    other.own = transport::upstream_credentials().settings().own.clone();
    let line = failed(origin.address, ClientCredentials::load("origin", other).unwrap());
    assert_told(&line, &[("response_flags", "UF"), ("downstream_peer_uri_san", CLIENT)]);
    let reason = line["upstream_transport_failure_reason"].as_str().unwrap();
    assert!(reason.starts_with("the TLS handshake failed: "), "{reason}");
    assert_eq!(line["upstream_peer_uri_san"], Value::Null);
    assert_eq!(origin.all_seen(), "");
}

/// In TLS 1.3 a client has long begun to send when it learns that it is refused.
#[test]
fn so_is_one_whose_server_does_not_take_our_certificate() {
    let stranger = Authority::new("a stranger").identity(PROXY);
    for version in [Version::Tls12, Version::Tls13] {
        let server = transport::authority().identity(ORIGIN);
        let mut strict = ServerSettings::new(server.own());
        strict.clients = Some(transport::authority().trust());
        let origin =
            tls::terminate(ServerCredentials::load("strict", strict).unwrap(), |_: &Shard| {
                async |_: Connection| panic!("nobody gets here")
            });
        let listener = Listener::bind("127.0.0.1:0").unwrap().named("strict").serve(origin);
        let builder = Proxy::builder().capabilities(kernel::capabilities()).shards(1);
        let strict = builder.listener(listener).start().unwrap();
        let mut upstream = ClientSettings::new(transport::authority().trust());
        upstream.server_name = Some("localhost".try_into().unwrap());
        upstream.own = Some(stranger.own());
        upstream.oldest_version = version;
        let upstream = ClientCredentials::load("origin", upstream).unwrap();
        let line = failed(strict.local_addr("strict").unwrap(), upstream);
        assert_told(&line, &[("response_flags", "UF")]);
        let reason = line["upstream_transport_failure_reason"].as_str().unwrap();
        assert!(reason.contains("UnknownCA"), "{reason}");
        drop(strict);
    }
}

#[test]
fn nothing_of_a_request_is_sent_in_the_clear() {
    let tap = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tap.local_addr().unwrap();
    let stage = Stage::of_cluster(settings("origin", &[address]));
    let seen = thread::spawn(move || {
        let (mut stream, _) = tap.accept().unwrap();
        let mut seen = vec![0; 4096];
        let length = stream.read(&mut seen).unwrap();
        seen.truncate(length);
        seen
    });
    let mut client = stage.client();
    client.send(get("/secret"));
    let seen = seen.join().unwrap();
    assert_eq!(seen[..2], [22, 3], "a handshake record");
    assert!(!seen.windows(6).any(|bytes| bytes == b"secret"));
    assert_eq!(client.answer().status(), 503);
}
