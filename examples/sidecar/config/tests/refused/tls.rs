//! In `[listener.tls]`, `[cluster.tls]` and the routes of TLS that is passed through.

use std::{fs, path::Path};

use super::{super::Host, assert_said, host};
use crate::config::parse;

const ALL: &str = "certificate = 'a'\nkey = 'b'\nroots = 'c'\n";

/// A listener whose section `[listener.tls]` begins on line 5.
fn listener(lines: &str) -> String {
    format!(
        "[[listener]]\nname = 'l'\nbind = '127.0.0.1:1'\ncluster = 'c'\n{lines}\n\
         [[cluster]]\nname = 'c'\nendpoints = ['127.0.0.1:2']\n"
    )
}

#[test]
fn in_a_listener() {
    for (lines, expected) in [
        (
            "[listener.tls]",
            &[
                "5:1: error: TLS needs a `certificate`",
                "5:1: error: TLS needs a `key`",
                "5:1: error: TLS needs `roots`",
            ][..],
        ),
        (&format!("[listener.tls]\n{ALL}"), &[]),
        ("[listener.tls]\nmode = 'strct'", &["6:8: error: `mode`: …did you mean `strict`?"]),
        (
            "[listener.tls]\nmode = 'off'\nkey = 'a'",
            &["7:1: error: `key` has no use with `mode = \"off\"`: leave it out"],
        ),
        ("[listener.tls]\nmode = 'off'", &[]),
        (
            &format!("[listener.tls]\nmode = 'simple'\n{ALL}peers = ['spiffe://td/a']"),
            &[
                "9:1: error: `roots` has no use with `mode = \"simple\"`, which asks clients",
                "10:1: error: `peers`",
            ],
        ),
        (
            &format!("[listener.tls]\n{ALL}peers = ['spiffe://td/a', 'td/b']"),
            &["9:27: error: `peers`: \"td/b\" is not a SPIFFE identity: it does not begin"],
        ),
        (&format!("[listener.tls]\n{ALL}peers = []"), &["9:9: error: `peers` names none"]),
        (&format!("[listener.tls]\n{ALL}peers = 'a'"), &["9:9: error: `peers`: expected an array"]),
        (
            &format!("[listener.tls]\n{ALL}peer = ['a']"),
            &["9:1: error: unknown key `peer` in [listener.tls]; did you mean `peers`?"],
        ),
        (
            &format!("[listener.tls]\n{ALL}sni = 'a'"),
            &["9:1: error: unknown key `sni` in [listener.tls]; it belongs in [cluster.tls]"],
        ),
        (
            "[listener.tls]\ncertificate = ''\nkey = 'b'\nroots = 1",
            &["6:15: error: `certificate`: is empty", "8:9: error: `roots`: expected a file"],
        ),
        (
            "[listener.tls]\ncertificate = 'a'\nkey = 'b'\nroots = { 'Td' = 'c' }",
            &["8:18: error: `roots`: \"Td\" is not a SPIFFE identity"],
        ),
        (
            "[listener.tls]\ncertificate = 'a'\nkey = 'b'\nroots = {}",
            &["8:9: error: `roots`: no trust domain"],
        ),
        (
            &format!("protocol = 'http'\n[listener.tls]\n{ALL}alpn = ['http/1.1', 'h2']"),
            &["10:21: error: `alpn`: HTTP is spoken as \"http/1.1\" here, and \"h2\" is not"],
        ),
        (
            &format!("timeouts.handshake = 'off'\n[listener.tls]\n{ALL}"),
            &["5:22: error: `handshake`: cannot be off"],
        ),
        (
            &format!("timeouts.detect = '1s'\n[listener.tls]\n{ALL}"),
            &["5:10: error: `detect` needs `protocol = \"auto\"` or, in [listener.tls]"],
        ),
        (&format!("timeouts.detect = '1s'\n[listener.tls]\nmode = 'permissive'\n{ALL}"), &[]),
    ] {
        assert_said(&listener(lines), &host(), expected);
    }
    let blackhole = |protocol: &str| {
        listener(&format!("protocol = '{protocol}'\n[listener.tls]\n{ALL}"))
            .replace("cluster = 'c'\n", "cluster = 'blackhole'\n")
            .replace("[[cluster]]\nname = 'c'\nendpoints = ['127.0.0.1:2']\n", "")
    };
    assert_said(
        &blackhole("tcp"),
        &host(),
        &["6:1: error: \"blackhole\" closes connections before"],
    );
    // It answers requests.
    assert_said(&blackhole("http"), &host(), &[]);
}

