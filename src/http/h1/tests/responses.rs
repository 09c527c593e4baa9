//! Responses, rule by rule, and the answers of the proxy itself.

use super::{emit_response, read_response};
use crate::http::{
    Headers, Persistence, ResponseBody, ResponseHead,
    h1::{Answer, AnswerForm, FieldError, HeadLimits, ResponseError, write_answer},
};
use http::{Method, StatusCode, Version};

/// The head is taken, in whatever pieces it comes, and is written anew like this; read again, it is
/// written the same.
fn accepted(method: &Method, bytes: impl AsRef<[u8]>, canonical: impl AsRef<[u8]>) -> ResponseHead {
    let (bytes, canonical) = (bytes.as_ref(), canonical.as_ref());
    let shown = bytes.escape_ascii();
    let (head, length) = match read_response(bytes) {
        Ok(Some(complete)) => complete,
        other => panic!("{shown}: {other:?}"),
    };
    assert_eq!(length, bytes.len(), "{shown}");
    let emitted = emit_response(&head, method);
    assert_eq!(emitted.escape_ascii().to_string(), canonical.escape_ascii().to_string(), "{shown}");
    let (again, _) = read_response(&emitted).unwrap().unwrap();
    assert_eq!(emit_response(&again, method), emitted, "{shown}");
    assert_eq!(again.body(method), head.body(method), "{shown}");
    head
}

fn refused(bytes: impl AsRef<[u8]>, error: ResponseError) {
    let bytes = bytes.as_ref();
    let outcome = read_response(bytes).map(|head| head.map(|(head, _)| head.status()));
    assert_eq!(outcome, Err(error), "{}", bytes.escape_ascii());
    assert_eq!(error.status(), StatusCode::BAD_GATEWAY);
}

fn ok(lines: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{lines}\r\n")
}

#[test]
fn a_status_line_has_one_form() {
    let length = "Content-Length: 0\r\n";
    for (line, canonical) in [
        ("HTTP/1.1 200 OK", "HTTP/1.1 200 OK"),
        ("HTTP/1.1 200 ", "HTTP/1.1 200 "),
        ("HTTP/1.1 200", "HTTP/1.1 200 "),
        ("HTTP/1.1 418 I'm a\tteapot", "HTTP/1.1 418 I'm a\tteapot"),
        ("HTTP/1.1 599 x", "HTTP/1.1 599 x"),
        // A reason in another encoding than ASCII is left out.
        ("HTTP/1.1 200 d\u{e9}j\u{e0}", "HTTP/1.1 200 "),
    ] {
        accepted(
            &Method::GET,
            format!("{line}\r\n{length}\r\n"),
            format!("{canonical}\r\n{length}\r\n"),
        );
    }
    for line in [
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2x0 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 -20 OK",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1 200 O\0K",
        "HTTP/1.1 200 O\x7fK",
        "HTTP/1.1 200 OK\r",
        "HTTP/1.1 +20 OK",
        "\r\nHTTP/1.1 200 OK",
        "\nHTTP/1.1 200 OK",
        "HTTP/1.1 200.1 OK",
    ] {
        refused(format!("{line}\r\n{length}\r\n"), ResponseError::StatusLine);
    }
    for status in ["000", "099", "600", "999"] {
        refused(format!("HTTP/1.1 {status} x\r\n{length}\r\n"), ResponseError::Status);
    }
    for line in [
        "HTTP/2.0 200 OK",
        "HTTP/0.9 200 OK",
        "HTTP/1.2 200 OK",
        "http/1.1 200 OK",
        "ICY 200 OK",
        "<html>",
        "SSH-2.0-x",
        " HTTP/1.1 200 OK",
        "HTTP/1.1\t200 OK",
        "\x15\x03\x01\0\x02\x02",
    ] {
        refused(format!("{line}\r\n{length}\r\n"), ResponseError::Version);
    }
}

