//! What clients of all kinds meet: relayed bytes, caps, PROXY headers, and a close where they misbehave.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    time::Duration,
};

use socket2::SockRef;

use super::{
    origin::{echo, exchange, recorder},
    process::{HEAD, Sidecar, eventually, plain},
};

const REJECTED: &str = "evenkeel_connections_rejected_total";
const CLOSED: &str = "evenkeel_downstream_connections_closed_total";

fn is_closed(stream: &mut impl Read) -> bool {
    matches!(stream.read(&mut [0]), Ok(0) | Err(_))
}

/// A listener of this name that is `options`, and an origin's cluster.
fn listener(options: &str, origin: std::net::SocketAddr, cluster_options: &str) -> String {
    format!(
        "{HEAD}[[listener]]\nname = 'l'\n{options}\n\
         [[cluster]]\nname = 'web'\nendpoints = ['{origin}']\n{cluster_options}\n"
    )
}

#[test]
fn large_bodies_come_through_byte_by_byte_the_same() {
    let (origin, received) = recorder();
    let sidecar = Sidecar::start(&plain(origin));
    let body: Vec<u8> =
        (0..8_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut client = sidecar.connect("plain");
    client.write_all(&body).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let received = received.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(received == body, "{} bytes of {}", received.len(), body.len());
}

#[test]
fn unix_domain_clients_are_relayed() {
    let config = listener("bind = 'unix:l.sock'\ncluster = 'web'", echo(), "");
    let sidecar = Sidecar::start(&config);
    // A relative path is relative to the file.
    let mut client = UnixStream::connect(sidecar.file().with_file_name("l.sock")).unwrap();
    exchange(&mut client, b"over a path");
}

#[test]
fn connections_above_a_cap_are_closed_and_counted() {
    for (options, limits, reason) in [
        ("", "[limits]\nconnections = 2\n", "limit"),
        ("", "[limits]\nconnections_per_shard = 1\n", "shard_limit"),
        ("max_connections = 2", "", "listener_limit"),
    ] {
        let options = format!("bind = '127.0.0.1:0'\ncluster = 'web'\n{options}");
        let config = listener(&options, echo(), limits);
        let sidecar = Sidecar::start(&config);
        let mut within: Vec<_> = (0..2).map(|_| sidecar.connect("l")).collect();
        within.iter_mut().for_each(|client| exchange(client, b"within"));
        assert!(is_closed(&mut sidecar.connect("l")), "{reason}");
        let labels = ["listener=\"l\"", &format!("reason=\"{reason}\"")];
        sidecar.metric_becomes(REJECTED, &labels, 1.0);
        drop(within.pop());
        eventually("there is room again", || {
            let mut client = sidecar.connect("l");
            client.write_all(b"x").is_ok() && matches!(client.read(&mut [0]), Ok(1))
        });
    }
}

#[test]
fn what_is_not_to_be_served_is_closed_and_counted() {
    for (options, reason) in [
        ("cluster = 'blackhole'", "blackhole"),
        // Nothing redirects these: they were made to the listener itself.
        ("original_dst = 'redirect'", "missing"),
        ("original_dst = 'redirect'\nfallback = 'blackhole'", "missing"),
        ("original_dst = 'redirect'\ncluster = 'passthrough'", "missing"),
        ("original_dst = 'redirect'\ncluster = 'blackhole'", "blackhole"),
    ] {
        let config = listener(&format!("bind = '127.0.0.1:0'\n{options}"), echo(), "");
        let sidecar = Sidecar::start(&config);
        assert!(is_closed(&mut sidecar.connect("l")), "{options}");
        // Without connection tracking the kernel knows no destination; with it, the same one.
        let counted = || {
            let count = |reason| {
                sidecar.metric(REJECTED, &["listener=\"l\"", &format!("reason=\"{reason}\"")])
            };
            count(reason) == 1.0 || (reason == "missing" && count("direct") == 1.0)
        };
        eventually(options, counted);
    }
}

#[test]
fn a_listener_with_a_cluster_serves_direct_connections_as_well() {
    let options = "bind = '127.0.0.1:0'\noriginal_dst = 'redirect'\ncluster = 'web'";
    let sidecar = Sidecar::start(&listener(options, echo(), ""));
    exchange(&mut sidecar.connect("l"), b"direct");
}

const PROXY_REQUIRED: &str = "bind = '127.0.0.1:0'\ncluster = 'web'\nproxy_protocol = 'required'";

/// Version 2, PROXY, TCP over IPv4: 192.0.2.7:1000 to 198.51.100.9:443.
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\0\x02\x07\xc6\x33\x64\x09\x03\xe8\x01\xbb";
const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.9 1000 443\r\n";

#[test]
fn proxy_headers_of_both_versions_are_read_and_written() {
    for (version, expected) in [("off", &b""[..]), ("v1", V1), ("v2", V2)] {
        let (origin, received) = recorder();
        let config = listener(PROXY_REQUIRED, origin, &format!("proxy_protocol = '{version}'"));
        let sidecar = Sidecar::start(&config);
        for header in [V1, V2] {
            let mut client = sidecar.connect("l");
            // In two pieces, the second with the first bytes behind the header.
            client.write_all(&header[..9]).unwrap();
            client.set_nodelay(true).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            client.write_all(&header[9..]).unwrap();
            client.write_all(b"payload").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let received = received.recv_timeout(Duration::from_secs(10)).unwrap();
            assert_eq!(received, [expected, b"payload"].concat(), "{version}");
        }
    }
}

#[test]
fn a_written_proxy_header_names_the_sockets_own_client() {
    let (origin, received) = recorder();
    let options = "bind = '127.0.0.1:0'\ncluster = 'web'";
    let config = listener(options, origin, "proxy_protocol = 'v1'");
    let sidecar = Sidecar::start(&config);
    let client = sidecar.connect("l");
    let (from, to) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    client.shutdown(Shutdown::Write).unwrap();
    let received = received.recv_timeout(Duration::from_secs(10)).unwrap();
    let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", from.port(), to.port());
    assert_eq!(String::from_utf8(received).unwrap(), expected);
}

#[test]
fn a_broken_proxy_header_is_closed_and_counted() {
    let sidecar = Sidecar::start(&listener(PROXY_REQUIRED, echo(), ""));
    let broken: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.9 1000 99999\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\x00\x0c",
        &[b'P'; 4096],
    ];
    for (count, header) in broken.into_iter().enumerate() {
        let mut client = sidecar.connect("l");
        client.write_all(header).unwrap();
        assert!(is_closed(&mut client), "{}", header.escape_ascii());
        let labels = ["listener=\"l\"", "reason=\"protocol\""];
        sidecar.metric_becomes(CLOSED, &labels, (count + 1) as f64);
    }
    let mut client = sidecar.connect("l");
    client.write_all(V1).unwrap();
    exchange(&mut client, b"a good one is served");
    sidecar.metric_becomes("evenkeel_upstream_connections_total", &[], 1.0);
}

