//! The first bytes of a connection, of which the names in its ClientHello are wanted, in any segments and in any
//! records.
//!
//! Three bytes come first. A bit says whether what follows is the message, which is put into records here, or is what
//! arrives; another, whether more of the same follows for ever. Then there is how the bytes are cut into segments, and
//! how long records are.
//!
//! What is found does not depend on the segments; a server name is one of DNS; and after so many bytes it is decided.

#![no_main]

use evenkeel::tls::client_hello::{ClientHello, Reader};
use libfuzzer_sys::fuzz_target;

/// What the reader says that it reads at most.
const LONGEST: usize = 64 << 10;

#[derive(Debug, PartialEq)]
enum Outcome {
    Found(ClientHello),
    Refused,
    /// After so many bytes it takes more to say.
    Open,
}

/// Lengths of segments, or of records: two that take turns.
fn lengths(of: u8) -> impl Iterator<Item = usize> {
    let (first, second) = (usize::from(of & 0xf), usize::from(of >> 4));
    [1 + first, 1 + second * second].into_iter().cycle()
}

fn in_pieces(
    mut bytes: &[u8],
    lengths: impl Iterator<Item = usize>,
) -> impl Iterator<Item = &[u8]> {
    let mut lengths = lengths;
    std::iter::from_fn(move || {
        let length = lengths.next()?.min(bytes.len());
        let (piece, rest) = bytes.split_at(length);
        bytes = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Handshake records with all of `message` (RFC 8446 section 5.1).
fn in_records(message: &[u8], lengths: impl Iterator<Item = usize>) -> Vec<u8> {
    let mut records = Vec::new();
    for fragment in in_pieces(message, lengths) {
        records.extend([22, 3, 1]);
        records.extend((fragment.len() as u16).to_be_bytes());
        records.extend(fragment);
    }
    records
}

fn read(bytes: &[u8], segments: impl Iterator<Item = usize>) -> Outcome {
    let mut reader = Reader::default();
    for segment in in_pieces(bytes, segments) {
        match reader.push(segment) {
            Ok(None) => {}
            Ok(Some(hello)) => return Outcome::Found(hello),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return Outcome::Refused;
            }
        }
    }
    Outcome::Open
}

fn check_name(name: &str) {
    let label = |label: &str| {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(allowed)
    };
    let relative = name.strip_suffix('.').unwrap_or(name);
    assert!(relative.len() <= 253 && relative.split('.').all(label), "{name:?} is no DNS name");
}

fuzz_target!(|input: &[u8]| {
    let Some((&[how, segments, records], rest)) = input.split_first_chunk() else { return };
    let mut message = rest.to_vec();
    let goes_on = how & 2 != 0 && !message.is_empty();
    if goes_on {
        message = rest.iter().copied().cycle().take(LONGEST + 1).collect();
    }
    // Many bytes in tiny pieces take longer than they find.
    let scale = if goes_on { 256 } else { 1 };
    let lengths = |of| lengths(of).map(move |length| length * scale);
    let bytes = match how & 1 {
        0 => message,
        _ => in_records(&message, lengths(records)),
    };
    let whole = read(&bytes, std::iter::repeat(usize::MAX));
    assert_eq!(read(&bytes, lengths(segments)), whole);
    if !goes_on {
        assert_eq!(read(&bytes, std::iter::repeat(1)), whole, "byte by byte");
    }
    match whole {
        Outcome::Found(hello) => {
            assert_eq!(bytes[..2], [22, 3], "to a permissive listener this is plaintext");
            hello.server_name.iter().for_each(|name| check_name(name));
        }
        Outcome::Open => assert!(!goes_on, "not decided after {} bytes", bytes.len()),
        Outcome::Refused => {}
    }
});
