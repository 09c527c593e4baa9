//! Bodies: where the data lies, what is refused, and what is written.

use super::decode;
use crate::http::{
    BodyLength, Headers, ResponseBody,
    h1::{
        BodyError, BodyPart, BodyReader, CHUNK_END, ChunkedDecoder, FieldError, HeadLimits,
        write_chunk_head, write_last_chunk,
    },
};
use std::num::NonZeroU64;

const LIMITS: HeadLimits = HeadLimits { bytes: 64 * 1024, fields: 100, connect: false };

/// The body is taken, in whatever pieces it comes, and the next message after it is left alone.
fn accepted(bytes: &str, data: &str, trailers: &str) {
    let followed = format!("{bytes}GET / HTTP/1.1\r\n");
    let expected = (data.as_bytes().to_vec(), trailers.as_bytes().to_vec(), bytes.len());
    assert_eq!(decode(followed.as_bytes(), LIMITS), Ok(Some(expected.clone())), "{bytes:?}");
    assert_eq!(decode(bytes.as_bytes(), LIMITS), Ok(Some(expected)), "{bytes:?}");
}

fn refused(bytes: &str, error: BodyError) {
    assert_eq!(decode(bytes.as_bytes(), LIMITS), Err(error), "{bytes:?}");
}

#[test]
fn chunks_are_put_together() {
    accepted("0\r\n\r\n", "", "");
    accepted("3\r\nabc\r\n0\r\n\r\n", "abc", "");
    accepted(
        "3\r\nabc\r\nA\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
        "abc01234567890123456789",
        "",
    );
    accepted("0000000000000003\r\nabc\r\n0000\r\n\r\n", "abc", "");
    accepted("2\r\n\r\n\r\n5\r\n0\r\n\r\n\r\n0\r\n\r\n", "\r\n0\r\n\r\n", "");
}

#[test]
fn a_size_is_digits_and_nothing_else() {
    for line in [
        "\r\n",
        " 3\r\n",
        "\t3\r\n",
        "+3\r\n",
        "-3\r\n",
        "0x3\r\n",
        "x3\r\n",
        "3_0\r\n",
        "g\r\n",
        "3.\r\n",
        "3,\r\n",
        "\n",
        "3\n",
        "3\r3",
        "3\r\r\n",
        "00000000000000003\r\n",
        "fffffffffffffffff\r\n",
        "3\0\r\n",
        ";a\r\n",
        "3\u{e9}\r\n",
        "3\x0b\r\n",
        "\0\r\n",
    ] {
        refused(&format!("{line}abc\r\n0\r\n\r\n"), BodyError::ChunkSize);
    }
    refused("3\r\nabc\r\n\r\n", BodyError::ChunkSize);
    refused("0\n\r\n", BodyError::ChunkSize);
}

#[test]
fn sizes_have_64_bits() {
    let mut decoder = ChunkedDecoder::new(LIMITS);
    assert_eq!(decoder.step(b"ffffffffffffffff\r\nabc"), Ok(BodyPart::Framing(18)));
    assert_eq!(decoder.step(b"abc"), Ok(BodyPart::Data(3)));
    assert_eq!(decoder.step(&[b'x'; 70_000]), Ok(BodyPart::Data(70_000)));
    assert!(!decoder.is_done());
    // 2^32 + 3, of which 32 bits would make 3.
    let mut decoder = ChunkedDecoder::new(LIMITS);
    assert_eq!(decoder.step(b"100000003\r\n"), Ok(BodyPart::Framing(11)));
    assert_eq!(decoder.step(b"abc\r\n0\r\n\r\n"), Ok(BodyPart::Data(10)));
}

#[test]
fn data_is_followed_by_crlf() {
    for after in [
        "0\r\n\r\n",
        "\n0\r\n\r\n",
        "\r0\r\n\r\n",
        "d\r\n0\r\n\r\n",
        "\r\r\n0\r\n\r\n",
        " \r\n0\r\n\r\n",
    ] {
        refused(&format!("3\r\nabc{after}"), BodyError::ChunkEnd);
    }
}

