//! Version 1: one line of text, such as `PROXY TCP4 192.0.2.1 198.51.100.1 4711 443` and CRLF (section 2.1).

use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
    str::{self, FromStr},
};

use super::{
    Header, ParseErrorKind,
    bytes::{Bytes, Parse},
};

/// The header of version 1 that names no addresses.
pub const V1_UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";

/// Writes a header of version 1, at most [`V1_MAX`](super::V1_MAX) bytes.
///
/// Where only one of the addresses is IPv4, it is written as an IPv4-mapped IPv6 address.
pub fn encode_v1(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let (family, source_ip, destination_ip) = match super::v2::same_family(source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ("TCP4", source.to_string(), destination.to_string())
        }
        (source, destination) => ("TCP6", hexadecimal(source), hexadecimal(destination)),
    };
    let (source, destination) = (source.port(), destination.port());
    format!("PROXY {family} {source_ip} {destination_ip} {source} {destination}\r\n").into_bytes()
}

/// Version 1 knows hexadecimal groups only, no IPv4 address at the end.
fn hexadecimal(address: IpAddr) -> String {
    match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            let mut text = "::ffff".to_owned();
            for group in &v6.segments()[6..] {
                let _ = write!(text, ":{group:x}"); // writing to a String does not fail
            }
            text
        }
        other => other.to_string(),
    }
}

/// Reads `PROXY`, and what follows.
pub(super) fn header(bytes: &mut Bytes<'_>) -> Parse<Header> {
    bytes.expect(b"PROXY ", ParseErrorKind::Signature)?;
    match bytes.next()? {
        b'T' => {
            bytes.expect(b"CP", ParseErrorKind::Family)?;
            match bytes.next()? {
                b'4' => addresses(bytes, octets),
                b'6' => addresses(bytes, groups),
                _ => Err(bytes.wrong(ParseErrorKind::Family)),
            }
        }
        b'U' => {
            bytes.expect(b"NKNOWN", ParseErrorKind::Family)?;
            rest_of_line(bytes)
        }
        _ => Err(bytes.wrong(ParseErrorKind::Family)),
    }
}

/// After `UNKNOWN` anything may stand, and is to be ignored.
fn rest_of_line(bytes: &mut Bytes<'_>) -> Parse<Header> {
    let mut byte = bytes.next()?;
    if byte != b' ' && byte != b'\r' {
        return Err(bytes.wrong(ParseErrorKind::Separator));
    }
    while byte != b'\r' {
        byte = bytes.next()?;
        if byte == b'\n' {
            return Err(bytes.wrong(ParseErrorKind::Separator));
        }
    }
    bytes.expect(b"\n", ParseErrorKind::Separator)?;
    Ok(Header::Unknown)
}

