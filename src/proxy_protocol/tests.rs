use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
};

use crc::{CRC_32_ISCSI, Crc};
use proptest::{collection::vec, prelude::*};

use super::*;

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn done(bytes: &[u8]) -> Header {
    match parse(bytes) {
        Ok(Parsed::Done { header, consumed }) => {
            assert_eq!(consumed, bytes.len());
            header
        }
        other => panic!("{other:?}: {bytes:?}"),
    }
}

fn error(bytes: &[u8]) -> (usize, ParseErrorKind) {
    let error = parse(bytes).unwrap_err();
    (error.at, error.kind)
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, family]);
    header.extend((body.len() as u16).to_be_bytes());
    header.extend(body);
    header
}

/// Adds an extension to a header of version 2.
fn extended(mut header: Vec<u8>, kind: u8, value: &[u8]) -> Vec<u8> {
    header.push(kind);
    header.extend((value.len() as u16).to_be_bytes());
    header.extend(value);
    let body = header.split_off(16);
    v2(header[12], header[13], &body)
}

fn with_checksum(header: Vec<u8>) -> Vec<u8> {
    let mut header = extended(header, 3, &[0; 4]);
    let checksum = Crc::<u32>::new(&CRC_32_ISCSI).checksum(&header).to_be_bytes();
    let value = header.len() - 4;
    header[value..].copy_from_slice(&checksum);
    header
}

const TCP4_BODY: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0x12, 0x67, 0x01, 0xbb];

#[test]
fn version_1_examples() {
    for (line, source, destination) in [
        ("PROXY TCP4 192.0.2.1 198.51.100.1 4711 443", "192.0.2.1:4711", "198.51.100.1:443"),
        ("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535", "0.0.0.0:0", "255.255.255.255:65535"),
        ("PROXY TCP6 2001:DB8::1 ::1 65535 1", "[2001:db8::1]:65535", "[::1]:1"),
        ("PROXY TCP6 ::ffff:192.0.2.1 :: 1 2", "[::ffff:192.0.2.1]:1", "[::]:2"),
    ] {
        let header = done(format!("{line}\r\n").as_bytes());
        assert_eq!(header, Header::Inet { source: at(source), destination: at(destination) });
    }
    assert_eq!(done(V1_UNKNOWN), Header::Unknown);
    let full = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let longest = format!("PROXY UNKNOWN {full} {full} 65535 65535\r\n");
    assert_eq!(longest.len(), V1_MAX);
    assert_eq!(done(longest.as_bytes()), Header::Unknown);
}

#[test]
fn version_1_errors_are_found_at_the_first_wrong_byte() {
    use ParseErrorKind::*;
    for (line, position, kind) in [
        ("POST / HTTP/1.1\r\n", 1, Signature),
        ("PROXY\t", 5, Signature),
        ("PROXY TCP5", 9, Family),
        ("PROXY UDP4", 7, Family),
        ("PROXY tcp4", 6, Family),
        ("PROXY UNKNOWN\n", 13, Separator),
        ("PROXY UNKNOWNX", 13, Separator),
        ("PROXY UNKNOWN x\n", 15, Separator),
        ("PROXY UNKNOWN x\rx", 16, Separator),
        ("PROXY TCP4\r\n", 10, Separator),
        ("PROXY TCP4  1", 11, Address),
        ("PROXY TCP4 256", 13, Address),
        ("PROXY TCP4 01", 12, Address),
        ("PROXY TCP4 1.2.3 ", 16, Address),
        ("PROXY TCP4 1.2.3.4.", 18, Address),
        ("PROXY TCP4 ::1", 11, Address),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 65536", 31, Address),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 +1", 27, Address),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 01", 28, Address),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1\r", 28, Address),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 ", 30, Address),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", 30, Address),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\r", 31, Separator),
        ("PROXY TCP6 1.", 12, Address),
        ("PROXY TCP6 1:::", 14, Address),
        ("PROXY TCP6 12345", 15, Address),
        ("PROXY TCP6 ::1%", 14, Address),
    ] {
        assert_eq!(error(line.as_bytes()), (position, kind), "{line:?}");
        let before = &line.as_bytes()[..position];
        assert_eq!(parse(before), Ok(Parsed::Incomplete), "{line:?}");
    }
}

#[test]
fn version_1_ends_at_its_limit() {
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(200));
    let (before, until) = (&endless.as_bytes()[..V1_MAX - 1], &endless.as_bytes()[..V1_MAX]);
    assert_eq!(parse(before), Ok(Parsed::Incomplete));
    for bytes in [until, endless.as_bytes()] {
        assert_eq!(error(bytes), (V1_MAX - 1, ParseErrorKind::Length));
    }
}

