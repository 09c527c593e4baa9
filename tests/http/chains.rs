//! What sidecars meet, through one proxy and through two in a row. The cases are those of
//! linkerd2-proxy's integration tests.

use std::time::Duration;

use crate::{
    stage::{Origin, Stage, get, ok},
    wire::Wire,
};

/// One proxy, or a second one behind it.
struct Chain {
    first: Stage,
    _second: Option<Stage>,
}

impl Chain {
    fn client(&self) -> Wire {
        self.first.client()
    }
}

/// Runs a case with each length of the chain.
fn each(origin: &Origin, case: impl Fn(&Chain)) {
    case(&Chain { first: Stage::to(origin.address), _second: None });
    let second = Stage::to(origin.address);
    case(&Chain { first: Stage::to(second.address), _second: Some(second) });
}

#[test]
fn a_request_gets_its_answer() {
    needs_io_uring!();
    each(&Origin::echo(), |chain| {
        let mut client = chain.client();
        assert_eq!(client.ask(get("/hello")).text(), "/hello");
        assert_eq!(client.ask(get("/again?x=%20")).text(), "/again?x=%20");
    });
}

#[test]
fn fields_of_one_hop_are_removed_both_ways() {
    needs_io_uring!();
    let answer = "HTTP/1.1 200 OK\r\nConnection: X-Foo, keep-alive\r\nX-Foo: 1\r\nX-Bar: 2\r\n\
                  Keep-Alive: 500\r\nProxy-Connection: a\r\nContent-Length: 0\r\n\r\n";
    let origin = Origin::answering(answer);
    each(&origin, |chain| {
        let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Foo-Bar, keep-alive\r\n\
                       X-Foo-Bar: 1\r\nX-Server-Quux: 2\r\nProxy-Connection: a\r\n\r\n";
        let answer = chain.client().ask(request);
        assert_eq!((answer.field("x-foo"), answer.field("x-bar")), (None, Some("2")));
        assert_eq!(answer.field("keep-alive").or(answer.field("connection")), None);
        assert_eq!(answer.field("proxy-connection"), None);
    });
    let seen = origin.all_seen();
    assert_eq!(seen.matches("X-Server-Quux: 2").count(), 2);
    for gone in ["X-Foo-Bar", "Connection", "Keep-Alive"] {
        assert!(!seen.contains(gone), "{seen}");
    }
}

#[test]
fn http_1_0_with_and_without_host() {
    needs_io_uring!();
    let origin = Origin::echo();
    each(&origin, |chain| {
        for host in ["Host: a.example\r\n", ""] {
            let mut client = chain.client();
            let answer = client.ask(format!("GET /old HTTP/1.0\r\n{host}\r\n"));
            assert_eq!(answer.text(), "/old");
            assert!(answer.head.starts_with("HTTP/1.1 200 ") && answer.closes(), "{answer:?}");
            assert!(client.is_over());
        }
    });
    let seen = origin.all_seen();
    assert_eq!(seen.matches("Host: a.example\r\n").count(), 2);
    assert_eq!(seen.matches("Host: ").count(), 4);
}

#[test]
fn the_authority_of_the_target_wins_over_host() {
    needs_io_uring!();
    let origin = Origin::echo();
    each(&origin, |chain| {
        let request = "GET http://foo.example/x HTTP/1.1\r\nHost: bar.example\r\n\r\n";
        assert_eq!(chain.client().ask(request).text(), "/x");
    });
    assert_eq!(origin.all_seen().matches("Host: foo.example\r\n").count(), 2);
    assert!(!origin.all_seen().contains("bar.example"));
}

#[test]
fn connections_are_upgraded() {
    needs_io_uring!();
    let origin = Origin::new(|wire, _| {
        let head = wire.head().unwrap();
        assert!(
            head.contains("\r\nUpgrade: chat\r\n") && head.contains("\r\nConnection: upgrade\r\n")
        );
        wire.send(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nConnection: upgrade\r\n\r\n",
        );
        assert_eq!(wire.exactly(5).unwrap(), b"hello");
        wire.send("world");
        assert!(wire.is_over());
    });
    each(&origin, |chain| {
        let mut client = chain.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n");
        let answer = client.answer();
        assert_eq!((answer.status(), answer.field("upgrade")), (101, Some("chat")));
        client.send("hello");
        assert_eq!(client.exactly(5).unwrap(), b"world");
        client.finish();
        assert!(client.is_over());
    });
}

