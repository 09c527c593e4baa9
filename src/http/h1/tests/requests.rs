//! Requests, rule by rule: refused with one status, or forwarded in canonical form.

mod facts;

use super::{emit_request, read_request};
use crate::http::{
    RequestHead,
    h1::{FieldError, HeadLimits, RequestError},
};
use http::{Method, StatusCode, Version};

pub(super) const LIMITS: HeadLimits = HeadLimits { bytes: 64 * 1024, fields: 100, connect: false };

/// The head is taken, in whatever pieces it comes, and is written anew like this; read again, it is
/// written the same.
fn accepted(bytes: impl AsRef<[u8]>, canonical: impl AsRef<[u8]>) -> RequestHead {
    accepted_within(&LIMITS, bytes.as_ref(), canonical.as_ref())
}

pub(super) fn accepted_within(limits: &HeadLimits, bytes: &[u8], canonical: &[u8]) -> RequestHead {
    let shown = bytes.escape_ascii();
    let (head, length) = match read_request(bytes, limits) {
        Ok(Some(complete)) => complete,
        other => panic!("{shown}: {other:?}"),
    };
    assert_eq!(length, bytes.len(), "{shown}");
    let emitted = emit_request(&head);
    assert_eq!(emitted.escape_ascii().to_string(), canonical.escape_ascii().to_string(), "{shown}");
    if !head.authority().is_empty() {
        let again = read_request(&emitted, limits).unwrap().unwrap();
        assert_eq!(again.1, emitted.len());
        assert_eq!(emit_request(&again.0), emitted, "{shown}");
    }
    head
}

/// The head is refused so, in whatever pieces it comes, and whatever follows.
fn refused(bytes: impl AsRef<[u8]>, error: RequestError) {
    let bytes = bytes.as_ref();
    let outcome =
        read_request(bytes, &LIMITS).map(|head| head.map(|(head, _)| head.authority().to_owned()));
    assert_eq!(outcome, Err(error), "{}", bytes.escape_ascii());
    let followed = [bytes, b"GET / HTTP/1.1\r\nHost: next\r\n\r\n"].concat();
    let outcome = read_request(&followed, &LIMITS).map(|_| ());
    assert_eq!(outcome, Err(error), "and more: {}", bytes.escape_ascii());
}