#[test]
fn extensions_follow_the_grammar_and_are_dropped() {
    for extension in [
        ";a",
        ";a=b",
        ";a;b",
        ";a=b;c=d",
        " ;a",
        "\t; a",
        ";a = b",
        ";a ;b",
        ";a =b ;c",
        ";chunk-signature=0f9e",
    ] {
        accepted(&format!("3{extension}\r\nabc\r\n0{extension}\r\n\r\n"), "abc", "");
    }
    for extension in [
        ";",
        "; ",
        " ",
        "\t",
        ";a;",
        ";a=",
        ";a= ",
        ";a ",
        ";a=b ",
        ";=b",
        ";a b",
        ";a=b c",
        ";a=\"b\"",
        ";a=\"",
        ";\"a\"",
        ";a=b\0",
        ";a\u{e9}",
        ";a=b=c",
        ";;a",
        ";a,b",
        " a",
        ";a=\"\r\nGET / HTTP/1.1\r\n\"",
    ] {
        refused(&format!("3{extension}\r\nabc\r\n0\r\n\r\n"), BodyError::ChunkExtension);
    }
    refused("3;a\nabc\r\n0\r\n\r\n", BodyError::ChunkExtension);
    refused("3;a\rabc\r\n0\r\n\r\n", BodyError::ChunkSize);
}

/// Decodes in one piece, for bodies too long to be cut everywhere.
fn decode_whole(bytes: &[u8]) -> Result<usize, BodyError> {
    super::decode_pieces([bytes], LIMITS).map(|decoded| decoded.map_or(0, |(data, ..)| data.len()))
}

#[test]
fn extensions_do_not_outweigh_the_data() {
    let line = |length: usize| format!(";{}", "a".repeat(length - 1));
    let limit = 16 * 1024;
    assert_eq!(decode_whole(format!("0{}\r\n\r\n", line(limit)).as_bytes()), Ok(0));
    let longer = format!("0{}\r\n\r\n", line(limit + 1));
    assert_eq!(decode_whole(longer.as_bytes()), Err(BodyError::ExtensionsTooLong));
    // The limit is on all of them together.
    let drip = format!("1{}\r\nx\r\n", line(100)).repeat(1000);
    assert_eq!(decode_whole(drip.as_bytes()), Err(BodyError::ExtensionsTooLong));
    // A signed upload has one with every chunk, and goes through however long it is.
    let signed = format!("1000{}\r\n{}\r\n", line(81), "x".repeat(4096)).repeat(1000);
    assert_eq!(decode_whole(format!("{signed}0\r\n\r\n").as_bytes()), Ok(4_096_000));
    // But data that has passed does not buy one endless line.
    let saved = format!("100000\r\n{}\r\n0{}\r\n\r\n", "x".repeat(1 << 20), line(limit + 1));
    assert_eq!(decode_whole(saved.as_bytes()), Err(BodyError::ExtensionsTooLong));
}

#[test]
fn trailers_are_fields_without_those_of_the_head() {
    accepted("3\r\nabc\r\n0\r\nX-Sum: 5\r\ny:z \r\n\r\n", "abc", "X-Sum: 5\r\ny: z\r\n");
    accepted(
        "0\r\nContent-Length: 5\r\nTRANSFER-ENCODING: chunked\r\nHost: b\r\nConnection: X\r\nTE: x\r\nUpgrade: x\r\n\
         Keep-Alive: x\r\nProxy-Connection: x\r\nExpect: x\r\nTrailer: x\r\nAuthorization: x\r\nCookie: x\r\n\
         X-Forwarded-For: x\r\nx-forwarded-proto: x\r\nForwarded: x\r\nX-Request-Id: x\r\nContent-Type: x\r\n\
         X-Forwarded: kept\r\n\r\n",
        "",
        "X-Forwarded: kept\r\n",
    );
    use FieldError as F;
    for (section, error) in [
        ("\n", F::LineEnd),
        ("\rX", F::LineEnd),
        ("X: y\n\r\n", F::LineEnd),
        ("X: y\r\n\n", F::LineEnd),
        ("X: y\r\nZ: y\n\r\n", F::LineEnd),
        (": y\r\n\r\n", F::Name),
        ("X\r\n\r\n", F::Name),
        ("X : y\r\n\r\n", F::Name),
        (" X: y\r\n\r\n", F::Name),
        ("X: y\r\n z\r\n\r\n", F::Name),
        ("GET / HTTP/1.1\r\n\r\n", F::Name),
        ("X: \0\r\n\r\n", F::Value),
        ("X: a\rb\r\n\r\n", F::Value),
    ] {
        refused(&format!("0\r\n{section}"), BodyError::Trailers(error));
    }
}

