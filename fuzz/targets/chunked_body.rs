//! Bytes from a peer that claims to send a chunked body.
//!
//! Beyond not panicking: what arrives in two pieces or byte by byte is decided as the whole is; and data and trailers
//! that were taken, written anew, are taken again and are the same. The first byte says where the pieces part.

#![no_main]

use evenkeel::http::{
    BodyLength,
    h1::{
        BodyError, BodyPart, BodyReader, CHUNK_END, HeadLimits, write_chunk_head, write_last_chunk,
    },
};
use libfuzzer_sys::fuzz_target;
use std::num::NonZeroU64;

const LIMITS: HeadLimits = HeadLimits { bytes: 512, fields: 8, connect: false };

/// The data, the end as it is written with the trailers, and how many bytes were taken; `None` if there is more to come.
type Decoded = Option<(Vec<u8>, Vec<u8>, usize)>;

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Decoded, BodyError> {
    let mut body = BodyReader::new(BodyLength::Chunked, LIMITS);
    let (mut data, mut taken) = (Vec::new(), 0);
    for mut piece in pieces {
        while !piece.is_empty() {
            let part = body.step(piece)?;
            let (front, rest) = piece.split_at(part.length());
            taken += front.len();
            piece = rest;
            match part {
                BodyPart::Framing(length) => assert_ne!(length, 0),
                BodyPart::Data(length) => {
                    assert_ne!(length, 0);
                    data.extend_from_slice(front);
                }
                BodyPart::End(_) => {
                    let mut end = Vec::new();
                    write_last_chunk(body.trailers().expect("chunked"), &mut end);
                    return Ok(Some((data, end, taken)));
                }
            }
        }
        assert_eq!(body.end_of_stream(), Err(BodyError::Truncated));
    }
    Ok(None)
}

fuzz_target!(|input: &[u8]| {
    let Some((&cut, bytes)) = input.split_first() else { return };
    let whole = decode([bytes].into_iter());
    // An error needs the end of its line to be noticed at the latest.
    let end = whole.is_err().then_some(&b"\n"[..]);
    let (front, back) = bytes.split_at(usize::from(cut).min(bytes.len()));
    assert_eq!(decode([front, back].into_iter().chain(end)), whole);
    assert_eq!(decode(bytes.chunks(1).chain(end)), whole);

    let Ok(Some((data, end, _))) = whole else { return };
    let mut written = Vec::new();
    if let Some(size) = NonZeroU64::new(data.len() as u64) {
        write_chunk_head(size, &mut written);
        written.extend_from_slice(&data);
        written.extend_from_slice(CHUNK_END);
    }
    written.extend_from_slice(&end);
    let expected = (data, end, written.len());
    // Spaces after colons are written even if they were not read, so the limit may be passed.
    match decode([&*written].into_iter()) {
        Err(BodyError::Trailers(_)) if expected.1.len() > LIMITS.bytes => {}
        again => assert_eq!(again, Ok(Some(expected))),
    }
});