type AddressReader = fn(&mut Bytes<'_>) -> Parse<()>;

fn addresses(bytes: &mut Bytes<'_>, read: AddressReader) -> Parse<Header> {
    bytes.expect(b" ", ParseErrorKind::Separator)?;
    let source = address(bytes, read)?;
    let destination = address(bytes, read)?;
    let source_port = port(bytes, b' ')?;
    let destination_port = port(bytes, b'\r')?;
    bytes.expect(b"\n", ParseErrorKind::Separator)?;
    Ok(Header::Inet {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    })
}

/// Reads an address and the space after it. `read` checks each byte as it comes; std's parser, which wants all of them,
/// makes the value.
fn address(bytes: &mut Bytes<'_>, read: AddressReader) -> Parse<IpAddr> {
    let start = bytes.position();
    read(bytes)?;
    let text = &bytes.read()[start..bytes.position() - 1];
    parse_text(text).ok_or_else(|| bytes.wrong(ParseErrorKind::Address))
}

fn parse_text<T: FromStr>(text: &[u8]) -> Option<T> {
    str::from_utf8(text).ok()?.parse().ok()
}

/// A decimal number without leading zeros, at most `max`, that grows digit by digit.
#[derive(Clone, Copy, Default)]
struct Decimal(Option<u32>);

impl Decimal {
    fn push(self, digit: u8, max: u32) -> Option<Decimal> {
        let digit = u32::from(digit.checked_sub(b'0').filter(|digit| *digit <= 9)?);
        let value = match self.0 {
            None => digit,
            Some(0) => return None,
            Some(value) => value * 10 + digit,
        };
        (value <= max).then_some(Decimal(Some(value)))
    }
}

/// Reads a port and the byte that ends it.
fn port(bytes: &mut Bytes<'_>, end: u8) -> Parse<u16> {
    let mut port = Decimal::default();
    loop {
        let byte = bytes.next()?;
        match port.0 {
            Some(value) if byte == end => {
                return u16::try_from(value).map_err(|_| bytes.wrong(ParseErrorKind::Address));
            }
            _ => {
                let pushed = port.push(byte, u16::MAX.into());
                port = pushed.ok_or_else(|| bytes.wrong(ParseErrorKind::Address))?;
            }
        }
    }
}

/// Reads the four numbers of an IPv4 address and the space after it.
fn octets(bytes: &mut Bytes<'_>) -> Parse<()> {
    rest_of_octets(bytes, 0, Decimal::default())
}

/// Goes on after `complete` octets and the digits of `octet`.
fn rest_of_octets(bytes: &mut Bytes<'_>, mut complete: u32, mut octet: Decimal) -> Parse<()> {
    loop {
        match (bytes.next()?, octet.0) {
            (b' ', Some(_)) if complete == 3 => return Ok(()),
            (b'.', Some(_)) if complete < 3 => {
                complete += 1;
                octet = Decimal::default();
            }
            (byte, _) => {
                let pushed = octet.push(byte, u8::MAX.into());
                octet = pushed.ok_or_else(|| bytes.wrong(ParseErrorKind::Address))?;
            }
        }
    }
}

/// Reads an IPv6 address and the space after it: groups of one to four hexadecimal digits between colons, one run of
/// zero groups written as `::`. An IPv4 address in the last two groups is no part of version 1's grammar, but
/// inet_ntop(3) writes IPv4-mapped addresses that way, and so do senders.
fn groups(bytes: &mut Bytes<'_>) -> Parse<()> {
    let mut groups = Groups::default();
    loop {
        let byte = bytes.next()?;
        let wrong = bytes.wrong(ParseErrorKind::Address);
        match byte {
            b' ' if groups.is_complete() => return Ok(()),
            b'.' if groups.has_room_for_v4() && groups.octet.0.is_some() => {
                return rest_of_octets(bytes, 1, Decimal::default());
            }
            _ => groups = groups.push(byte).ok_or(wrong)?,
        }
    }
}

/// An IPv6 address that grows byte by byte.
#[derive(Clone, Copy, Default)]
struct Groups {
    /// Groups that a colon has ended.
    complete: usize,
    /// Hexadecimal digits of the group under way.
    digits: usize,
    /// The group under way, if it can be read as the first octet of an IPv4 address.
    octet: Decimal,
    /// Colons since the last digit.
    colons: usize,
    /// `::` stands somewhere before.
    compressed: bool,
}

const GROUPS: usize = 8;

impl Groups {
    /// `::` stands for one group at least.
    fn room(&self) -> usize {
        GROUPS - usize::from(self.compressed) - self.complete
    }

    fn push(self, byte: u8) -> Option<Groups> {
        match byte {
            b':' => self.push_colon(),
            _ if byte.is_ascii_hexdigit() => self.push_digit(byte),
            _ => None,
        }
    }

    fn push_colon(mut self) -> Option<Groups> {
        self.colons += 1;
        match self.colons {
            1 if self.digits > 0 => {
                self.complete += 1;
                self.digits = 0;
                self.octet = Decimal::default();
                // Something must be able to follow.
                (self.room() > 0).then_some(self)
            }
            1 if self.complete == 0 && !self.compressed => Some(self),
            2 if !self.compressed && self.complete < GROUPS => {
                self.compressed = true;
                Some(self)
            }
            _ => None,
        }
    }

    fn push_digit(mut self, digit: u8) -> Option<Groups> {
        let leading_colon = self.colons == 1 && self.complete == 0;
        if leading_colon || self.room() == 0 || self.digits == 4 {
            return None;
        }
        self.octet = match (self.digits, self.octet.0) {
            (0, _) | (_, Some(_)) => self.octet.push(digit, u8::MAX.into()).unwrap_or_default(),
            _ => Decimal::default(),
        };
        self.digits += 1;
        self.colons = 0;
        Some(self)
    }

    fn is_complete(&self) -> bool {
        match (self.compressed, self.digits > 0) {
            (false, last) => last && self.complete + 1 == GROUPS,
            (true, true) => true,
            (true, false) => self.colons == 2,
        }
    }

    fn has_room_for_v4(&self) -> bool {
        match self.compressed {
            true => self.room() >= 2,
            false => self.complete + 2 == GROUPS,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::proxy_protocol::bytes::Stop;

    /// What the byte-by-byte reader makes of `text` and a space: accepted, refused, or not yet decided.
    fn read(reader: AddressReader, text: &str) -> Parse<()> {
        reader(&mut Bytes::new(text.as_bytes()))
    }

    fn accepts(reader: AddressReader, text: &str) -> bool {
        read(reader, &format!("{text} ")).is_ok()
    }

    #[test]
    fn ipv6_spellings() {
        for text in ["::", "::1", "1::", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8"] {
            assert!(accepts(groups, text), "{text}");
        }
        for text in ["::ffff:1.2.3.4", "::1.2.3.4", "1:2:3:4:5:6:1.2.3.4", "1::5:255.0.0.1", "1::8"]
        {
            assert!(accepts(groups, text), "{text}");
        }
        for text in ["", ":", ":::", "1", "1:2", "::1::", "12345::", "g::", "1:2:3:4:5:6:7", ":1::"]
        {
            assert!(!accepts(groups, text), "{text}");
        }
        for text in ["1:2:3:4:5:6:7:8:9", "::1:2:3:4:5:6:7:8", "::256.1.1.1", "::1.2.3", "1.2.3.4"]
        {
            assert!(!accepts(groups, text), "{text}");
        }
        for text in ["::01.2.3.4", "::f.2.3.4", "1:2:3:4:5:6:7:1.2.3.4", "1:2:3:4:5:6:7:8::"] {
            assert!(!accepts(groups, text), "{text}");
        }
    }

    /// A prefix that the reader does not refuse can be completed; these are the shortest ways.
    fn completions(text: &str) -> impl Iterator<Item = String> {
        let ends = [
            "", ":", "::", "0", "1.2.3", ".1.1", "1.1", ".1", "1", "0:0", ":0", ":1.1.1.1", "1.1.1",
        ];
        let filler = (0..8).map(|n| "0:".repeat(n));
        let more: Vec<String> = filler
            .flat_map(|f| ends.map(|end| [format!("{f}{end}"), format!(":{f}{end}")]))
            .flatten()
            .collect();
        let text = text.to_owned();
        more.into_iter().map(move |end| format!("{text}{end}"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn readers_accept_what_std_parses(text in "[0-9a-f:.]{0,16}|[0-9]{1,3}(\\.[0-9]{1,3}){2,4}|([0-9a-f]{0,4}:){2,8}[0-9a-f]{0,4}") {
            prop_assert_eq!(accepts(groups, &text), text.parse::<Ipv6Addr>().is_ok());
            prop_assert_eq!(accepts(octets, &text), text.parse::<Ipv4Addr>().is_ok());
        }

        #[test]
        fn a_refused_beginning_has_no_valid_end(text in "[0-9a-f:.]{0,12}|([0-9a-f]{0,2}:){2,8}[0-9a-f.]{0,4}") {
            let refused = !matches!(read(groups, &text), Err(Stop::Incomplete));
            let completes = completions(&text).any(|whole| whole.parse::<Ipv6Addr>().is_ok());
            prop_assert_eq!(!refused, completes, "{}", text);
        }
    }
}
