//! What becomes a fact of the head and is no field any more: framing, and what concerns one hop.

use http::StatusCode;

use super::{LIMITS, accepted, emit_request, read_request, refused, with};
use crate::http::{
    BodyLength, Persistence,
    h1::{FieldError, RequestError},
};

fn post(lines: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

#[test]
fn content_length_is_one_number_of_digits() {
    for (value, length) in [
        ("0", 0),
        ("5", 5),
        ("  7\t", 7),
        ("0005", 5),
        ("18446744073709551615", u64::MAX),
        ("00000000000000000000000000000000001", 1),
    ] {
        let head = accepted(
            post(&format!("content-length:{value}\r\n")),
            post(&format!("Content-Length: {length}\r\n")),
        );
        assert_eq!(head.body(), BodyLength::Exactly(length));
    }
    for value in [
        "",
        " ",
        "+5",
        "-5",
        "5 5",
        "5,5",
        "5, 5",
        "0x5",
        "5.0",
        "5e1",
        "18446744073709551616",
        "1_0",
        "99999999999999999999999",
        "a",
        "5a",
        "5;",
        "\u{661}",
        ",",
        "\"5\"",
    ] {
        let lines = format!("Content-Length: {value}\r\n");
        refused(post(&lines), RequestError::Field(FieldError::ContentLength));
    }
    for second in ["5", "6"] {
        let lines = format!("Content-Length: 5\r\ncontent-length: {second}\r\n");
        refused(post(&lines), RequestError::Field(FieldError::RepeatedContentLength));
    }
}

#[test]
fn transfer_encoding_is_chunked_and_nothing_else() {
    for value in ["chunked", "CHUNKED", "\tChunked "] {
        let head = accepted(
            post(&format!("transfer-encoding:{value}\r\n")),
            post("Transfer-Encoding: chunked\r\n"),
        );
        assert_eq!(head.body(), BodyLength::Chunked);
    }
    let malformed = RequestError::Field(FieldError::TransferEncoding);
    for value in [
        "",
        ",",
        "chunked,",
        ",chunked",
        "chunked, chunked",
        "chunked, gzip",
        "chunked;q=1",
        "gzip;q=1",
        "\"chunked\"",
        "chunked chunked",
        "chu nked",
        "gzip,, chunked",
        "chunked\u{a0}",
        "=chunked",
    ] {
        refused(post(&format!("Transfer-Encoding: {value}\r\n")), malformed);
    }
    refused(post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), malformed);
    refused(post("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n"), malformed);
    refused(post("Transfer-Encoding: \x0bchunked\r\n"), RequestError::Field(FieldError::Value));
    let unknown = RequestError::Field(FieldError::TransferCoding);
    for value in ["gzip", "identity", "xchunked", "chunkedx", "gzip, chunked", "identity,chunked"] {
        refused(post(&format!("Transfer-Encoding: {value}\r\n")), unknown);
    }
    assert_eq!(unknown.status(), StatusCode::NOT_IMPLEMENTED);
    for value in ["chunked", "gzip", "identity", ""] {
        let bytes = format!("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: {value}\r\n\r\n");
        refused(bytes, RequestError::Field(FieldError::TransferEncodingInHttp10));
    }
    let both = RequestError::Field(FieldError::TwoLengths);
    refused(post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), both);
    refused(post("Content-Length: 0\r\ntransfer-encoding: Chunked\r\n"), both);
}

#[test]
fn a_body_is_what_the_head_says_and_no_more() {
    for bytes in [with(""), post("")] {
        let head = accepted(&bytes, &bytes);
        assert_eq!(head.body(), BodyLength::None);
    }
    let zero = post("Content-Length: 0\r\n");
    assert_eq!(accepted(&zero, &zero).body(), BodyLength::Exactly(0));
    let get = with("Content-Length: 3\r\n");
    assert_eq!(accepted(&get, &get).body(), BodyLength::Exactly(3));
}

#[test]
fn what_concerns_one_hop_is_dropped() {
    accepted(
        with(
            "Keep-Alive: timeout=5\r\nConnection: X-One, keep-alive ,x-two\r\nX-One: 1\r\nProxy-Connection: close\r\n\
              X-Three: 3\r\nx-TWO: 2\r\nX-One: again\r\nHTTP2-Settings: AAMAAABk\r\nTE: gzip\r\n",
        ),
        with("X-Three: 3\r\n"),
    );
    // What frames the message cannot be named away; what is end-to-end can.
    accepted(
        post(
            "Connection: host, content-length, transfer-encoding, x\r\nContent-Length: 3\r\nX: y\r\n",
        ),
        post("Content-Length: 3\r\n"),
    );
    accepted(
        post("Connection: transfer-encoding, close\r\nTransfer-Encoding: chunked\r\n"),
        post("Transfer-Encoding: chunked\r\nConnection: close\r\n"),
    );
    // Empty elements are legal, and several lines are one list.
    let head = accepted(
        with("Connection: , close,\r\nConnection:\r\nConnection: X\r\nX: y\r\n"),
        with("Connection: close\r\n"),
    );
    assert!(!head.keep_alive());
    accepted(with("Connection: close, keep-alive\r\n"), with("Connection: close\r\n"));
    for value in ["a b", "\"close\"", "close;x", "a/b", "\u{e9}", "keep-alive; timeout=5"] {
        let lines = format!("Connection: {value}\r\n");
        refused(with(&lines), RequestError::Field(FieldError::Connection));
    }
    let options = |count| format!("Connection: {}\r\n", vec!["x"; count].join(","));
    accepted(with(&options(32)), with(""));
    refused(with(&options(33)), RequestError::Field(FieldError::Connection));
    // Credentials for a proxy further up, and the announcement of trailers, are end-to-end here.
    let kept =
        with("Proxy-Authorization: Basic eA==\r\nTrailer: X-Sum\r\ntraceparent: 00-1-2-01\r\n");
    accepted(&kept, &kept);
}