#[test]
fn clients_that_misbehave_harm_nobody() {
    let sidecar = Sidecar::start(&plain(echo()));
    let mut good = sidecar.connect("plain");
    exchange(&mut good, b"before");
    for round in 0..60 {
        let address = sidecar.address("plain");
        let mut client = TcpStream::connect(address).unwrap();
        match round % 4 {
            // A port scan: connected, and gone.
            0 => {}
            // A reset, at once or in the middle.
            1 => SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap(),
            2 => {
                client.write_all(&[0; 70_000]).unwrap();
                SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
            }
            // Rubbish, and closed with the answer unread.
            _ => client.write_all(&[0xff, 0, 0x0d, 0x16, 0x03].repeat(200)).unwrap(),
        }
        drop(client);
        exchange(&mut good, b"meanwhile");
    }
    sidecar.metric_becomes("evenkeel_downstream_connections_active", &[], 1.0);
    sidecar.metric_becomes("evenkeel_upstream_connections_active", &[], 1.0);
    sidecar.metric_becomes("evenkeel_downstream_connections_closed_total", &[], 60.0);
    assert_eq!(sidecar.metric("evenkeel_tasks_panicked_total", &[]), 0.0);
    assert_eq!(sidecar.ask("GET", "/ready").status, 200);
    exchange(&mut good, b"after");
}
