//! Heads in pieces: what is read, kept, limited and used again.

use super::{
    emit_request, read_request,
    requests::{LIMITS, accepted_within, with},
};
use crate::http::{
    BodyLength, Persistence, RequestHead,
    h1::{FieldError, HeadLimits, HeadProgress, HeadReader, Parsed, RequestError},
};
use http::StatusCode;

#[test]
fn a_head_is_limited_in_bytes() {
    let bytes = with("X: y\r\n");
    let limits = |bytes| HeadLimits { bytes, ..LIMITS };
    accepted_within(&limits(bytes.len()), bytes.as_bytes(), bytes.as_bytes());
    for less in 1..bytes.len() {
        let line = "GET / HTTP/1.1\r\n".len();
        let error = if less < line {
            RequestError::TargetTooLong
        } else {
            RequestError::Field(FieldError::TooLarge)
        };
        let outcome = read_request(bytes.as_bytes(), &limits(less)).map(|_| ());
        assert_eq!(outcome, Err(error), "{less}");
    }
    // 8 MiB are the most, whatever is asked for.
    let large = with(&format!("X: {}\r\n", "y".repeat(9 << 20)));
    let parsed = RequestHead::new().parse(large.as_bytes(), &limits(usize::MAX));
    assert_eq!(parsed, Err(RequestError::Field(FieldError::TooLarge)));
    assert_eq!(RequestError::TargetTooLong.status(), StatusCode::URI_TOO_LONG);
    let too_large = RequestError::Field(FieldError::TooLarge).status();
    assert_eq!(too_large, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[test]
fn a_head_is_limited_in_fields() {
    let fields = |count| (0..count).map(|at| format!("X-{at}: y\r\n")).collect::<String>();
    let limits = |fields| HeadLimits { fields, ..LIMITS };
    let parse = |count, limit| {
        let bytes = with(&fields(count));
        RequestHead::new().parse(bytes.as_bytes(), &limits(limit)).map(|_| ())
    };
    let too_many = Err(RequestError::Field(FieldError::TooMany));
    assert_eq!((parse(99, 100), parse(100, 100)), (Ok(()), too_many));
    // 256 is the most, whatever is asked for.
    assert_eq!((parse(255, 1000), parse(256, 1000)), (Ok(()), too_many));
    assert_eq!(parse(0, 0), too_many);
    accepted_within(&limits(3), with(&fields(2)).as_bytes(), with(&fields(2)).as_bytes());
    assert_eq!(read_request(with(&fields(3)).as_bytes(), &limits(3)).map(|_| ()), too_many);
}

#[test]
fn what_follows_a_head_is_left_alone() {
    let bytes = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n";
    let (_, length) = read_request(bytes.as_bytes(), &LIMITS).unwrap().unwrap();
    assert_eq!(&bytes[length..], "abcGET / HTTP/1.1\r\n");
}

#[test]
fn a_head_can_be_used_again_after_anything() {
    let mut head = RequestHead::new();
    let first = b"POST http://b/x?y HTTP/1.0\r\nHost: a\r\nX: y\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n";
    for between in [&b""[..], b"GET / HTTP/1.1\r\nHost: c", b"GET / HTTP/1.1\r\nHost: ,\r\n\r\n"] {
        head.parse(first, &LIMITS).unwrap();
        let _ = head.parse(between, &LIMITS);
        assert_eq!(emit_request(&head), emit_request(&RequestHead::new()));
        head.parse(with("").as_bytes(), &LIMITS).unwrap();
        assert_eq!((emit_request(&head), head.scheme()), (with("").into_bytes(), None));
    }
}

#[test]
fn a_dripping_client_is_parsed_once_a_line() {
    let bytes = with(&"X: a long value that comes byte by byte\r\n".repeat(20));
    let lines = bytes.matches('\n').count();
    let mut head = RequestHead::new();
    let mut reader = HeadReader::new();
    let mut parses = 0;
    for (at, byte) in bytes.as_bytes().chunks(1).enumerate() {
        let progress = reader.read(byte, LIMITS.bytes, |bytes| {
            parses += 1;
            head.parse(bytes, &LIMITS)
        });
        let is_last = at + 1 == bytes.len();
        assert_eq!(progress, Ok(if is_last { HeadProgress::Done(1) } else { HeadProgress::More }));
    }
    assert_eq!(parses, lines + 1, "the first byte, and each line");
    assert_eq!(head.headers().len(), 20);
}

#[test]
fn a_reader_keeps_no_more_than_the_limit() {
    let limits = HeadLimits { bytes: 100, ..LIMITS };
    let mut head = RequestHead::new();
    let mut reader = HeadReader::new();
    let mut parse = |bytes: &[u8]| {
        assert!(bytes.len() <= 100);
        head.parse(bytes, &limits)
    };
    assert_eq!(reader.read(b"GET /", 100, &mut parse), Ok(HeadProgress::More));
    assert_eq!((reader.has_begun(), reader.collected()), (true, 5));
    let outcome = reader.read(&[b'a'; 1000], 100, &mut parse);
    assert_eq!(outcome, Err(RequestError::TargetTooLong));
    assert!(!reader.has_begun());
}

#[test]
fn an_unfinished_head_is_partial() {
    for bytes in
        ["", "\r", "\r\n", "G", "GET / HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r"]
    {
        let parsed = RequestHead::new().parse(bytes.as_bytes(), &LIMITS);
        assert_eq!(parsed, Ok(Parsed::Partial), "{bytes:?}");
    }
}

/// An empty line between requests, which some clients send behind a body, is no request begun.
#[test]
fn a_connection_is_idle_until_the_first_line_begins() {
    let mut head = RequestHead::new();
    let mut reader = HeadReader::new();
    for (piece, has_begun) in [("\r", false), ("\n", false), ("G", true)] {
        let progress =
            reader.read(piece.as_bytes(), LIMITS.bytes, |bytes| head.parse(bytes, &LIMITS));
        assert_eq!((progress, reader.has_begun()), (Ok(HeadProgress::More), has_begun));
    }
}

/// After the first request, the next ones of its size take no memory of their own.
#[test]
fn warm_memory_is_used_again() {
    let bytes = with("X-One: 1\r\nX-Two: 2\r\nConnection: upgrade\r\nUpgrade: websocket\r\n");
    let (mut head, mut out) = (RequestHead::new(), Vec::new());
    let mut places = || {
        head.parse(bytes.as_bytes(), &LIMITS).unwrap();
        out.clear();
        head.encode(BodyLength::None, Persistence::Upgrade, &mut out);
        let texts = [head.path(), head.authority(), head.upgrade().unwrap()].map(str::as_ptr);
        (texts, head.headers().get("x-two").unwrap().as_ptr(), out.as_ptr())
    };
    let first = places();
    assert!((0..10).all(|_| places() == first));
}
