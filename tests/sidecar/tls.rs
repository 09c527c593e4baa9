//! The modes of TLS, with the tools that people try them with.

use std::{
    env,
    io::{Read as _, Write as _},
    net::SocketAddr,
    process::{Command, Output, Stdio},
};

use super::{
    authority::{Authority, ask, connect},
    origin::{echo, exchange, greeter},
    process::{HEAD, Sidecar, command, eventually},
    web::{get, teller},
};

/// Whether a tool is here. Where not, says so, and fails in CI.
fn has(tool: &str, test: &str) -> bool {
    let found = Command::new(tool).arg("version").output().is_ok();
    assert!(found || env::var_os("CI").is_none_or(|ci| ci != "true"), "there is no {tool}");
    if !found {
        let line = format!("SKIPPED {test}: there is no {tool}\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    found
}

/// A listener `secure` with these lines and this section of TLS, and a cluster `web`.
fn secure(protocol: &str, tls: &str, origin: SocketAddr) -> String {
    format!(
        "{HEAD}[[listener]]\nname = 'secure'\nbind = '127.0.0.1:0'\nprotocol = '{protocol}'\n\
         cluster = 'web'\n[listener.tls]\n{tls}\n\
         [[cluster]]\nname = 'web'\nendpoints = ['{origin}']\n"
    )
}

/// `curl` of `https://localhost`, at a listener.
fn curl(sidecar: &Sidecar, authority: &Authority, own: Option<&str>) -> Output {
    let address = sidecar.address("secure");
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "10", "--noproxy", "*", "--cacert"])
        .arg(authority.path("ca.pem"))
        .arg("--connect-to")
        .arg(format!("localhost:443:127.0.0.1:{}", address.port()))
        .arg("https://localhost/");
    if let Some(own) = own {
        curl.arg("--cert").arg(authority.path(&format!("{own}.pem")));
        curl.arg("--key").arg(authority.path(&format!("{own}.key")));
    }
    curl.output().unwrap()
}

fn failures(sidecar: &Sidecar, reason: &str, count: f64) {
    let labels = ["listener=\"secure\"", &format!("reason=\"{reason}\"")];
    sidecar.metric_becomes("evenkeel_downstream_tls_handshake_failures_total", &labels, count);
}

#[test]
fn strict_takes_only_clients_that_prove_who_they_are() {
    if !has("curl", "strict_takes_only_clients_that_prove_who_they_are") {
        return;
    }
    let authority = Authority::new();
    authority.write("server", &["localhost"]);
    authority.write("friend", &["spiffe://cluster.local/ns/default/sa/friend"]);
    authority.write("other", &["spiffe://cluster.local/ns/elsewhere/sa/other"]);
    authority.write("nobody", &["nobody.example"]);
    let stranger = Authority::new().issue(&["spiffe://cluster.local/ns/default/sa/friend"]);
    let tls = format!(
        "{}{}peers = ['spiffe://cluster.local/ns/default/*']",
        authority.own("server"),
        authority.roots()
    );
    let Some(sidecar) = Sidecar::start(&secure("http", &tls, teller("web"))) else { return };

    let answer = curl(&sidecar, &authority, Some("friend"));
    assert!(answer.stdout.starts_with(b"web\nGET / HTTP/1.1\n"), "{answer:?}");
    for (own, reason) in [
        (None, "no_certificate"),
        (Some("other"), "peer_not_allowed"),
        (Some("nobody"), "no_identity"),
    ] {
        let refused = curl(&sidecar, &authority, own);
        assert!(!refused.status.success() && refused.stdout.is_empty(), "{own:?}: {refused:?}");
        failures(&sidecar, reason, 1.0);
    }
    assert!(ask(sidecar.address("secure"), &authority.client(Some(&stranger), &[])).is_none());
    failures(&sidecar, "unknown_ca", 1.0);
    // It speaks no HTTP without TLS.
    let mut plain = sidecar.connect("secure");
    plain.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{}", answer.escape_ascii());
    failures(&sidecar, "protocol", 1.0);
    sidecar.metric_becomes("evenkeel_downstream_tls_handshakes_total", &["result=\"full\""], 1.0);
    sidecar.metric_becomes("evenkeel_downstream_tls_handshakes_total", &["result=\"failed\""], 5.0);
    sidecar.metric_becomes("evenkeel_requests_total", &["listener=\"secure\""], 1.0);
}