#[test]
fn trailers_are_limited() {
    let limits = HeadLimits { bytes: 40, fields: 3, ..LIMITS };
    let decode = |section: &str| {
        decode(format!("0\r\n{section}\r\n").as_bytes(), limits).map(|decoded| decoded.is_some())
    };
    assert_eq!(decode(&"X: y\r\n".repeat(3)), Ok(true));
    assert_eq!(decode(&"X: y\r\n".repeat(4)), Err(BodyError::Trailers(FieldError::TooMany)));
    assert_eq!(decode(&format!("X: {}\r\n", "y".repeat(33))), Ok(true));
    let too_large = Err(BodyError::Trailers(FieldError::TooLarge));
    assert_eq!(decode(&format!("X: {}\r\n", "y".repeat(34))), too_large);
    assert_eq!(decode(&format!("X: {}\r\n", "y".repeat(1000))), too_large);
}

#[test]
fn a_body_of_known_length_ends_by_itself() {
    let mut body = BodyReader::new(BodyLength::Exactly(5), LIMITS);
    assert_eq!((body.is_done(), body.remaining()), (false, Some(5)));
    assert_eq!(body.step(b""), Ok(BodyPart::Framing(0)));
    assert_eq!(body.step(b"abc"), Ok(BodyPart::Data(3)));
    assert_eq!(body.end_of_stream(), Err(BodyError::Truncated));
    assert_eq!(body.step(b"deGET /"), Ok(BodyPart::Data(2)));
    assert_eq!((body.is_done(), body.end_of_stream()), (true, Ok(())));
    assert_eq!(body.step(b"GET /"), Ok(BodyPart::End(0)));
    for body in [ResponseBody::None, BodyLength::Exactly(0).into()] {
        let mut body = BodyReader::new(body, LIMITS);
        assert!(body.is_done());
        assert_eq!(body.step(b"GET /"), Ok(BodyPart::End(0)));
        assert_eq!(body.trailers(), None);
    }
}

#[test]
fn a_body_until_the_end_takes_everything() {
    let mut body = BodyReader::new(ResponseBody::UntilClose, LIMITS);
    assert_eq!(body.step(b"0\r\n\r\n"), Ok(BodyPart::Data(5)));
    assert_eq!(body.step(b""), Ok(BodyPart::Framing(0)));
    assert_eq!((body.is_done(), body.end_of_stream(), body.remaining()), (false, Ok(()), None));
}

#[test]
fn a_chunked_body_that_breaks_off_is_noticed() {
    let bytes = b"3\r\nabc\r\n0\r\nX: y\r\n\r\n";
    for cut in 0..bytes.len() {
        let mut body = BodyReader::new(BodyLength::Chunked, LIMITS);
        let mut rest = &bytes[..cut];
        while !rest.is_empty() {
            rest = &rest[body.step(rest).unwrap().length()..];
        }
        assert_eq!(body.end_of_stream(), Err(BodyError::Truncated), "cut at {cut}");
    }
}

#[test]
fn what_is_written_is_read() {
    for size in [1, 9, 15, 16, 255, 256, 4095, 65536, u64::from(u32::MAX) + 1, u64::MAX] {
        let mut out = Vec::new();
        write_chunk_head(NonZeroU64::new(size).unwrap(), &mut out);
        assert_eq!(out, format!("{size:x}\r\n").as_bytes());
    }
    let mut trailers = Headers::new();
    trailers.append("X-Sum", "5").unwrap();
    let mut out = Vec::new();
    write_chunk_head(NonZeroU64::new(3).unwrap(), &mut out);
    out.extend_from_slice(b"abc");
    out.extend_from_slice(CHUNK_END);
    write_last_chunk(&trailers, &mut out);
    accepted(str::from_utf8(&out).unwrap(), "abc", "X-Sum: 5\r\n");
}

#[test]
fn each_error_has_one_status_and_a_reason() {
    for (error, status, reason) in [
        (BodyError::ChunkSize, 400, "invalid_chunk_size"),
        (BodyError::ChunkExtension, 400, "invalid_chunk_extension"),
        (BodyError::ExtensionsTooLong, 400, "chunk_extensions_too_long"),
        (BodyError::ChunkEnd, 400, "invalid_chunk_end"),
        (BodyError::Trailers(FieldError::Name), 400, "invalid_trailer"),
        (BodyError::Trailers(FieldError::TooMany), 431, "too_many_trailers"),
        (BodyError::Trailers(FieldError::TooLarge), 431, "trailers_too_large"),
        (BodyError::Truncated, 400, "truncated_body"),
    ] {
        assert_eq!((error.status().as_u16(), error.reason()), (status, reason));
    }
}