#[test]
fn te_is_trailers_or_nothing() {
    for value in ["trailers", "Trailers", "gzip;q=0.5, trailers", "trailers, deflate"] {
        let head = accepted(
            with(&format!("TE: {value}\r\nConnection: TE\r\n")),
            with("TE: trailers\r\nConnection: TE\r\n"),
        );
        assert!(head.te_trailers());
    }
    accepted(
        with("TE: trailers\r\nConnection: close, TE\r\n"),
        with("TE: trailers\r\nConnection: TE, close\r\n"),
    );
    for value in ["", "gzip", "trailersx", "trailers;q=1"] {
        assert!(!accepted(with(&format!("TE: {value}\r\n")), with("")).te_trailers());
    }
}

#[test]
fn upgrade_is_one_protocol_asked_for_by_a_get_without_a_body() {
    let asked = with("Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n");
    let head = accepted(&asked, with("Connection: upgrade\r\nUpgrade: websocket\r\n"));
    assert_eq!(head.upgrade(), Some("websocket"));
    let head = accepted(
        with("Connection: upgrade\r\nUpgrade: foo/2\r\nSec-WebSocket-Key: x\r\n"),
        with("Sec-WebSocket-Key: x\r\nConnection: upgrade\r\nUpgrade: foo/2\r\n"),
    );
    assert_eq!(head.upgrade(), Some("foo/2"));
    // The upstream is not asked unless the proxy wants it.
    let mut out = Vec::new();
    head.encode(BodyLength::None, Persistence::Implied, &mut out);
    assert_eq!(out, with("Sec-WebSocket-Key: x\r\n").as_bytes());
    for lines in [
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\n",
        "Connection: upgrade\r\nUpgrade:\r\n",
        "Connection: upgrade\r\nUpgrade: a, b\r\n",
        "Connection: upgrade\r\nUpgrade: a b\r\n",
        "Connection: upgrade\r\nUpgrade: a/b/c\r\n",
        "Connection: upgrade\r\nUpgrade: a/\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        "Connection: upgrade\r\nUpgrade: H2C\r\n",
        "Connection: upgrade\r\nUpgrade: h2\r\n",
        "Connection: upgrade\r\nUpgrade: HTTP/2.0\r\n",
        "Connection: upgrade\r\nUpgrade: h2c, websocket\r\n",
    ] {
        assert_eq!(accepted(with(lines), with("")).upgrade(), None, "{lines}");
    }
    let lines = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    for bytes in [
        post(lines),
        with(&format!("{lines}Content-Length: 1\r\n")),
        with(&format!("{lines}Transfer-Encoding: chunked\r\n")),
        with(lines).replace("HTTP/1.1", "HTTP/1.0"),
    ] {
        let (head, _) = read_request(bytes.as_bytes(), &LIMITS).unwrap().unwrap();
        assert_eq!(head.upgrade(), None, "{bytes}");
        assert!(!emit_request(&head).windows(7).any(|word| word.eq_ignore_ascii_case(b"upgrade")));
    }
}

#[test]
fn the_only_expectation_is_100_continue() {
    let mut head = accepted(
        post("Expect: 100-Continue\r\nContent-Length: 3\r\n"),
        post("Expect: 100-continue\r\nContent-Length: 3\r\n"),
    );
    assert!(head.expects_continue());
    head.drop_expectation();
    assert_eq!(emit_request(&head), post("Content-Length: 3\r\n").as_bytes());
    // Nothing to wait for without a body, and HTTP/1.0 does not know it (RFC 9110 section 10.1.1).
    accepted(with("Expect: 100-continue\r\n"), with(""));
    accepted(post("Expect: 100-continue\r\nContent-Length: 0\r\n"), post("Content-Length: 0\r\n"));
    accepted(
        "POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
        post("Content-Length: 3\r\nConnection: close\r\n"),
    );
    for value in ["", "200-ok", "100-continue, 100-continue", "100", "100-continue;x"] {
        refused(
            post(&format!("Expect: {value}\r\nContent-Length: 3\r\n")),
            RequestError::Expectation,
        );
    }
    refused(post("Expect: 100-continue\r\nExpect: x\r\n"), RequestError::Expectation);
    assert_eq!(RequestError::Expectation.status(), StatusCode::EXPECTATION_FAILED);
}