#[test]
fn where_it_would_be_taken_off_for_somebody_else() {
    let intercepting = |direction: &str| {
        format!(
            "[[listener]]\nname = 'l'\nbind = '0.0.0.0:1'\noriginal_dst = 'redirect'\n\
             direction = '{direction}'\n[listener.tls]\n{ALL}"
        )
    };
    assert_said(&intercepting("inbound"), &host(), &[]);
    assert_said(
        &intercepting("outbound"),
        &host(),
        &["6:1: error: what clients encrypt for somebody else…`mode = \"passthrough\"`"],
    );
    let destination = |direction: &str| {
        format!(
            "{}[[listener]]\nname = 'd'\nmatch = '*:1'\ncluster = 'passthrough'\n[listener.tls]\n{ALL}",
            intercepting(direction).split("[listener.tls]").next().unwrap_or_default()
        )
    };
    assert_said(&destination("inbound"), &host(), &[]);
    assert_said(&destination("outbound"), &host(), &["10:1: error: what clients encrypt"]);
}

#[test]
fn in_what_is_passed_through() {
    let by_name = |of_listener: &str, of_route: &str| {
        format!(
            "[[listener]]\nname = 'l'\nbind = '127.0.0.1:1'\ncluster = 'c'\n{of_listener}\n\
             tls.mode = 'passthrough'\n[[route]]\nlistener = 'l'\n{of_route}\n\
             [[cluster]]\nname = 'c'\nendpoints = ['127.0.0.1:2']\n"
        )
    };
    for (of_listener, of_route, expected) in [
        ("", "hosts = ['a.example', '*.b.example']\ncluster = 'c'", &[][..]),
        ("", "hosts = ['a.example']\npath_prefix = '/'\ncluster = 'c'", &[]),
        (
            "tls.key = 'a'",
            "hosts = ['a.example']\ncluster = 'c'",
            &["5:5: error: `key` has no use with `mode = \"passthrough\"`"],
        ),
        (
            "protocol = 'http'",
            "hosts = ['a.example']\ncluster = 'c'",
            &["5:12: error: `protocol`: what is inside of TLS"],
        ),
        ("", "cluster = 'c'", &["7:1: error: a route of TLS that is passed through needs `hosts`"]),
        ("", "hosts = ['*']\ncluster = 'c'", &["9:10: error: `hosts`: \"*\" is no server name"]),
        (
            "",
            "hosts = ['a.example:443']\ncluster = 'c'",
            &["9:10: error: `hosts`: …is no server name"],
        ),
        (
            "",
            "hosts = ['a.example']\npath_prefix = '/a'\nmethod = 'GET'\ncluster = 'c'",
            &["10:1: error: `path_prefix` is for HTTP", "11:1: error: `method` is for HTTP"],
        ),
        (
            "",
            "hosts = ['a.example']\nrespond = { status = 404 }",
            &["10:1: error: `respond` is for HTTP"],
        ),
        ("", "hosts = ['a.example']\ncluster = 'd'", &["10:11: error: there is no cluster \"d\""]),
        (
            "",
            "hosts = ['a.example']\ncluster = 'passthrough'",
            &["10:11: error: \"passthrough\" cannot be routed to"],
        ),
    ] {
        assert_said(&by_name(of_listener, of_route), &host(), expected);
    }
    assert_said(
        &listener("tls.mode = 'passthrough'"),
        &host(),
        &["5:12: error: \"passthrough\" sorts connections by server name: add a [[route]]"],
    );
}