#[test]
fn an_upgrade_to_http_2_is_stripped() {
    needs_io_uring!();
    let origin = Origin::echo();
    each(&origin, |chain| {
        let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, http2-settings\r\n\
                       Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n";
        assert_eq!(chain.client().ask(request).status(), 200);
    });
    let seen = origin.all_seen().to_lowercase();
    assert!(!seen.contains("upgrade") && !seen.contains("http2-settings"), "{seen}");
}

#[test]
fn connect_is_refused() {
    needs_io_uring!();
    let origin = Origin::echo();
    each(&origin, |chain| {
        for request in [
            "CONNECT a.example:80 HTTP/1.1\r\nHost: a.example:80\r\n\r\n",
            "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            let mut client = chain.client();
            client.send(request);
            client.send(get("/tunnelled"));
            assert_eq!(client.answer().status(), 501);
            assert!(client.is_over());
        }
    });
    assert_eq!(origin.all_seen(), "");
}

#[test]
fn bodies_with_a_length_and_in_chunks() {
    needs_io_uring!();
    let origin = Origin::echo();
    each(&origin, |chain| {
        let mut client = chain.client();
        let length = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(client.ask(length).text(), "/ahello");
        let chunks = "POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                      5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
        assert_eq!(client.ask(chunks).text(), "/bhello world");
    });
    assert_eq!(origin.all_seen().matches("Content-Length: 5\r\n").count(), 2);
    assert_eq!(origin.all_seen().matches("Transfer-Encoding: chunked\r\n").count(), 2);
}

#[test]
fn requests_without_a_body_get_no_framing_and_an_empty_one_keeps_its() {
    needs_io_uring!();
    let origin = Origin::answering(ok(""));
    each(&origin, |chain| {
        for method in ["GET", "POST", "PUT", "HEAD", "DELETE"] {
            let mut client = chain.client();
            client.send(format!("{method} /none HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(client.answer_to(method).unwrap().status(), 200);
            client.send(format!("{method} /zero HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
            assert_eq!(client.answer_to(method).unwrap().field("content-length"), Some("0"));
        }
    });
    for request in origin.all_seen().split_inclusive("\r\n\r\n") {
        let framed = request.contains("/zero");
        assert_eq!(request.contains("Content-Length: 0\r\n"), framed, "{request}");
        assert!(!request.contains("Transfer-Encoding"), "{request}");
    }
}

#[test]
fn answers_without_a_body() {
    needs_io_uring!();
    let origin = Origin::new(|wire, _| {
        while let Some(request) = wire.request() {
            let status = &request.target()[1..];
            wire.send(format!("HTTP/1.1 {status} Whatever\r\n\r\n"));
        }
    });
    each(&origin, |chain| {
        let mut client = chain.client();
        for status in [204, 304] {
            let answer = client.ask(get(&format!("/{status}")));
            assert_eq!(answer.status(), status);
            assert_eq!(answer.field("transfer-encoding").or(answer.field("content-length")), None);
        }
    });
}

#[test]
fn answers_to_head_have_no_body() {
    needs_io_uring!();
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 55\r\n\r\n");
    each(&origin, |chain| {
        let mut client = chain.client();
        for _ in 0..3 {
            client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
            let answer = client.answer_to("HEAD").unwrap();
            assert_eq!((answer.status(), answer.field("content-length")), (200, Some("55")));
        }
    });
}

#[test]
fn an_answer_that_ends_with_its_connection() {
    needs_io_uring!();
    let origin = Origin::new(|wire, _| {
        wire.request();
        wire.send("HTTP/1.0 200 OK\r\n\r\nbody till eof");
    });
    each(&origin, |chain| {
        let mut client = chain.client();
        for _ in 0..2 {
            let answer = client.ask(get("/"));
            assert_eq!(answer.text(), "body till eof");
            assert_eq!(answer.field("transfer-encoding"), Some("chunked"));
        }
    });
}

#[test]
fn a_request_whose_origin_is_gone_is_told_so() {
    needs_io_uring!();
    let nowhere = crate::stage::nowhere();
    let second = Stage::to(nowhere);
    for stage in [Stage::to(nowhere), Stage::to(second.address)] {
        assert_eq!(stage.ask(get("/")).status(), 503);
    }
}

#[test]
fn a_client_that_leaves_ends_the_request_at_the_origin() {
    needs_io_uring!();
    let origin = Origin::new(|wire, _| {
        wire.request();
        // Ends with the proxy's connection.
        assert!(wire.is_over());
        wire.send("gone");
    });
    each(&origin, |chain| {
        let before = origin.connections();
        let mut client = chain.client();
        client.send(get("/"));
        crate::stage::eventually("the origin has it", || origin.connections() > before);
        std::thread::sleep(Duration::from_millis(20));
        drop(client);
        chain.first.is_quiet();
    });
}