#[test]
fn simple_asks_clients_for_nothing() {
    if !has("curl", "simple_asks_clients_for_nothing") {
        return;
    }
    let authority = Authority::new();
    authority.write("server", &["localhost"]);
    let tls = format!("mode = 'simple'\n{}", authority.own("server"));
    let Some(sidecar) = Sidecar::start(&secure("http", &tls, teller("web"))) else { return };
    let answer = curl(&sidecar, &authority, None);
    assert!(answer.stdout.starts_with(b"web\n"), "{answer:?}");
    let stranger = Authority::new();
    let refused = curl(&sidecar, &stranger, None);
    assert!(!refused.status.success(), "{refused:?}");
    failures(&sidecar, "refused_by_peer", 1.0);
}

#[test]
fn permissive_takes_both_and_waits_for_nobody() {
    let authority = Authority::new();
    authority.write("server", &["localhost"]);
    let friend = authority.issue(&["spiffe://cluster.local/friend"]);
    let tls = format!("mode = 'permissive'\n{}{}", authority.own("server"), authority.roots());
    let Some(sidecar) = Sidecar::start(&secure("http", &tls, teller("web"))) else { return };
    let address = sidecar.address("secure");
    assert!(get(address, "/", &["Host: a"]).body.starts_with("web\n"));
    let asked = ask(address, &authority.client(Some(&friend), &["http/1.1"])).unwrap();
    assert!(asked.message.body.starts_with("web\n"));
    assert_eq!(asked.protocol.as_deref(), Some(&b"http/1.1"[..]));
    // Those that speak TLS have to prove who they are.
    assert!(ask(address, &authority.client(None, &[])).is_none());
    failures(&sidecar, "no_certificate", 1.0);

    // Where the server speaks first, nothing comes that could tell.
    let Some(sidecar) = Sidecar::start(&secure("tcp", &tls, greeter("hello"))) else { return };
    let mut said = String::new();
    sidecar.connect("secure").read_to_string(&mut said).unwrap();
    assert_eq!(said, "hello");
}

