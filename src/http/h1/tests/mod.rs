//! The codec against tables of messages and against a second parser, always whole, cut at every
//! position, and byte by byte.

mod bodies;
mod differential;
mod reading;
mod reference;
mod requests;
mod responses;

use super::{
    BodyError, BodyPart, BodyReader, HeadLimits, HeadProgress, HeadReader, Parsed, RequestError,
    ResponseError,
};
use crate::http::{Persistence, RequestHead, ResponseBody, ResponseHead};
use http::Method;
use std::fmt::Debug;

/// What came of the bytes of a head: how many they were.
type Outcome<E> = Result<Option<usize>, E>;

/// Reads `pieces` as one head, and stops where it is decided.
fn read_pieces<'a, E>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limits: &HeadLimits,
    mut parse: impl FnMut(&[u8]) -> Result<Parsed, E>,
) -> Outcome<E> {
    let mut reader = HeadReader::new();
    let mut before = 0;
    for piece in pieces {
        match reader.read(piece, limits.bytes, &mut parse)? {
            HeadProgress::More => before += piece.len(),
            HeadProgress::Done(length) => {
                assert!(!reader.has_begun(), "nothing is kept behind a head");
                return Ok(Some(before + length));
            }
        }
    }
    Ok(None)
}

/// Reads a head whole, and makes sure that no cut changes what comes of it.
fn read_head<E: Debug + PartialEq>(
    bytes: &[u8],
    limits: &HeadLimits,
    mut parse: impl FnMut(&[u8]) -> Result<Parsed, E>,
) -> Outcome<E> {
    let whole = read_pieces([bytes], limits, &mut parse);
    let end = next_line(whole.is_err());
    for cut in 1..bytes.len() {
        let (front, back) = bytes.split_at(cut);
        let outcome = read_pieces([front, back].into_iter().chain(end), limits, &mut parse);
        assert_eq!(outcome, whole, "cut at {cut}: {}", bytes.escape_ascii());
    }
    let by_byte = read_pieces(bytes.chunks(1).chain(end), limits, parse);
    assert_eq!(by_byte, whole, "byte by byte: {}", bytes.escape_ascii());
    whole
}

/// What is wrong is noticed when the line ends at the latest, so an error needs a line end to be
/// certain of.
fn next_line(is_refused: bool) -> Option<&'static [u8]> {
    is_refused.then_some(b"\n")
}

fn read_request(
    bytes: &[u8],
    limits: &HeadLimits,
) -> Result<Option<(RequestHead, usize)>, RequestError> {
    let mut head = RequestHead::new();
    let length = read_head(bytes, limits, |bytes| head.parse(bytes, limits))?;
    Ok(length.map(|length| (head, length)))
}

fn read_response(bytes: &[u8]) -> Result<Option<(ResponseHead, usize)>, ResponseError> {
    let limits = HeadLimits::default();
    let mut head = ResponseHead::new();
    let length = read_head(bytes, &limits, |bytes| head.parse(bytes, &limits))?;
    Ok(length.map(|length| (head, length)))
}

/// The request as the next hop gets it if the proxy changes nothing.
fn emit_request(head: &RequestHead) -> Vec<u8> {
    let persistence = match head.upgrade() {
        Some(_) => Persistence::Upgrade,
        None if head.keep_alive() => Persistence::Implied,
        None => Persistence::Close,
    };
    let mut out = Vec::new();
    head.encode(head.body(), persistence, &mut out);
    out
}

/// The answer to a request with `method`, as the next hop gets it if the proxy changes nothing.
fn emit_response(head: &ResponseHead, method: &Method) -> Vec<u8> {
    let persistence = match head.upgrade() {
        Some(_) => Persistence::Upgrade,
        None if head.keep_alive() => Persistence::Implied,
        None => Persistence::Close,
    };
    let mut out = Vec::new();
    head.encode(head.body(method), persistence, &mut out);
    out
}

/// Data, trailers as they are written, and how many bytes the body took.
type Decoded = (Vec<u8>, Vec<u8>, usize);

/// Follows a body through `pieces`.
fn decode_pieces<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limits: HeadLimits,
) -> Result<Option<Decoded>, BodyError> {
    let mut body = BodyReader::new(ResponseBody::Chunked, limits);
    let (mut data, mut taken) = (Vec::new(), 0);
    for mut piece in pieces {
        while !piece.is_empty() {
            let part = body.step(piece)?;
            let (front, rest) = piece.split_at(part.length());
            taken += front.len();
            match part {
                BodyPart::Framing(length) => assert_ne!(length, 0, "no progress"),
                BodyPart::Data(length) => {
                    assert_ne!(length, 0, "no progress");
                    data.extend_from_slice(front);
                }
                BodyPart::End(_) => {
                    assert!(body.is_done());
                    let trailers = body.trailers().unwrap().as_wire().to_vec();
                    return Ok(Some((data, trailers, taken)));
                }
            }
            piece = rest;
        }
        assert_eq!(body.end_of_stream(), Err(BodyError::Truncated));
    }
    Ok(None)
}

/// Decodes a chunked body whole, and makes sure that no cut changes what comes of it.
fn decode(bytes: &[u8], limits: HeadLimits) -> Result<Option<Decoded>, BodyError> {
    let whole = decode_pieces([bytes], limits);
    let end = next_line(whole.is_err());
    for cut in 1..bytes.len() {
        let (front, back) = bytes.split_at(cut);
        let outcome = decode_pieces([front, back].into_iter().chain(end), limits);
        assert_eq!(outcome, whole, "cut at {cut}: {}", bytes.escape_ascii());
    }
    let by_byte = decode_pieces(bytes.chunks(1).chain(end), limits);
    assert_eq!(by_byte, whole, "byte by byte: {}", bytes.escape_ascii());
    whole
}
