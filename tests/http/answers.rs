//! Answers: those of a bad origin become 502 and their connection is not used again; good ones reach
//! the client in canonical form.

use std::time::Duration;

use evenkeel::telemetry::{CodeClass, ResponseFlag};

use crate::{
    messages::{ANSWERS, BAD_ANSWERS},
    stage::{Origin, Stage, get, ok},
    wire::Wire,
};

/// An origin whose first connection gives this answer to its first request, and which tells what
/// comes of it: further requests are answered with 200, on this connection and on others.
fn once(answer: &[u8]) -> Origin {
    let answer = answer.to_vec();
    Origin::new(move |wire, number| {
        if number == 0 {
            wire.request();
            wire.send(&answer);
        }
        while wire.request().is_some() {
            wire.send(ok(format!("from {number}")));
        }
    })
}

#[test]
fn an_answer_that_is_none_becomes_502_and_ends_the_origins_connection() {
    needs_io_uring!();
    for (what, bytes) in BAD_ANSWERS {
        let origin = once(bytes);
        let stage = Stage::to(origin.address);
        let mut client = stage.client();
        let answer = client.ask(get("/"));
        assert_eq!(answer.status(), 502, "{what}: {answer:?}");
        assert_eq!(
            client.ask(get("/")).text(),
            "from 1",
            "{what}: the client's connection is kept"
        );
        stage.counted(CodeClass::ServerError, ResponseFlag::UpstreamProtocolError, 1);
    }
}

#[test]
fn interim_answers_are_limited_in_number_and_heads_in_length() {
    needs_io_uring!();
    let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(17);
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(65 << 10));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(101));
    for (bytes, interims) in [(interim, 16), (long, 0), (many, 0)] {
        let origin = once(bytes.as_bytes());
        let stage = Stage::to(origin.address);
        let mut client = stage.client();
        client.send(get("/"));
        for _ in 0..interims {
            assert_eq!(client.answer().status(), 103);
        }
        assert_eq!(client.answer().status(), 502);
        assert_eq!(client.ask(get("/")).text(), "from 1");
    }
}

#[test]
fn answers_reach_the_client_in_canonical_form() {
    needs_io_uring!();
    for (method, bytes, expected, reused) in ANSWERS {
        let origin = once(bytes);
        let stage = Stage::to(origin.address);
        let mut client = stage.client();
        let what = String::from_utf8_lossy(bytes);
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        let got = client.exactly(expected.len()).map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(got.as_deref(), Some(*expected), "{what:?}");
        let next = client.ask(get("/"));
        assert_eq!(next.text(), if *reused { "from 0" } else { "from 1" }, "{what:?}");
    }
}

#[test]
fn a_body_up_to_the_end_of_the_connection_gets_a_framing() {
    needs_io_uring!();
    let script = |wire: &mut Wire, _: usize| {
        wire.request();
        wire.send("HTTP/1.1 200 OK\r\n\r\nhello ");
        std::thread::sleep(Duration::from_millis(5));
        wire.send("world");
    };
    let origin = Origin::new(script);
    let stage = Stage::to(origin.address);
    let mut client = stage.client();
    for _ in 0..2 {
        let answer = client.ask(get("/"));
        assert_eq!(answer.field("transfer-encoding"), Some("chunked"));
        assert_eq!(answer.text(), "hello world");
        assert!(!answer.closes());
    }
    // A client that knows no chunks gets the end of the connection for the end of the body.
    let answer = stage.ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(answer.text(), "hello world");
    assert!(answer.closes() && answer.field("transfer-encoding").is_none());
}

/// Bodies that break off, and those that are not framed as they should be: the client must notice.
#[test]
fn an_answer_that_breaks_off_is_never_whole_for_the_client() {
    needs_io_uring!();
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (rest, flag) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", "UC"),
        (&*format!("{chunked}5\r\nhello\r\n"), "UC"),
        (&*format!("{chunked}5\r\nhello\r\n0\r\n"), "UC"),
        (&*format!("{chunked}5\r\nhello\r\n+1\r\nx\r\n0\r\n\r\n"), "UPE"),
        (&*format!("{chunked}5\r\nhelloxx0\r\n\r\n"), "UPE"),
    ] {
        let bytes = rest.to_owned();
        let origin = Origin::new(move |wire, _| {
            wire.request();
            wire.send(&bytes);
        });
        let stage = Stage::to(origin.address);
        let mut client = stage.client();
        client.send(get("/"));
        let got = String::from_utf8(client.rest()).unwrap();
        assert!(!got.contains("\r\n0\r\n\r\n"), "{rest:?}: {got:?}");
        let flag = match flag {
            "UC" => ResponseFlag::UpstreamConnectionTermination,
            _ => ResponseFlag::UpstreamProtocolError,
        };
        stage.counted(CodeClass::Success, flag, 1);
        stage.is_quiet();
    }
}
