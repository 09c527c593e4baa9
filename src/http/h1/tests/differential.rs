//! Messages made from a grammar: written by us and read by the reference, written by the test and read
//! by us, and damaged so that both must agree on them.

use super::{
    decode_pieces, emit_request, emit_response, read_request, read_response,
    reference::{self, Message},
};
use crate::http::{
    BodyLength, Headers, RequestHead, ResponseBody, ResponseHead,
    h1::{BodyReader, CHUNK_END, HeadLimits, write_chunk_head, write_last_chunk},
};
use http::{Method, StatusCode};
use proptest::{collection::vec, option, prelude::*, sample::Index};
use std::num::NonZeroU64;

const LIMITS: HeadLimits = HeadLimits { bytes: 64 * 1024, fields: 100, connect: false };

/// Names that no part of the codec treats in a way of its own: they are longer than its longest.
fn name() -> impl Strategy<Value = String> {
    "[A-Za-z0-9!#$%&'*+.^_`|~-]{18,24}"
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let byte =
        prop_oneof![4 => 0x21..=0x7e_u8, 1 => 0x80..=0xff_u8, 1 => Just(b' '), 1 => Just(b'\t')];
    vec(byte, 0..30).prop_map(|value| value.trim_ascii().to_vec())
}

fn fields() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    vec((name(), value()), 0..8)
}

fn method() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("GET".to_owned()),
        Just("POST".to_owned()),
        "[A-Z!#$%&'*+.^_`|~-]{1,20}"
            .prop_filter("has a form of its own", |method| method != "CONNECT"),
    ]
}

fn authority() -> impl Strategy<Value = String> {
    let host = prop_oneof!["[a-z0-9][a-z0-9.-]{0,20}", Just("[2001:db8::1]".to_owned())];
    (host, option::of(any::<u16>())).prop_map(|(host, port)| match port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    })
}

fn path() -> impl Strategy<Value = String> {
    "/[!-\"$-~]{0,40}"
}

/// A body, cut into the chunks in which it is sent.
fn chunks() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(vec(any::<u8>(), 1..40), 0..6)
}

#[derive(Debug, Clone)]
enum Body {
    None,
    Exactly(Vec<u8>),
    Chunked { chunks: Vec<Vec<u8>>, trailers: Vec<(String, Vec<u8>)> },
}

impl Body {
    fn data(&self) -> Vec<u8> {
        match self {
            Self::None => Vec::new(),
            Self::Exactly(data) => data.clone(),
            Self::Chunked { chunks, .. } => chunks.concat(),
        }
    }

    fn trailers(&self) -> Vec<(String, Vec<u8>)> {
        match self {
            Self::Chunked { trailers, .. } => trailers.clone(),
            Self::None | Self::Exactly(_) => Vec::new(),
        }
    }

    fn length(&self) -> BodyLength {
        match self {
            Self::None => BodyLength::None,
            Self::Exactly(data) => BodyLength::Exactly(data.len() as u64),
            Self::Chunked { .. } => BodyLength::Chunked,
        }
    }

    /// Written by us.
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::None => {}
            Self::Exactly(data) => out.extend_from_slice(data),
            Self::Chunked { chunks, trailers } => {
                for chunk in chunks {
                    write_chunk_head(NonZeroU64::new(chunk.len() as u64).unwrap(), out);
                    out.extend_from_slice(chunk);
                    out.extend_from_slice(CHUNK_END);
                }
                write_last_chunk(&headers(trailers), out);
            }
        }
    }
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        Just(Body::None),
        vec(any::<u8>(), 0..60).prop_map(Body::Exactly),
        (chunks(), fields()).prop_map(|(chunks, trailers)| Body::Chunked { chunks, trailers }),
    ]
}

