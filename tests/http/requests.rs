//! Requests: refused with the right status and nothing forwarded, or forwarded in canonical form.

use evenkeel::{
    http::{self, Forwarded, Routes},
    telemetry::{CodeClass, ResponseFlag},
};

use crate::{
    messages::{FORWARDED, REFUSED, REFUSED_BODIES},
    stage::{Origin, Stage, cluster, eventually, get, ok, without_added},
    wire::Wire,
};

/// What would be taken for a request if what comes before it were read otherwise.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn what_is_no_request_is_refused_and_nothing_of_it_forwarded() {
    needs_io_uring!();
    let origin = Origin::echo();
    let stage = Stage::to(origin.address);
    for (what, bytes, status) in REFUSED {
        let mut client = stage.client();
        client.send([bytes, SMUGGLED.as_bytes()].concat());
        let answer = client.answer();
        assert_eq!(answer.status(), *status, "{what}: {answer:?}");
        assert!(answer.closes(), "{what}: {answer:?}");
        assert!(client.is_over(), "{what}: what follows is not looked at");
    }
    assert_eq!(origin.all_seen(), "");
    stage.counted(CodeClass::ClientError, ResponseFlag::DownstreamProtocolError, {
        REFUSED.iter().filter(|refused| refused.2 < 500).count() as u64
    });
    stage.counted(CodeClass::ServerError, ResponseFlag::DownstreamProtocolError, {
        REFUSED.iter().filter(|refused| refused.2 >= 500).count() as u64
    });
    stage.is_quiet();
}

#[test]
fn what_is_no_chunked_body_is_refused_and_never_complete_at_the_origin() {
    needs_io_uring!();
    let origin = Origin::echo();
    let stage = Stage::to(origin.address);
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (what, body) in REFUSED_BODIES {
        let before = origin.connections();
        let mut client = stage.client();
        client.send([&head[..], body, SMUGGLED.as_bytes()].concat());
        let answer = client.answer();
        assert_eq!(answer.status(), 400, "{what}: {answer:?}");
        assert!(answer.closes() && client.is_over(), "{what}");
        let seen = origin.seen()[before..].concat();
        assert!(!seen.contains("\r\n0\r\n"), "{what}: {seen:?}");
        assert!(!seen.contains("smuggled"), "{what}: {seen:?}");
    }
    let refused = REFUSED_BODIES.len() as u64;
    stage.counted(CodeClass::ClientError, ResponseFlag::DownstreamProtocolError, refused);
    stage.is_quiet();
}

#[test]
fn extensions_of_chunks_are_limited_in_all() {
    needs_io_uring!();
    let origin = Origin::echo();
    let stage = Stage::to(origin.address);
    let mut client = stage.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("1;{}\r\nx\r\n", "e".repeat(1000));
    client.send(chunk.repeat(40));
    assert_eq!(client.answer().status(), 400);
    assert!(client.is_over());
}

#[test]
fn what_is_a_request_is_forwarded_in_canonical_form() {
    needs_io_uring!();
    for (bytes, expected) in FORWARDED {
        let origin = Origin::answering(ok("answer"));
        let stage = Stage::to(origin.address);
        let mut client = stage.client();
        let answer = client.ask(bytes);
        let sent = String::from_utf8_lossy(bytes);
        assert_eq!((answer.status(), answer.text()), (200, "answer"), "{sent:?}");
        let expected = expected.replace("ORIGIN", &origin.address.to_string());
        assert_eq!(without_added(&origin.all_seen()), expected, "{sent:?}");
    }
}