/// `GET / HTTP/1.1` with a Host and these lines.
pub(super) fn with(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

#[test]
fn a_request_line_has_one_form() {
    accepted("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    accepted(
        "M-SEARCH /a?b=c&d HTTP/1.1\r\nHost: a\r\n\r\n",
        "M-SEARCH /a?b=c&d HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    accepted(
        "get //x/../y HTTP/1.1\r\nHost: a\r\n\r\n",
        "get //x/../y HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    // RFC 9112 section 2.2: an empty line before it, as old clients send one after a body.
    accepted("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    for line in [
        "GET  / HTTP/1.1\r\n",
        "GET /  HTTP/1.1\r\n",
        "GET\t/ HTTP/1.1\r\n",
        "GET / HTTP/1.1 \r\n",
        " GET / HTTP/1.1\r\n",
        "GET / \r\n",
        "GET /\r\n",
        "GET\r\n",
        "/ HTTP/1.1\r\n",
        "G\0T / HTTP/1.1\r\n",
        "G(T / HTTP/1.1\r\n",
        "G\u{e9}T / HTTP/1.1\r\n",
        "GET / HTTP/1.1 x\r\n",
        "GET / http/1.1\r\n",
        "GET / HTTPS/1.1\r\n",
        "GET / a HTTP/1.1\r\n",
        "GET /\x7f HTTP/1.1\r\n",
        "GET /\x01 HTTP/1.1\r\n",
        "GET /\t HTTP/1.1\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\n",
        "\nGET / HTTP/1.1\r\n",
        "\rGET / HTTP/1.1\r\n",
        "\r\n\nGET / HTTP/1.1\r\n",
        "\x16\x03\x01\x02\0",
        "\0",
        "SSH-2.0-x\r\n",
        "GET / HTTP/x.y\r\n",
    ] {
        let error = match line {
            "GET / HTTP/1.1 \r\n" | "GET / HTTP/1.1 x\r\n" => {
                RequestError::Field(FieldError::LineEnd)
            }
            _ => RequestError::RequestLine,
        };
        refused(format!("{line}Host: a\r\n\r\n"), error);
    }
}

#[test]
fn other_versions_are_not_served() {
    for version in ["HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/3", "HTTP/10.1", "HTTP/9.9"] {
        refused(format!("GET / {version}\r\nHost: a\r\n\r\n"), RequestError::Version);
    }
    refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", RequestError::Version);
    assert_eq!(RequestError::Version.status(), StatusCode::HTTP_VERSION_NOT_SUPPORTED);
}

#[test]
fn a_target_has_the_form_that_its_method_takes() {
    let head = accepted(
        "GET http://b:81/x?y HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /x?y HTTP/1.1\r\nHost: b:81\r\n\r\n",
    );
    assert_eq!((head.scheme(), head.path(), head.query()), (Some("http"), "/x", Some("y")));
    accepted("GET HTTPS://b HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: b\r\n\r\n");
    accepted("GET http://b?y HTTP/1.1\r\nHost: a\r\n\r\n", "GET /?y HTTP/1.1\r\nHost: b\r\n\r\n");
    accepted(
        "GET http://[::1]:8/ HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1]:8\r\nConnection: close\r\n\r\n",
    );
    let head =
        accepted("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(head.is_asterisk());
    // RFC 9112 section 3.2.4: what a proxy gets in place of `*`.
    accepted(
        "OPTIONS http://b:1 HTTP/1.1\r\nHost: b\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: b:1\r\n\r\n",
    );
    for line in [
        "GET *",
        "OPTIONS **",
        "GET a",
        "GET a:80",
        "GET ?x",
        "GET /#",
        "GET /a#b",
        "GET ftp://a/",
        "GET http:///x",
        "GET http://",
        "GET http:/a",
        "GET http:a",
        "GET http://a,b/",
        "GET http://u@a/",
        "GET http://a:x/",
        "GET http://a#/",
        "GET http://a%2f/",
        "GET ://a/",
        "GET /\u{e9}",
        "GET \u{e9}",
    ] {
        refused(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"), RequestError::Target);
    }
    refused(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", RequestError::RequestLine);
}

#[test]
fn connect_is_off_unless_enabled() {
    refused("CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n", RequestError::Connect);
    refused("CONNECT / HTTP/1.1\r\nHost: b\r\n\r\n", RequestError::Connect);
    let limits = HeadLimits { connect: true, ..LIMITS };
    let head = accepted_within(
        &limits,
        b"CONNECT b:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n",
    );
    assert_eq!((head.path(), head.query(), head.authority()), ("", None, "b:443"));
    for bytes in [
        "CONNECT / HTTP/1.1\r\nHost: b\r\n\r\n",
        "CONNECT b HTTP/1.1\r\nHost: b\r\n\r\n",
        "CONNECT b: HTTP/1.1\r\nHost: b\r\n\r\n",
        "CONNECT * HTTP/1.1\r\nHost: b\r\n\r\n",
        "CONNECT http://b:443/ HTTP/1.1\r\nHost: b\r\n\r\n",
        "CONNECT u@b:443 HTTP/1.1\r\nHost: b\r\n\r\n",
        "CONNECT b:443 HTTP/1.1\r\nHost: b\r\nContent-Length: 3\r\n\r\n",
        "CONNECT b:443 HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        let outcome = read_request(bytes.as_bytes(), &limits).map(|_| ());
        assert_eq!(outcome, Err(RequestError::Target), "{bytes}");
    }
}

#[test]
fn lines_end_in_crlf() {
    let good = "GET / HTTP/1.1\r\nHost: a\r\nEmpty:\r\nX: y\r\n\r\n";
    accepted(good, "GET / HTTP/1.1\r\nHost: a\r\nEmpty: \r\nX: y\r\n\r\n");
    // Any one of the line ends as LF alone.
    for (at, _) in good.match_indices("\r\n") {
        let mut bytes = good.to_owned();
        bytes.remove(at);
        refused(bytes, RequestError::Field(FieldError::LineEnd));
    }
    refused(good.replace("\r\n", "\n"), RequestError::Field(FieldError::LineEnd));
    // And a CR where none belongs.
    refused("GET / HTTP/1.1\rHost: a\r\n\r\n", RequestError::Field(FieldError::LineEnd));
    refused("GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", RequestError::RequestLine);
    refused(with("X: a\rb\r\n"), RequestError::Field(FieldError::Value));
    refused(with("X: a\r\r\n"), RequestError::Field(FieldError::Value));
    refused(with("X: a\r\n\rb"), RequestError::Field(FieldError::LineEnd));
    refused(with("X\r: a\r\n"), RequestError::Field(FieldError::Name));
}

#[test]
fn a_field_line_is_a_name_a_colon_and_a_value() {
    let head = accepted(
        with(
            "X-Empty:\r\nx-WIDE: \t b \t\r\ntight:c\r\nobs: \u{e9}\r\nTab: a\tb\r\n!#$%&'*+-.^_`|~9: z\r\n",
        ),
        with(
            "X-Empty: \r\nx-WIDE: b\r\ntight: c\r\nobs: \u{e9}\r\nTab: a\tb\r\n!#$%&'*+-.^_`|~9: z\r\n",
        ),
    );
    assert_eq!(head.headers().get("X-wide"), Some(&b"b"[..]));
    // As one long name: lengths do not overflow into one another.
    let name = "n".repeat(60_000);
    let line = format!("{name}: v\r\n");
    let mut head = RequestHead::new();
    head.parse(with(&line).as_bytes(), &LIMITS).unwrap();
    assert_eq!(head.headers().get(&name), Some(&b"v"[..]));

    let name = RequestError::Field(FieldError::Name);
    for line in [
        ": no name",
        "No-Colon",
        "Space : a",
        "Tab\t: a",
        " Leading: a",
        "\tLeading: a",
        "Bad(: a",
        "B\u{e9}: a",
        "B\0: a",
        "B\x7f: a",
        "B,: a",
        "B/: a",
        "X: a\r\n folded",
        "X: a\r\n\tfolded",
        "X:\r\n folded",
        "\"q\": a",
        "@: a",
    ] {
        refused(with(&format!("{line}\r\n")), name);
    }
    // The first line is no exception.
    refused("GET / HTTP/1.1\r\n Host: a\r\n\r\n", name);
    refused("GET / HTTP/1.1\r\n: x\r\nHost: a\r\n\r\n", name);
    let value = RequestError::Field(FieldError::Value);
    for control in (0..0x20).chain([0x7f]).map(char::from).filter(|c| !"\t\r\n".contains(*c)) {
        refused(with(&format!("X: a{control}b\r\n")), value);
        refused(with(&format!("X:{control}\r\n")), value);
    }
}

#[test]
fn http_1_1_has_exactly_one_host() {
    accepted("GET / HTTP/1.1\r\nhOST:a:80 \r\n\r\n", "GET / HTTP/1.1\r\nHost: a:80\r\n\r\n");
    refused("GET / HTTP/1.1\r\n\r\n", RequestError::MissingHost);
    refused("GET http://a/ HTTP/1.1\r\n\r\n", RequestError::MissingHost);
    refused("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", RequestError::RepeatedHost);
    refused("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", RequestError::RepeatedHost);
    for host in [
        "", "a,b", "a b", "a/", "a@b", "a#", "a?", "a:b", "a:99999", "[::1", "a\tb", "a%2e",
        "\u{e9}", "http://a", "a:80:80",
    ] {
        refused(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), RequestError::Host);
        refused(format!("GET http://b/ HTTP/1.1\r\nHost: {host}\r\n\r\n"), RequestError::Host);
    }
    refused("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", RequestError::Field(FieldError::Value));
}

#[test]
fn http_1_0_may_have_no_host() {
    let mut head =
        accepted("GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: \r\nConnection: close\r\n\r\n");
    assert_eq!(
        (head.version(), head.authority(), head.keep_alive()),
        (Version::HTTP_10, "", false)
    );
    // The proxy gives it the endpoint's.
    head.set_authority("10.0.0.7:9080").unwrap();
    let emitted = emit_request(&head);
    assert!(emitted.starts_with(b"GET / HTTP/1.1\r\nHost: 10.0.0.7:9080\r\n"));
    let head = accepted(
        "GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert!(head.keep_alive());
}

#[test]
fn setters_take_only_what_can_be_sent() {
    let mut head = RequestHead::new();
    head.set_authority("b:80").unwrap();
    head.set_path_and_query("/p?q").unwrap();
    head.set_method(Method::PUT).unwrap();
    head.headers_mut().insert("x", "y").unwrap();
    assert_eq!(emit_request(&head), b"PUT /p?q HTTP/1.1\r\nHost: b:80\r\nx: y\r\n\r\n");
    assert_eq!((head.path(), head.query()), ("/p", Some("q")));
    for path in ["", "p", "*", "/ ", "/#", "/\r\n", "/\u{e9}", "http://a/"] {
        assert!(head.set_path_and_query(path).is_err(), "{path:?}");
    }
    for authority in ["", "a b", "a\r\nx: y", "a,b", "u@a"] {
        assert!(head.set_authority(authority).is_err(), "{authority:?}");
    }
    assert!(head.set_method(Method::CONNECT).is_err());
    assert_eq!(emit_request(&head), b"PUT /p?q HTTP/1.1\r\nHost: b:80\r\nx: y\r\n\r\n");
    let (mut options, _) =
        read_request(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", &LIMITS).unwrap().unwrap();
    assert!(options.set_method(Method::GET).is_err());
    options.set_path_and_query("/").unwrap();
    assert!(options.set_method(Method::GET).is_ok());
}

/// Which status and which reason belong to each error.
#[test]
fn each_error_has_one_status_and_a_reason_of_its_own() {
    use FieldError as F;
    use RequestError as R;
    let table = [
        (R::RequestLine, 400, "invalid_request_line"),
        (R::Target, 400, "invalid_target"),
        (R::TargetTooLong, 414, "target_too_long"),
        (R::Version, 505, "unsupported_version"),
        (R::Connect, 501, "connect_not_enabled"),
        (R::MissingHost, 400, "missing_host"),
        (R::RepeatedHost, 400, "repeated_host"),
        (R::Host, 400, "invalid_host"),
        (R::Expectation, 417, "unknown_expectation"),
        (R::Field(F::LineEnd), 400, "invalid_line_end"),
        (R::Field(F::Name), 400, "invalid_field_name"),
        (R::Field(F::Value), 400, "invalid_field_value"),
        (R::Field(F::TooMany), 431, "too_many_fields"),
        (R::Field(F::TooLarge), 431, "head_too_large"),
        (R::Field(F::ContentLength), 400, "invalid_content_length"),
        (R::Field(F::RepeatedContentLength), 400, "repeated_content_length"),
        (R::Field(F::TransferEncoding), 400, "invalid_transfer_encoding"),
        (R::Field(F::TransferCoding), 501, "unknown_transfer_coding"),
        (R::Field(F::TransferEncodingInHttp10), 400, "transfer_encoding_in_http_1_0"),
        (R::Field(F::TwoLengths), 400, "content_length_and_transfer_encoding"),
        (R::Field(F::Connection), 400, "invalid_connection"),
    ];
    for (error, status, reason) in table {
        assert_eq!((error.status().as_u16(), error.reason()), (status, reason));
        assert!(!error.to_string().is_empty());
    }
    let reasons: std::collections::BTreeSet<_> = table.iter().map(|entry| entry.2).collect();
    assert_eq!(reasons.len(), table.len());
}