fn headers(fields: &[(String, Vec<u8>)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in fields {
        headers.append(name, value).unwrap();
    }
    headers
}

/// The fields of a message that are not the codec's own.
fn own_fields(message: &Message) -> Vec<(String, Vec<u8>)> {
    let framing =
        ["host", "content-length", "transfer-encoding", "connection", "te", "expect", "upgrade"];
    let is_own = |name: &str| !framing.iter().any(|framing| framing.eq_ignore_ascii_case(name));
    message.fields.iter().filter(|(name, _)| is_own(name)).cloned().collect()
}

/// A section in which lines are spelled in all ways that the RFC allows.
fn loosely(fields: &[(String, Vec<u8>)], spaces: &[(String, String)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, (name, value)) in fields.iter().enumerate() {
        let (before, after) = spaces.get(at % spaces.len().max(1)).cloned().unwrap_or_default();
        for part in [name.as_bytes(), b":", before.as_bytes(), value, after.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    out
}

fn spaces() -> impl Strategy<Value = Vec<(String, String)>> {
    vec(("[ \t]{0,3}", "[ \t]{0,3}"), 1..4)
}

/// Reads a request and its body, as a server does; `None` unless all of it is there and fine.
fn serve(bytes: &[u8]) -> Option<(RequestHead, Vec<u8>, Headers, usize)> {
    let (head, length) = read_request(bytes, &LIMITS).ok()??;
    let mut body = BodyReader::new(head.body(), LIMITS);
    let (mut data, mut taken) = (Vec::new(), length);
    while !body.is_done() {
        let part = body.step(&bytes[taken..]).ok()?;
        if part.length() == 0 {
            return None;
        }
        if let super::BodyPart::Data(length) = part {
            data.extend_from_slice(&bytes[taken..taken + length]);
        }
        taken += part.length();
    }
    let trailers = body.trailers().cloned().unwrap_or_default();
    Some((head, data, trailers, taken))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_request_that_we_write_is_read_as_it_was_meant(
        method in method(), path in path(), authority in authority(), fields in fields(), body in body(),
    ) {
        let mut head = RequestHead::new();
        head.set_method(Method::from_bytes(method.as_bytes()).unwrap()).unwrap();
        head.set_path_and_query(&path).unwrap();
        head.set_authority(&authority).unwrap();
        *head.headers_mut() = headers(&fields);
        let mut bytes = Vec::new();
        head.encode(body.length(), crate::http::Persistence::Implied, &mut bytes);
        body.write(&mut bytes);
        bytes.extend_from_slice(b"next");

        let read = reference::read(&bytes).unwrap();
        prop_assert_eq!(&read.start, &[method, path, "HTTP/1.1".to_owned()]);
        prop_assert_eq!(read.all("host"), vec![authority.as_bytes()]);
        prop_assert_eq!(own_fields(&read), fields);
        prop_assert_eq!(&read.body, &body.data());
        prop_assert_eq!(&read.trailers, &body.trailers());
        prop_assert_eq!(&*read.rest, b"next");
    }

    #[test]
    fn a_request_that_others_write_is_read_as_it_was_meant(
        method in method(), path in path(), authority in authority(), fields in fields(),
        spaces in spaces(), body in body(), position: Index,
    ) {
        let mut lines = fields.clone();
        let framing = match body.length() {
            BodyLength::None => None,
            BodyLength::Exactly(length) => Some(("cONTENT-lENGTH", length.to_string())),
            BodyLength::Chunked => Some(("transfer-Encoding", "Chunked".to_owned())),
        };
        for (name, value) in framing.into_iter().chain([("hOST", authority.clone())]) {
            lines.insert(position.index(lines.len() + 1), (name.to_owned(), value.into_bytes()));
        }
        let mut bytes = format!("{method} {path} HTTP/1.1\r\n").into_bytes();
        bytes.extend(loosely(&lines, &spaces));
        bytes.extend_from_slice(b"\r\n");
        body.write(&mut bytes);
        let length = bytes.len();
        bytes.extend_from_slice(b"next");

        let (head, data, trailers, taken) = serve(&bytes).unwrap();
        prop_assert_eq!(head.method().as_str(), method);
        prop_assert_eq!(head.path_and_query(), path);
        prop_assert_eq!(head.authority(), authority);
        prop_assert_eq!(head.headers(), &headers(&fields));
        prop_assert_eq!(head.body(), body.length());
        prop_assert_eq!(data, body.data());
        prop_assert_eq!(trailers, headers(&body.trailers()));
        prop_assert_eq!(taken, length);
        // And once more: what was read is written, read again, and the same.
        let emitted = emit_request(&head);
        let (again, _) = read_request(&emitted, &LIMITS).unwrap().unwrap();
        prop_assert_eq!(emit_request(&again), emitted);
        prop_assert_eq!(again.headers(), head.headers());
        prop_assert_eq!(again.body(), head.body());
    }

    /// Whatever we take for a request, a parser that knows only the RFC takes for the same one.
    #[test]
    fn a_damaged_request_is_refused_or_means_one_thing(
        path in path(), authority in authority(), fields in fields(), body in body(),
        damage in vec((any::<Index>(), 0..3, prop_oneof![
            any::<u8>(), prop::sample::select(&b"\r\n :;,0\t+-#@/"[..]),
        ]), 1..4),
    ) {
        let mut head = RequestHead::new();
        head.set_path_and_query(&path).unwrap();
        head.set_authority(&authority).unwrap();
        *head.headers_mut() = headers(&fields);
        let mut bytes = Vec::new();
        head.encode(body.length(), crate::http::Persistence::Implied, &mut bytes);
        body.write(&mut bytes);
        for (position, kind, byte) in damage {
            let at = position.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => { bytes.remove(at); }
            }
        }
        if let Some((head, data, trailers, taken)) = serve(&bytes) {
            let understood = bytes.strip_prefix(b"\r\n").unwrap_or(&bytes);
            let Some(read) = reference::read(understood) else {
                return Err(TestCaseError::fail(format!("taken: {}", bytes.escape_ascii())));
            };
            prop_assert_eq!(&read.body, &data);
            prop_assert_eq!(read.rest.len(), bytes.len() - taken);
            prop_assert_eq!(head.method().as_str(), &read.start[0]);
            prop_assert!(read.all("host").len() <= 1);
            prop_assert!(trailers.len() <= read.trailers.len());
        }
    }

    #[test]
    fn a_response_that_we_write_is_read_as_it_was_meant(
        status in 200..600_u16, reason in "[!-~][ -~]{0,20}", fields in fields(), body in body(),
    ) {
        prop_assume!(!matches!((status, &body), (204 | 304, _) | (_, Body::None)));
        let mut bytes = format!("HTTP/1.1 {status} {reason}\r\n").into_bytes();
        bytes.extend_from_slice(headers(&fields).as_wire());
        bytes.extend_from_slice(b"\r\n");
        let (mut head, _) = read_response(&bytes).unwrap().unwrap();
        let mut bytes = Vec::new();
        head.encode(body.length().into(), crate::http::Persistence::Implied, &mut bytes);
        body.write(&mut bytes);
        let read = reference::read(&bytes).unwrap();
        prop_assert_eq!(&read.start, &["HTTP/1.1".to_owned(), status.to_string(), reason]);
        prop_assert_eq!(own_fields(&read), fields);
        prop_assert_eq!(&read.body, &body.data());
        prop_assert_eq!(&read.trailers, &body.trailers());
        prop_assert!(read.rest.is_empty());

        let (again, _) = read_response(&bytes).unwrap().unwrap();
        prop_assert_eq!(again.body(&Method::GET), ResponseBody::from(body.length()));
        let emitted = emit_response(&again, &Method::GET);
        prop_assert!(bytes.starts_with(&emitted));
        head.set_status(StatusCode::OK);
        prop_assert_eq!(head.reason(), "OK");
    }

    #[test]
    fn a_chunked_body_is_the_same_in_any_pieces(
        chunks in chunks(), trailers in fields(), cuts in vec(any::<Index>(), 0..10),
        extension in "(;[a-z]{1,5}(=[a-z0-9]{1,5})?){0,2}", zeros in 0..4_usize,
    ) {
        let mut bytes = Vec::new();
        for chunk in &chunks {
            bytes.extend(format!("{}{:X}{extension}\r\n", "0".repeat(zeros), chunk.len()).bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        write_last_chunk(&headers(&trailers), &mut bytes);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.sort_unstable();
        let mut rest = &*bytes;
        let mut pieces: Vec<_> = cuts.windows(2).map(|pair| pair[1] - pair[0]).chain(cuts.first().copied()).map(|length| {
            let (piece, behind) = rest.split_at(length);
            rest = behind;
            piece
        }).collect();
        pieces.push(rest);
        let expected = (chunks.concat(), headers(&trailers).as_wire().to_vec(), bytes.len());
        prop_assert_eq!(decode_pieces(pieces, LIMITS), Ok(Some(expected)));
        let (data, read, rest) = reference::chunked(&bytes).unwrap();
        prop_assert_eq!((data, read, rest), (chunks.concat(), trailers, &b""[..]));
    }
}

/// A head that was used before, and holds nothing of it.
#[test]
fn a_response_head_can_be_used_again() {
    let mut head = ResponseHead::new();
    head.parse(b"HTTP/1.0 404 x\r\nX: y\r\nContent-Length: 3\r\n\r\n", &LIMITS).unwrap();
    head.clear();
    assert_eq!(
        emit_response(&head, &Method::HEAD),
        emit_response(&ResponseHead::new(), &Method::HEAD)
    );
    assert_eq!(head.body(&Method::GET), ResponseBody::UntilClose);
}