#[test]
fn fields_follow_the_rules_of_requests() {
    let good = ok("Content-Length: 0\r\nX: y\r\n");
    accepted(&Method::GET, ok("X:y \r\nContent-Length:0\r\n"), ok("X: y\r\nContent-Length: 0\r\n"));
    for (at, _) in good.match_indices("\r\n") {
        let mut bytes = good.clone();
        bytes.remove(at);
        refused(bytes, ResponseError::Field(FieldError::LineEnd));
    }
    for line in [": x", "X", "X : y", " X: y", "X: y\r\n z", "X(: y", "B\u{e9}: y"] {
        refused(ok(&format!("{line}\r\n")), ResponseError::Field(FieldError::Name));
    }
    refused(ok("X: \0\r\n"), ResponseError::Field(FieldError::Value));
    refused(ok("X: a\rb\r\n"), ResponseError::Field(FieldError::Value));
    let many = "X: y\r\n".repeat(101);
    let parsed = ResponseHead::new().parse(ok(&many).as_bytes(), &HeadLimits::default());
    assert_eq!(parsed, Err(ResponseError::Field(FieldError::TooMany)));
    let large = ok(&format!("X: {}\r\n", "y".repeat(64 * 1024)));
    let parsed = ResponseHead::new().parse(large.as_bytes(), &HeadLimits::default());
    assert_eq!(parsed, Err(ResponseError::Field(FieldError::TooLarge)));
}

#[test]
fn a_doubtful_length_is_refused() {
    use FieldError as F;
    for (lines, error) in [
        ("Content-Length:\r\n", F::ContentLength),
        ("Content-Length: +1\r\n", F::ContentLength),
        ("Content-Length: 1,1\r\n", F::ContentLength),
        ("Content-Length: abc\r\n", F::ContentLength),
        ("Content-Length: 18446744073709551616\r\n", F::ContentLength),
        ("Content-Length: 1\r\nContent-Length: 1\r\n", F::RepeatedContentLength),
        ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", F::TwoLengths),
        ("Transfer-Encoding: gzip, chunked\r\n", F::TransferCoding),
        ("Transfer-Encoding: identity\r\n", F::TransferCoding),
        ("Transfer-Encoding: chunked,\r\n", F::TransferEncoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", F::TransferEncoding),
        ("Connection: a b\r\n", F::Connection),
    ] {
        refused(ok(lines), ResponseError::Field(error));
        // Whatever the status: who is unsure of the length is unsure of where the next answer starts.
        refused(format!("HTTP/1.1 204 x\r\n{lines}\r\n"), ResponseError::Field(error));
    }
    let chunked = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    refused(chunked, ResponseError::Field(F::TransferEncodingInHttp10));
}

#[test]
fn a_body_depends_on_method_status_and_fields() {
    use ResponseBody::{Chunked, Exactly, None, UntilClose};
    let length = "Content-Length: 5\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let until_close = "Connection: close\r\n";
    for (method, status, lines, body, emitted) in [
        (Method::GET, "200", length, Exactly(5), length),
        (Method::GET, "200", "Content-Length: 0\r\n", Exactly(0), "Content-Length: 0\r\n"),
        (Method::GET, "200", chunked, Chunked, chunked),
        (Method::GET, "200", "", UntilClose, until_close),
        (Method::GET, "404", length, Exactly(5), length),
        // The length that a GET would have had is metadata.
        (Method::HEAD, "200", length, None, length),
        (Method::HEAD, "200", chunked, None, ""),
        (Method::HEAD, "200", "", None, ""),
        (Method::GET, "304", length, None, length),
        (Method::GET, "304", chunked, None, ""),
        (Method::GET, "304", "", None, ""),
        (Method::GET, "204", length, None, ""),
        (Method::GET, "204", chunked, None, ""),
        (Method::GET, "204", "", None, ""),
        (Method::GET, "100", length, None, ""),
        (Method::GET, "103", chunked, None, ""),
        (Method::CONNECT, "404", length, Exactly(5), length),
    ] {
        let head = accepted(
            &method,
            format!("HTTP/1.1 {status} x\r\n{lines}\r\n"),
            format!("HTTP/1.1 {status} x\r\n{emitted}\r\n"),
        );
        assert_eq!(head.body(&method), body, "{method} {status} {lines}");
    }
    let (head, _) = read_response(ok(length).as_bytes()).unwrap().unwrap();
    assert_eq!(head.body(&Method::CONNECT), None);
    let mut out = Vec::new();
    head.encode(None, Persistence::Upgrade, &mut out);
    assert_eq!(out, ok("").as_bytes(), "the start of a tunnel has no length");
}

#[test]
fn what_concerns_one_hop_is_dropped() {
    let head = accepted(
        &Method::GET,
        ok(
            "Keep-Alive: timeout=5\r\nConnection: keep-alive, X-One\r\nX-One: 1\r\nUpgrade: h2c\r\nX: y\r\n\
            Proxy-Connection: x\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n",
        ),
        ok("X: y\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n"),
    );
    assert!(head.keep_alive());
    let length = "Content-Length: 0\r\n";
    for (version, connection, keeps) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let close = if keeps { "" } else { "Connection: close\r\n" };
        let head = accepted(
            &Method::GET,
            format!("HTTP/{version} 200 OK\r\n{connection}{length}\r\n"),
            ok(&format!("{length}{close}")),
        );
        assert_eq!(head.keep_alive(), keeps);
    }
}