#[test]
fn in_a_cluster() {
    let cluster = |lines: &str| {
        format!(
            "[[listener]]\nname = 'l'\nbind = '127.0.0.1:1'\ncluster = 'c'\n[[cluster]]\n\
             name = 'c'\nendpoints = ['127.0.0.1:2']\n[cluster.tls]\n{lines}\n"
        )
    };
    for (lines, expected) in [
        (
            "",
            &[
                "8:1: error: TLS needs a `certificate`",
                "8:1: error: TLS needs a `key`",
                "8:1: error: TLS needs `roots`",
                "8:1: error: servers are verified by their name",
            ][..],
        ),
        (&format!("{ALL}sni = 'localhost'"), &[]),
        (&format!("{ALL}peers = ['spiffe://td/*']"), &[]),
        (&format!("{ALL}sni = 'a b'"), &["12:7: error: `sni`: \"a b\" is neither"]),
        ("mode = 'simple'\nroots = 'a'\nsni = '127.0.0.1'", &[]),
        (
            &format!("mode = 'simple'\n{ALL}sni = 'a'"),
            &[
                "10:1: error: `certificate` has no use with `mode = \"simple\"`",
                "11:1: error: `key`",
            ],
        ),
        ("mode = 'off'\nsni = 'a'", &["10:1: error: `sni` has no use with `mode = \"off\"`"]),
        (
            "mode = 'off'\ndrain_after = '1h'",
            &["10:1: error: `drain_after` has no use with `mode = \"off\"`"],
        ),
        (&format!("{ALL}sni = 'a'\ndrain_after = 'off'"), &[]),
        (&format!("{ALL}sni = 'a'\ndrain_after = '0s'"), &["13:15: error: `drain_after`: zero"]),
        ("mode = 'strict'", &["9:8: error: `mode`: \"strict\" is not one of \"mutual\""]),
    ] {
        assert_said(&cluster(lines), &host(), expected);
    }
    let http = cluster(&format!("{ALL}sni = 'a'\nalpn = ['h2']"))
        .replace("bind = '127.0.0.1:1'", "protocol = 'http'\nbind = '127.0.0.1:1'");
    assert_said(&http, &host(), &["14:9: error: `alpn`: HTTP is spoken as"]);
}

#[test]
fn in_files() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    write("own.pem", &made.cert.pem());
    write("own.key", &made.signing_key.serialize_pem());
    write("other.key", &other.signing_key.serialize_pem());
    write("both.pem", &(made.cert.pem() + &made.signing_key.serialize_pem()));
    write("half.pem", made.cert.pem().get(..200).unwrap());
    let host = Host { certificates: true, ..host() };
    for (lines, expected) in [
        ("certificate = 'own.pem'\nkey = 'own.key'\nroots = 'own.pem'", None),
        ("certificate = 'both.pem'\nkey = 'both.pem'\nroots = 'both.pem'", None),
        (
            "certificate = 'none.pem'\nkey = 'own.key'\nroots = 'own.pem'",
            Some("6:15: error: `certificate`: …none.pem: cannot be read"),
        ),
        (
            "certificate = 'own.pem'\nkey = 'other.key'\nroots = 'own.pem'",
            Some(
                "6:15: error: `certificate`: …own.pem: its first certificate is not for the private key",
            ),
        ),
        (
            "certificate = 'own.pem'\nkey = 'own.pem'\nroots = 'own.pem'",
            Some("7:7: error: `key`: …own.pem: there is no private key in it"),
        ),
        (
            "certificate = 'half.pem'\nkey = 'own.key'\nroots = 'own.pem'",
            Some(
                "6:15: error: `certificate`: …half.pem: is not PEM, or not all of it: there is no end of CERTIFICATE",
            ),
        ),
        (
            "certificate = 'own.pem'\nkey = 'own.key'\nroots = { 'td' = 'none.pem' }",
            Some("8:9: error: `roots`: …none.pem: cannot be read"),
        ),
        (
            "certificate = 'own.pem'\nkey = 'own.key'\nroots = 'own.pem'\ncrl = 'own.pem'",
            Some("9:7: error: `crl`: …there is no revocation list in it"),
        ),
    ] {
        let text = listener(&format!("[listener.tls]\n{lines}"));
        let said = match parse(&text, Path::new("f"), folder.path(), &host) {
            Ok(loaded) => super::lines(&loaded.warnings.to_string()),
            Err(problems) => super::lines(&problems.to_string()),
        };
        let fits = |expected: &str| {
            let mut rest = said[0].as_str();
            said.len() == 1
                && expected.split('…').all(|part| match rest.find(part) {
                    Some(at) => {
                        rest = &rest[at + part.len()..];
                        true
                    }
                    None => false,
                })
        };
        match expected {
            None => assert_eq!(said, [""; 0], "{lines}"),
            Some(expected) => assert!(!said.is_empty() && fits(expected), "{lines}: {said:#?}"),
        }
    }
    // A cluster's files are looked at as well.
    let cluster =
        format!("{}[cluster.tls]\nmode = 'simple'\nroots = 'none.pem'\nsni = 'a'\n", listener(""));
    let problems = parse(&cluster, Path::new("f"), folder.path(), &host).unwrap_err().to_string();
    assert!(problems.starts_with("f:11:9: error: `roots`: "), "{problems}");
}