#[test]
fn version_2_examples() {
    let inet =
        |source, destination| Header::Inet { source: at(source), destination: at(destination) };
    for family in [0x11, 0x12] {
        let header = done(&v2(0x21, family, &TCP4_BODY));
        assert_eq!(header, inet("192.0.2.1:4711", "198.51.100.1:443"));
    }
    let mut body = [0; 36];
    (body[15], body[31], body[33], body[35]) = (1, 2, 80, 81);
    assert_eq!(done(&v2(0x21, 0x21, &body)), inet("[::1]:80", "[::2]:81"));

    let mut body = [0; 216];
    body[..4].copy_from_slice(b"/a/b");
    body[108..].fill(b'x');
    let Header::Unix { source, destination } = done(&v2(0x21, 0x31, &body)) else { panic!() };
    assert_eq!(source, Path::new("/a/b"));
    assert_eq!(destination, Path::new(&"x".repeat(108)));

    assert_eq!(done(V2_LOCAL), Header::Local);
    assert_eq!(done(&v2(0x20, 0xff, b"anything")), Header::Local);
    assert_eq!(done(&v2(0x21, 0x00, b"anything")), Header::Unknown);
}

#[test]
fn version_2_errors_are_found_at_the_first_wrong_byte() {
    use ParseErrorKind::*;
    let changed = |position: usize, byte| {
        let mut header = v2(0x21, 0x11, &TCP4_BODY);
        header[position] = byte;
        header
    };
    for (header, position, kind) in [
        (b"GET / HTTP/1.1".to_vec(), 0, Signature),
        (b"\r\n\r\n\r".to_vec(), 4, Signature),
        (changed(11, b'\r'), 11, Signature),
        (changed(12, 0x22), 12, Command),
        (changed(12, 0x11), 12, Command),
        (changed(13, 0x10), 13, Family),
        (changed(13, 0x41), 13, Family),
        (changed(14, 0x40), 14, Length),
        (changed(15, 11), 15, Length),
        (changed(13, 0x31), 15, Length),
        (v2(0x21, 0x11, &[&TCP4_BODY[..], &[4]].concat()), 28, Extension),
        (v2(0x21, 0x11, &[&TCP4_BODY[..], &[4, 0]].concat()), 28, Extension),
        (v2(0x21, 0x11, &[&TCP4_BODY[..], &[4, 0, 1]].concat()), 30, Extension),
        (v2(0x21, 0x11, &[&TCP4_BODY[..], &[4, 1, 0]].concat()), 29, Extension),
        (extended(v2(0x21, 0x11, &TCP4_BODY), 3, &[0; 3]), 28, Extension),
        (extended(v2(0x21, 0x11, &TCP4_BODY), 3, &[0; 5]), 30, Extension),
    ] {
        assert_eq!(error(&header), (position, kind), "{header:?}");
        assert_eq!(parse(&header[..position]), Ok(Parsed::Incomplete), "{header:?}");
    }
}

#[test]
fn extensions_are_passed_over_and_the_checksum_is_checked() {
    let header = extended(extended(v2(0x21, 0x11, &TCP4_BODY), 4, &[]), 0xe0, &[7; 300]);
    assert!(done(&header).addresses().is_some());

    let right = with_checksum(header);
    assert!(done(&right).addresses().is_some());
    for position in [16, 31, right.len() - 1] {
        let mut wrong = right.clone();
        wrong[position] ^= 1;
        assert_eq!(error(&wrong), (right.len() - 4, ParseErrorKind::Checksum));
    }
    let twice = with_checksum(right.clone());
    assert_eq!(error(&twice), (right.len(), ParseErrorKind::Extension));
}

/// Made by another implementation: an unknown extension, an authority of `localhost`, and the checksum.
#[test]
fn a_checksum_of_other_making_fits() {
    let header =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x25\xc0\0\x02\x01\xc6\x33\x64\x01\x12\x67\x01\xbb\
        \x04\0\x03\0\0\0\x02\0\x09localhost\x03\0\x04\x88\x53\xe2\x2a";
    assert!(done(header).addresses().is_some());
}

#[test]
fn version_2_ends_at_its_limit() {
    let fill = |length: usize| extended(v2(0x21, 0x11, &TCP4_BODY), 4, &vec![0; length]);
    let longest = fill(V2_MAX - 31);
    assert_eq!(longest.len(), V2_MAX);
    assert!(done(&longest).addresses().is_some());
    let (position, kind) = error(&fill(V2_MAX - 30));
    assert!(position < 16 && kind == ParseErrorKind::Length);
}