#[test]
fn openssl_sees_what_was_chosen() {
    if !has("openssl", "openssl_sees_what_was_chosen") {
        return;
    }
    let authority = Authority::new();
    authority.write("server", &["localhost"]);
    let tls = format!("mode = 'simple'\n{}", authority.own("server"));
    let Some(sidecar) = Sidecar::start(&secure("http", &tls, teller("web"))) else { return };
    let s_client = |arguments: &[&str]| {
        let mut child = Command::new("openssl")
            .args(["s_client", "-servername", "localhost", "-connect"])
            .arg(sidecar.address("secure").to_string())
            .arg("-verify_return_error")
            .arg("-CAfile")
            .arg(authority.path("ca.pem"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let _ = child.stdin.as_mut().unwrap().write_all(request);
        let output = child.wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let said = s_client(&[version, "-alpn", "h2,http/1.1", "-ign_eof"]);
        assert!(said.contains("ALPN protocol: http/1.1"), "{said}");
        assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
        assert!(said.contains("GET / HTTP/1.1"), "{said}");
    }
    let said = s_client(&["-alpn", "h2", "-ign_eof"]);
    assert!(!said.contains("HTTP/1.1"), "{said}");
    failures(&sidecar, "no_common_protocol", 1.0);
}

#[test]
fn inside_of_tls_it_is_http_or_not_by_alpn_and_by_bytes() {
    let authority = Authority::new();
    authority.write("server", &["localhost"]);
    let tls = format!("mode = 'simple'\n{}", authority.own("server"));
    let Some(sidecar) = Sidecar::start(&secure("auto", &tls, echo())) else { return };
    let address = sidecar.address("secure");
    // A request is answered by HTTP, with its own idea of what an echo is.
    let requests = || sidecar.metric("evenkeel_requests_total", &["listener=\"secure\""]);
    ask(address, &authority.client(None, &["http/1.1"]));
    sidecar.metric_becomes("evenkeel_requests_total", &["listener=\"secure\""], 1.0);
    ask(address, &authority.client(None, &[]));
    sidecar.metric_becomes("evenkeel_requests_total", &["listener=\"secure\""], 2.0);
    let mut other = connect(address, "localhost", &authority.client(None, &[]));
    exchange(&mut other, b"\x01not HTTP");
    assert_eq!(requests(), 2.0);
}

/// From plain HTTP at one sidecar to plain HTTP behind another, with both ends proved in between.
#[test]
fn a_pair_of_sidecars_speaks_tls_between_them() {
    let authority = Authority::new();
    authority.write("server", &["spiffe://cluster.local/ns/default/sa/server"]);
    authority.write("client", &["spiffe://cluster.local/ns/default/sa/client"]);
    let inbound = format!(
        "{}{}peers = ['spiffe://cluster.local/ns/default/sa/client']",
        authority.own("server"),
        authority.roots()
    );
    for protocol in ["http", "tcp"] {
        let config = secure(protocol, &inbound, teller("web"));
        let Some(server) = Sidecar::start(&config) else { return };
        let client = |peer: &str| {
            let config = format!(
                "{HEAD}[[listener]]\nname = 'plain'\nbind = '127.0.0.1:0'\n\
                 protocol = '{protocol}'\ncluster = 'next'\n\
                 [[cluster]]\nname = 'next'\nendpoints = ['{}']\n[cluster.tls]\n\
                 {}{}peers = ['spiffe://cluster.local/ns/default/sa/{peer}']\n",
                server.address("secure"),
                authority.own("client"),
                authority.roots()
            );
            Sidecar::start(&config)
        };
        let Some(right) = client("server") else { return };
        let answer = get(right.address("plain"), "/", &["Host: a"]);
        assert_eq!((answer.status(), answer.body.starts_with("web\n")), (200, true), "{answer:?}");
        right.metric_becomes("evenkeel_upstream_tls_handshakes_total", &["result=\"full\""], 1.0);
        // What it was told to expect is somebody else.
        let Some(wrong) = client("somebody") else { return };
        let mut stream = wrong.connect("plain");
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut answer = [0; 12];
        let read = stream.read(&mut answer).unwrap_or(0);
        assert!(read == 0 || &answer == b"HTTP/1.1 503", "{}", answer.escape_ascii());
        let reason = ["cluster=\"next\"", "reason=\"peer_not_allowed\""];
        let failures = "evenkeel_upstream_tls_handshake_failures_total";
        eventually("it is counted", || wrong.metric(failures, &reason) >= 1.0);
    }
}

#[test]
fn check_says_where_a_file_is_named_that_will_not_do() {
    let authority = Authority::new();
    authority.write("server", &["localhost"]);
    let check = |config: &str| {
        let file = authority.path("sidecar.toml");
        std::fs::write(&file, config).unwrap();
        let output = command().args(["check", "--config"]).arg(&file).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let tls = "certificate = 'server.pem'\nkey = 'server.key'\nroots = 'ca.pem'";
    let config = secure("http", tls, echo());
    assert_eq!(check(&config).0, Some(0), "paths are relative to the file");

    let (code, said) = check(&config.replace("'ca.pem'", "'absent.pem'"));
    let place = format!("{}:11:9: error: `roots`: ", authority.path("sidecar.toml").display());
    assert_eq!(code, Some(1));
    assert!(said.starts_with(&place) && said.contains("absent.pem: cannot be read"), "{said}");
    let (code, said) = check(&config.replace("'server.key'", "'ca.pem'"));
    assert_eq!(code, Some(1));
    assert!(said.contains(":10:7: error: `key`: ") && said.contains("no private key"), "{said}");
    // The same stops a start.
    let output = command().args(["run", "--config"]).arg(authority.path("sidecar.toml")).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no private key"), "{output:?}");
}
