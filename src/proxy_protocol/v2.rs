//! Version 2: a binary header (section 2.2).
//!
//! ```text
//!  0       12        13         14     16          16+addresses    16+length
//!  signature | version, | family,   | length | addresses | extensions |
//!            | command  | transport |        |           | (TLVs)     |
//! ```

use std::{
    ffi::OsStr,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

use crc::{CRC_32_ISCSI, Crc, Table};

use super::{
    Header, ParseError, ParseErrorKind, V2_MAX,
    bytes::{Bytes, Parse, Stop},
};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED_LENGTH: usize = 16;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

const UNSPEC: u8 = 0x00;
const TCP4: u8 = 0x11;
const UDP4: u8 = 0x12;
const TCP6: u8 = 0x21;
const UDP6: u8 = 0x22;
const UNIX_STREAM: u8 = 0x31;
const UNIX_DATAGRAM: u8 = 0x32;

/// PP2_TYPE_CRC32C (section 2.2.4).
const CHECKSUM_TYPE: u8 = 0x03;
const CHECKSUM_LENGTH: usize = 4;
static CRC32C: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISCSI);

/// The header of version 2 that says: this connection is the sender's own.
pub const V2_LOCAL: &[u8; FIXED_LENGTH] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";

/// Writes a header of version 2 for a TCP connection, without extensions: 28 bytes for IPv4, 52 for IPv6.
///
/// Where only one of the addresses is IPv4, it is written as an IPv4-mapped IPv6 address.
pub fn encode_v2(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut addresses = Vec::with_capacity(36);
    let family = match same_family(source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            addresses.extend(source.octets());
            addresses.extend(destination.octets());
            TCP4
        }
        (source, destination) => {
            addresses.extend(to_v6(source));
            addresses.extend(to_v6(destination));
            TCP6
        }
    };
    addresses.extend(source.port().to_be_bytes());
    addresses.extend(destination.port().to_be_bytes());

    let mut header = Vec::with_capacity(FIXED_LENGTH + addresses.len());
    header.extend(SIGNATURE);
    header.extend([PROXY, family, 0, addresses.len() as u8]);
    header.extend(addresses);
    header
}

/// Both addresses as IPv4 if both are (or are mapped), else both as IPv6.
pub(super) fn same_family(source: SocketAddr, destination: SocketAddr) -> (IpAddr, IpAddr) {
    match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (source @ IpAddr::V4(_), destination @ IpAddr::V4(_)) => (source, destination),
        (source, destination) => (to_v6(source).into(), to_v6(destination).into()),
    }
}

fn to_v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Reads the signature, and what follows.
pub(super) fn header(bytes: &mut Bytes<'_>) -> Parse<Header> {
    bytes.expect(SIGNATURE, ParseErrorKind::Signature)?;
    let command = bytes.next()?;
    if command != LOCAL && command != PROXY {
        return Err(bytes.wrong(ParseErrorKind::Command));
    }
    let family = bytes.next()?;
    let addresses_length = match family {
        // The family of a local connection is to be ignored, and so is all that follows.
        _ if command == LOCAL => 0,
        UNSPEC => 0,
        TCP4 | UDP4 => 12,
        TCP6 | UDP6 => 36,
        UNIX_STREAM | UNIX_DATAGRAM => 216,
        _ => return Err(bytes.wrong(ParseErrorKind::Family)),
    };
    let allowed = addresses_length..=V2_MAX - FIXED_LENGTH;
    let length = length(bytes, allowed, ParseErrorKind::Length)?;
    if command == LOCAL || family == UNSPEC {
        bytes.take(length)?;
        return Ok(if command == LOCAL { Header::Local } else { Header::Unknown });
    }
    let header = match family {
        TCP4 | UDP4 => inet::<4>(bytes)?,
        TCP6 | UDP6 => inet::<16>(bytes)?,
        _ => unix(bytes)?,
    };
    extensions(bytes, FIXED_LENGTH + length)?;
    Ok(header)
}

/// Reads a length of two bytes that must lie within `allowed`.
fn length(
    bytes: &mut Bytes<'_>,
    allowed: RangeInclusive<usize>,
    kind: ParseErrorKind,
) -> Parse<usize> {
    let high = usize::from(bytes.next()?) << 8;
    if high > *allowed.end() || high + 0xff < *allowed.start() {
        return Err(bytes.wrong(kind));
    }
    let length = high + usize::from(bytes.next()?);
    if allowed.contains(&length) { Ok(length) } else { Err(bytes.wrong(kind)) }
}

fn inet<const N: usize>(bytes: &mut Bytes<'_>) -> Parse<Header>
where
    IpAddr: From<[u8; N]>,
{
    let source: [u8; N] = bytes.array()?;
    let destination: [u8; N] = bytes.array()?;
    let source_port = u16::from_be_bytes(bytes.array()?);
    let destination_port = u16::from_be_bytes(bytes.array()?);
    Ok(Header::Inet {
        source: SocketAddr::new(source.into(), source_port),
        destination: SocketAddr::new(destination.into(), destination_port),
    })
}

fn unix(bytes: &mut Bytes<'_>) -> Parse<Header> {
    let source: [u8; 108] = bytes.array()?;
    let destination: [u8; 108] = bytes.array()?;
    Ok(Header::Unix { source: path(&source), destination: path(&destination) })
}

fn path(bytes: &[u8]) -> PathBuf {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    OsStr::from_bytes(&bytes[..end]).into()
}

/// Reads type, length and value of each extension up to `end`, and checks the checksum if there is one.
fn extensions(bytes: &mut Bytes<'_>, end: usize) -> Parse<()> {
    const INVALID: ParseErrorKind = ParseErrorKind::Extension;
    let mut checksum_at = None;
    while bytes.position() < end {
        let is_checksum = bytes.next()? == CHECKSUM_TYPE;
        let least = if is_checksum { CHECKSUM_LENGTH } else { 0 };
        let Some(room) = (end - bytes.position()).checked_sub(2 + least) else {
            return Err(bytes.wrong(INVALID));
        };
        if is_checksum && checksum_at.is_some() {
            return Err(bytes.wrong(INVALID));
        }
        let most = if is_checksum { least } else { room };
        let length = length(bytes, least..=most, INVALID)?;
        if is_checksum {
            checksum_at = Some(bytes.position());
        }
        bytes.take(length)?;
    }
    match checksum_at {
        Some(at) if !checksum_fits(bytes.read(), at) => {
            Err(Stop::Invalid(ParseError { at, kind: ParseErrorKind::Checksum }))
        }
        _ => Ok(()),
    }
}

/// The checksum covers the whole header, with zeros in its own place.
fn checksum_fits(header: &[u8], at: usize) -> bool {
    let (before, rest) = header.split_at(at);
    let (checksum, after) = rest.split_at(CHECKSUM_LENGTH);
    let mut digest = CRC32C.digest();
    digest.update(before);
    digest.update(&[0; CHECKSUM_LENGTH]);
    digest.update(after);
    digest.finalize().to_be_bytes() == checksum
}