#[test]
fn addresses_of_two_families_are_written_as_ipv6() {
    let (v4, v6) = (at("192.0.2.1:1"), at("[2001:db8::1]:2"));
    let mapped = at("[::ffff:192.0.2.1]:1");
    for bytes in [encode_v1(v4, v6), encode_v2(v4, v6)] {
        assert_eq!(done(&bytes), Header::Inet { source: mapped, destination: v6 });
    }
    assert_eq!(encode_v1(v4, v6), b"PROXY TCP6 ::ffff:c000:201 2001:db8::1 1 2\r\n");
    assert_eq!(encode_v1(mapped, v4), b"PROXY TCP4 192.0.2.1 192.0.2.1 1 1\r\n");
}

fn addresses() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let v4 = || any::<(Ipv4Addr, u16)>().prop_map(SocketAddr::from);
    let v6 = || {
        let sparse = vec(prop_oneof![Just(0u16), any::<u16>()], 8);
        let sparse = sparse.prop_map(|s| Ipv6Addr::from(<[u16; 8]>::try_from(s).unwrap()));
        (sparse, any::<u16>()).prop_filter_map("mapped", |(ip, port)| {
            ip.to_ipv4_mapped().is_none().then(|| SocketAddr::from((ip, port)))
        })
    };
    prop_oneof![(v4(), v4()), (v6(), v6())]
}

fn valid_headers() -> impl Strategy<Value = Vec<u8>> {
    let unix = vec(any::<u8>(), 216).prop_map(|body| v2(0x21, 0x31, &body));
    let local = vec(any::<u8>(), 0..40).prop_map(|body| v2(0x20, 0, &body));
    let unknown = "[ -~]{0,80}".prop_map(|rest| format!("PROXY UNKNOWN {rest}\r\n").into_bytes());
    let extended = (addresses(), vec((4..=255u8, vec(any::<u8>(), 0..20)), 0..4)).prop_map(
        |((source, destination), extensions)| {
            let header = encode_v2(source, destination);
            let add = |header, (kind, value): (u8, Vec<u8>)| extended(header, kind, &value);
            with_checksum(extensions.into_iter().fold(header, add))
        },
    );
    let v1 = addresses().prop_map(|(source, destination)| encode_v1(source, destination));
    prop_oneof![unix, local, unknown, extended, v1]
}

/// The first bytes of something that may pass for a header for a while.
fn nearly_headers() -> impl Strategy<Value = Vec<u8>> {
    let changed = (valid_headers(), any::<prop::sample::Index>(), any::<u8>());
    let changed = changed.prop_map(|(mut header, position, byte)| {
        let position = position.index(header.len());
        header[position] = byte;
        header
    });
    prop_oneof![vec(any::<u8>(), 0..300), changed]
}

proptest! {
    #[test]
    fn what_is_encoded_parses_back((source, destination) in addresses()) {
        let expected = Header::Inet { source, destination };
        let v1 = encode_v1(source, destination);
        prop_assert!(v1.len() <= V1_MAX);
        prop_assert_eq!(done(&v1), expected.clone());
        prop_assert_eq!(done(&encode_v2(source, destination)), expected);
    }

    #[test]
    fn every_beginning_of_a_valid_header_is_incomplete(header in valid_headers()) {
        for end in 0..header.len() {
            prop_assert_eq!(parse(&header[..end]), Ok(Parsed::Incomplete), "{} bytes", end);
        }
        let complete = matches!(parse(&header), Ok(Parsed::Done { .. }));
        prop_assert!(complete);
    }

    #[test]
    fn what_follows_a_header_changes_nothing(header in valid_headers(), rest in vec(any::<u8>(), 0..50)) {
        let whole = parse(&[&header[..], &rest].concat());
        prop_assert_eq!(whole, parse(&header));
    }

    #[test]
    fn byte_by_byte_comes_to_the_same(bytes in nearly_headers()) {
        let mut decided = Ok(Parsed::Incomplete);
        for end in 0..=bytes.len() {
            decided = parse(&bytes[..end]);
            if decided != Ok(Parsed::Incomplete) {
                break;
            }
        }
        prop_assert_eq!(decided, parse(&bytes));
    }

    #[test]
    fn an_error_lies_within_the_bytes_and_not_before_it(bytes in nearly_headers()) {
        if let Err(error) = parse(&bytes) {
            prop_assert!(error.at < bytes.len());
            // A checksum is known to be wrong once all of the header is there.
            if error.kind != ParseErrorKind::Checksum {
                prop_assert_eq!(parse(&bytes[..error.at]), Ok(Parsed::Incomplete));
            }
        }
    }
}