#[test]
fn all_of_them_in_a_row_are_forwarded_one_by_one() {
    needs_io_uring!();
    let origin = Origin::answering(ok("answer"));
    let stage = Stage::to(origin.address);
    let mut client = stage.client();
    let mut expected = String::new();
    let persistent = |bytes: &&(&[u8], &str)| {
        let text = String::from_utf8_lossy(bytes.0);
        !text.contains("HTTP/1.0") && !text.contains("close") && !text.contains("websocket")
    };
    let all: Vec<_> = FORWARDED.iter().filter(persistent).collect();
    for (bytes, canonical) in &all {
        client.send(bytes);
        expected.push_str(canonical);
    }
    for (bytes, _) in &all {
        let answer = client.answer();
        assert_eq!(answer.text(), "answer", "{:?}", String::from_utf8_lossy(bytes));
    }
    assert_eq!(without_added(&origin.all_seen()), expected);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn what_is_said_of_the_client_is_what_the_policy_says() {
    needs_io_uring!();
    let origin = Origin::answering(ok(""));
    let came =
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\nX-Request-Id: mine\r\n\r\n";
    let seen_with = |policy: Forwarded| {
        let before = origin.all_seen().len();
        let routes = Routes::to(cluster("origin", origin.address));
        let stage = Stage::serving(http::proxy(routes).forwarded(policy).via("here"));
        assert_eq!(stage.ask(came).status(), 200);
        origin.all_seen()[before..].to_owned()
    };
    let appended = seen_with(Forwarded::Append);
    assert!(appended.contains("\r\nX-Forwarded-For: 192.0.2.1, 127.0.0.1\r\n"), "{appended}");
    assert!(appended.contains("\r\nX-Request-Id: mine\r\n"), "{appended}");
    assert!(appended.contains("\r\nVia: 1.1 here\r\n"), "{appended}");
    let replaced = seen_with(Forwarded::Replace);
    assert!(replaced.contains("\r\nX-Forwarded-For: 127.0.0.1\r\n"), "{replaced}");
    assert!(!replaced.contains("mine") && replaced.contains("X-Request-Id: "), "{replaced}");
    let trusted = seen_with(Forwarded::Trust);
    assert!(trusted.contains("\r\nX-Forwarded-For: 192.0.2.1\r\n"), "{trusted}");
}

#[test]
fn an_answer_of_the_proxys_own_names_the_reason_and_the_request() {
    needs_io_uring!();
    let origin = Origin::echo();
    let stage = Stage::to(origin.address);
    let refused = stage.ask("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n");
    assert_eq!(refused.text(), "400 Bad Request: repeated_host\n");
    assert_eq!(refused.field("content-type"), Some("text/plain; charset=utf-8"));
    let identified = stage.ask("GET /../x HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\n\r\n");
    assert_eq!(identified.text(), "400 Bad Request: path_dot_segment\nrequest id: mine\n");
    assert_eq!(identified.field("x-request-id"), Some("mine"));
    let json =
        "GET /../x HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\nAccept: application/json\r\n\r\n";
    let json = stage.ask(json);
    assert_eq!(json.field("content-type"), Some("application/json"));
    let expected = "{\"status\":400,\"reason\":\"path_dot_segment\",\"request_id\":\"mine\"}\n";
    assert_eq!(json.text(), expected);
    // What could not be parsed may say anything.
    let refused = stage.ask("GET / HTTP/1.1\r\nAccept: application/json\r\n\r\n");
    assert_eq!(refused.text(), "400 Bad Request: missing_host\n");
    let given = stage.ask(get("/../x"));
    let id = given.field("x-request-id").unwrap();
    assert!(given.text().ends_with(&format!("\nrequest id: {id}\n")), "{given:?}");
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_head_leaves_nothing_behind() {
    needs_io_uring!();
    let origin = Origin::echo();
    let stage = Stage::to(origin.address);
    let head = get("/");
    for length in 0..head.len() {
        let mut client = stage.client();
        client.send(&head[..length]);
        if length % 2 == 0 { client.reset() } else { drop(client) }
    }
    stage.is_quiet();
    assert_eq!(origin.all_seen(), "");
    assert_eq!(stage.ask(head).text(), "/");
}

#[test]
fn a_request_whose_body_is_cut_off_never_ends_at_the_origin() {
    needs_io_uring!();
    let origin = Origin::echo();
    let stage = Stage::to(origin.address);
    for framing in
        ["Content-Length: 10\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"]
    {
        let mut client = stage.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}"));
        eventually("the origin has the part", || {
            origin.all_seen().ends_with(if framing.contains("chunked") {
                "hello\r\n"
            } else {
                "hello"
            })
        });
        client.finish();
        assert!(client.is_over());
    }
    stage.counted(CodeClass::None, ResponseFlag::DownstreamConnectionTermination, 2);
    assert!(!origin.all_seen().contains("\r\n0\r\n"));
    stage.is_quiet();
    drop(Wire::connect(stage.address));
}