#[test]
fn a_connection_is_upgraded_by_a_101_only() {
    let lines = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let head = accepted(
        &Method::GET,
        format!("HTTP/1.1 101 Switching Protocols\r\n{lines}Sec-WebSocket-Accept: x\r\n\r\n"),
        "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nConnection: upgrade\r\n\
         Upgrade: websocket\r\n\r\n",
    );
    assert_eq!(head.upgrade(), Some("websocket"));
    for bytes in [
        ok(&format!("{lines}Content-Length: 0\r\n")),
        format!("HTTP/1.1 426 x\r\n{lines}Content-Length: 0\r\n\r\n"),
        format!("HTTP/1.0 101 x\r\n{lines}\r\n"),
        "HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n".to_owned(),
        "HTTP/1.1 101 x\r\nConnection: upgrade\r\n\r\n".to_owned(),
        "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n".to_owned(),
        "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: a, b\r\n\r\n".to_owned(),
    ] {
        let (head, _) = read_response(bytes.as_bytes()).unwrap().unwrap();
        assert_eq!(head.upgrade(), None, "{bytes}");
    }
}

#[test]
fn what_the_client_is_told_depends_on_its_version() {
    let mut head = ResponseHead::new();
    head.set_status(StatusCode::NOT_FOUND);
    head.headers_mut().insert("X", "y").unwrap();
    let emitted = |body, persistence| {
        let mut out = Vec::new();
        head.encode(body, persistence, &mut out);
        String::from_utf8(out).unwrap()
    };
    let start = "HTTP/1.1 404 Not Found\r\nX: y\r\n";
    for (version, keep, line) in [
        (Version::HTTP_11, true, ""),
        (Version::HTTP_11, false, "Connection: close\r\n"),
        (Version::HTTP_10, true, "Connection: keep-alive\r\n"),
        (Version::HTTP_10, false, "Connection: close\r\n"),
    ] {
        assert_eq!(
            emitted(ResponseBody::Exactly(u64::MAX), Persistence::towards(version, keep)),
            format!("{start}Content-Length: 18446744073709551615\r\n{line}\r\n")
        );
    }
    // A body without a length ends with the connection, and is announced so.
    assert_eq!(
        emitted(ResponseBody::UntilClose, Persistence::KeepAlive),
        format!("{start}Connection: close\r\n\r\n")
    );
}

#[test]
fn each_error_has_a_reason_of_its_own() {
    for (error, reason) in [
        (ResponseError::StatusLine, "invalid_status_line"),
        (ResponseError::Status, "invalid_status"),
        (ResponseError::Version, "unsupported_version"),
        (ResponseError::Field(FieldError::TwoLengths), "content_length_and_transfer_encoding"),
    ] {
        assert_eq!((error.reason(), error.status().as_u16()), (reason, 502));
    }
}

#[test]
fn the_proxys_own_answers_are_complete_messages() {
    let answer = Answer {
        status: StatusCode::BAD_REQUEST,
        reason: "invalid_host",
        request_id: "0b6f-5e",
        form: AnswerForm::Text,
        persistence: Persistence::Close,
        to_head: false,
    };
    let body = "400 Bad Request: invalid_host\nrequest id: 0b6f-5e\n";
    let written = |answer: &Answer<'_>| {
        let mut out = Vec::new();
        write_answer(answer, &mut out);
        String::from_utf8(out).unwrap()
    };
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nVary: Accept\r\n\
         X-Request-Id: 0b6f-5e\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    assert_eq!(written(&answer), format!("{head}{body}"));
    assert_eq!(written(&Answer { to_head: true, ..answer }), head);
    // An id that came from elsewhere cannot add lines.
    for request_id in ["", "a\r\nX: y", "a b", "\u{e9}"] {
        let text = written(&Answer { request_id, persistence: Persistence::Implied, ..answer });
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        assert!(!text.contains("request id") && !head.contains("X-Request-Id"), "{text}");
        let (parsed, length) = read_response(text.as_bytes()).unwrap().unwrap();
        let expected = ResponseBody::Exactly((text.len() - length) as u64);
        assert_eq!(parsed.body(&Method::GET), expected);
        assert!(parsed.keep_alive());
    }
}

#[test]
fn the_form_is_the_one_that_the_client_takes() {
    for (accept, form) in [
        (&[][..], AnswerForm::Text),
        (&["*/*"], AnswerForm::Text),
        (&["application/json"], AnswerForm::Json),
        (&["application/xml, Application/JSON ; q=0.9", "*/*"], AnswerForm::Json),
        (&["application/json-seq"], AnswerForm::Text),
        (&["application/json, text/plain, */*"], AnswerForm::Text),
        (&["application/json", "TEXT/*;q=0.1"], AnswerForm::Text),
        (&["text/html,application/xhtml+xml,*/*;q=0.8"], AnswerForm::Text),
    ] {
        let mut headers = Headers::new();
        accept.iter().for_each(|value| headers.append("Accept", value).unwrap());
        assert_eq!(AnswerForm::wanted_by(&headers), form, "{accept:?}");
    }
}

#[test]
fn json_is_valid_whatever_the_request_calls_itself() {
    for request_id in ["", "0b6f-5e", "\"},{\\", "a b"] {
        let answer = Answer {
            status: StatusCode::NOT_FOUND,
            reason: "route_not_found",
            request_id,
            form: AnswerForm::Json,
            persistence: Persistence::Implied,
            to_head: false,
        };
        let mut out = b"before".to_vec();
        write_answer(&answer, &mut out);
        let message = out.strip_prefix(b"before").unwrap();
        let (head, length) = read_response(message).unwrap().unwrap();
        let body = &message[length..];
        assert_eq!(head.body(&Method::GET), ResponseBody::Exactly(body.len() as u64));
        assert_eq!(head.headers().get_str("content-type"), Some("application/json"));
        let body: serde_json::Value = serde_json::from_slice(body).unwrap();
        assert_eq!((&body["status"], &body["reason"]), (&404.into(), &"route_not_found".into()));
        let id = body["request_id"].as_str();
        assert_eq!(id, Some(request_id).filter(|id| !id.is_empty() && !id.contains(' ')));
    }
}
