//! What an operator of a format stands for, and how a value is written: as text that can neither
//! break nor forge a line, or as JSON.

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{
    entry::Entry,
    time::Clock,
    tls::{Fact, Side},
};

/// The longest value in a line, in bytes as they were received. What is longer is cut and marked
/// with [`CUT`].
const LONGEST: usize = 8 << 10;
const CUT: &[u8] = b"...";

/// The operators of Envoy's formats that can be had here, by their names there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    StartTime,
    Duration,
    Protocol,
    BytesReceived,
    BytesSent,
    ResponseCode,
    ResponseFlags,
    ResponseCodeDetails,
    ConnectionTerminationDetails,
    UpstreamTransportFailureReason,
    UpstreamHost,
    UpstreamCluster,
    UpstreamLocalAddress,
    DownstreamLocalAddress,
    DownstreamRemoteAddress,
    RequestedServerName,
    RouteName,
    Tls(Side, Fact),
    Request(Lookup),
    Response(Lookup),
}

/// A field, and another one for where that is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lookup {
    pub(super) first: Name,
    pub(super) otherwise: Option<Name>,
}

/// What a field's name in a format means. Those of Envoy's own (`x-envoy-…`) are never looked up
/// among the fields that a peer sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Method,
    Path,
    OriginalPath,
    Authority,
    UpstreamServiceTime,
    Field(Box<str>),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Absent,
    Text(&'a [u8]),
    Number(u64),
    /// A number that is text by its nature: the value of a field.
    NumberAsText(u64),
    Address(SocketAddr),
    /// Several texts, with commas between them.
    List(&'a [Box<str>]),
    /// Bytes in hexadecimal.
    Hex(&'a [u8]),
    /// A time, since the Unix epoch.
    Time(Duration),
}

impl<'a> From<Option<&'a [u8]>> for Value<'a> {
    fn from(text: Option<&'a [u8]>) -> Value<'a> {
        text.map_or(Value::Absent, Value::Text)
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(text: Option<&'a str>) -> Value<'a> {
        text.map(str::as_bytes).into()
    }
}

impl From<Option<SocketAddr>> for Value<'_> {
    fn from(address: Option<SocketAddr>) -> Self {
        address.map_or(Value::Absent, Value::Address)
    }
}

impl Operator {
    /// The operator of this name without arguments.
    pub(super) fn named(name: &str) -> Option<Operator> {
        Some(match name {
            "START_TIME" => Operator::StartTime,
            "DURATION" => Operator::Duration,
            "PROTOCOL" => Operator::Protocol,
            "BYTES_RECEIVED" => Operator::BytesReceived,
            "BYTES_SENT" => Operator::BytesSent,
            "RESPONSE_CODE" => Operator::ResponseCode,
            "RESPONSE_FLAGS" => Operator::ResponseFlags,
            "RESPONSE_CODE_DETAILS" => Operator::ResponseCodeDetails,
            "CONNECTION_TERMINATION_DETAILS" => Operator::ConnectionTerminationDetails,
            "UPSTREAM_TRANSPORT_FAILURE_REASON" => Operator::UpstreamTransportFailureReason,
            "UPSTREAM_HOST" => Operator::UpstreamHost,
            "UPSTREAM_CLUSTER" => Operator::UpstreamCluster,
            "UPSTREAM_LOCAL_ADDRESS" => Operator::UpstreamLocalAddress,
            "DOWNSTREAM_LOCAL_ADDRESS" => Operator::DownstreamLocalAddress,
            "DOWNSTREAM_REMOTE_ADDRESS" => Operator::DownstreamRemoteAddress,
            "REQUESTED_SERVER_NAME" => Operator::RequestedServerName,
            "ROUTE_NAME" => Operator::RouteName,
            _ => return Fact::named(name).map(|(side, fact)| Operator::Tls(side, fact)),
        })
    }

    pub(super) fn value<'e>(&self, entry: &Entry<'e>) -> Value<'e> {
        let outcome = entry.outcome;
        match self {
            Operator::StartTime => Value::Time(outcome.since_epoch()),
            Operator::Duration => Value::Number(milliseconds(outcome.duration)),
            Operator::Protocol => entry.request.map(|request| request.protocol).into(),
            Operator::BytesReceived => Value::Number(outcome.received),
            Operator::BytesSent => Value::Number(outcome.sent),
            Operator::ResponseCode => Value::Number(outcome.status.into()),
            Operator::ResponseFlags => Value::Text(outcome.flag.as_str().as_bytes()),
            Operator::ResponseCodeDetails => outcome.details.into(),
            Operator::ConnectionTerminationDetails => outcome.termination.into(),
            Operator::UpstreamTransportFailureReason => outcome.transport_failure.into(),
            Operator::UpstreamHost => outcome.upstream.into(),
            Operator::UpstreamCluster => outcome.cluster.into(),
            Operator::UpstreamLocalAddress => outcome.upstream_local.into(),
            Operator::DownstreamLocalAddress => entry.downstream_local.into(),
            Operator::DownstreamRemoteAddress => entry.downstream_remote.into(),
            Operator::RequestedServerName => {
                let asked_here = entry.downstream_tls.and_then(|tls| tls.server_name());
                asked_here.or(entry.server_name).into()
            }
            Operator::RouteName => outcome.route.into(),
            Operator::Tls(side, fact) => side.value(*fact, entry),
            Operator::Request(lookup) => lookup.find(|name| name.of_request(entry)),
            Operator::Response(lookup) => lookup.find(|name| name.of_response(entry)),
        }
    }
}

impl Side {
    fn value<'e>(self, fact: Fact, entry: &Entry<'e>) -> Value<'e> {
        let session = match self {
            Side::Downstream => entry.downstream_tls,
            Side::Upstream => entry.upstream_tls,
        };
        let Some(session) = session else { return Value::Absent };
        match fact {
            Fact::Version => Value::Text(session.version().as_bytes()),
            Fact::Cipher => Value::Text(session.cipher().as_bytes()),
            Fact::Subject(of) => of.certificate(session).map(|it| it.subject).into(),
            Fact::Issuer(of) => of.certificate(session).map(|it| it.issuer).into(),
            Fact::Serial(of) => of.certificate(session).map(|it| it.serial).into(),
            Fact::UriNames(of) => Value::list(of.certificate(session).map(|it| it.uri_names)),
            Fact::DnsNames(of) => Value::list(of.certificate(session).map(|it| it.dns_names)),
            Fact::Fingerprint(of) => match of.certificate(session) {
                Some(certificate) => Value::Hex(certificate.sha256),
                None => Value::Absent,
            },
        }
    }
}

impl Lookup {
    fn find<'e>(&self, value: impl Fn(&Name) -> Value<'e>) -> Value<'e> {
        match (value(&self.first), &self.otherwise) {
            (Value::Absent, Some(otherwise)) => value(otherwise),
            (found, _) => found,
        }
    }
}

impl Name {
    /// The meaning of a name in `REQ(…)`.
    pub(super) fn in_request(name: &str) -> Option<Name> {
        Some(match name.to_ascii_lowercase().as_str() {
            ":method" => Name::Method,
            ":path" => Name::Path,
            "x-envoy-original-path" => Name::OriginalPath,
            ":authority" | "host" => Name::Authority,
            name => Name::Field(token(name)?.into()),
        })
    }

    /// The meaning of a name in `RESP(…)`.
    pub(super) fn in_response(name: &str) -> Option<Name> {
        Some(match name.to_ascii_lowercase().as_str() {
            "x-envoy-upstream-service-time" => Name::UpstreamServiceTime,
            name => Name::Field(token(name)?.into()),
        })
    }

    fn of_request<'e>(&self, entry: &Entry<'e>) -> Value<'e> {
        let Some(request) = entry.request else { return Value::Absent };
        match self {
            Name::Method => Value::Text(request.method.as_bytes()),
            Name::Path => Value::Text(request.path),
            Name::OriginalPath => request.original_path.into(),
            Name::Authority => Value::Text(request.authority),
            Name::UpstreamServiceTime => Value::Absent,
            Name::Field(name) => request.fields.field(name).into(),
        }
    }

    fn of_response<'e>(&self, entry: &Entry<'e>) -> Value<'e> {
        match self {
            Name::UpstreamServiceTime => match entry.outcome.upstream_time {
                Some(time) => Value::NumberAsText(milliseconds(time)),
                None => Value::Absent,
            },
            Name::Field(name) => entry.response.and_then(|fields| fields.field(name)).into(),
            Name::Method | Name::Path | Name::OriginalPath | Name::Authority => Value::Absent,
        }
    }
}

/// A field's name (RFC 9110 section 5.1).
fn token(name: &str) -> Option<&str> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (!name.is_empty() && name.bytes().all(is_token)).then_some(name)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl<'a> Value<'a> {
    fn list(texts: Option<&'a [Box<str>]>) -> Value<'a> {
        texts.filter(|texts| !texts.is_empty()).map_or(Value::Absent, Value::List)
    }
}

impl Value<'_> {
    /// Appends the value as text; `-` where there is none. `quoted` says that it stands between
    /// quotes, where it may have spaces. At most `longest` bytes of it, if that is given.
    ///
    /// What does not stand for itself is written as `\xNN`, byte by byte: quotes, backslashes,
    /// spaces outside of quotes, control characters, what breaks or turns lines in Unicode, and
    /// whatever is no UTF-8.
    pub(super) fn write_text(
        self,
        quoted: bool,
        longest: Option<usize>,
        clock: &mut Clock,
        out: &mut Vec<u8>,
    ) {
        match self {
            Value::Absent | Value::Text(b"") => out.push(b'-'),
            Value::Text(text) => {
                let (text, is_cut) = cut(text, longest.unwrap_or(LONGEST));
                write_escaped(text, quoted, out);
                if is_cut && longest.is_none() {
                    out.extend_from_slice(CUT);
                }
            }
            Value::List(texts) => {
                let start = out.len();
                write_joined(texts, out, |text, out| write_escaped(text, quoted, out));
                if let Some(longest) = longest {
                    // All of it is ASCII by now: the names of certificates are.
                    out.truncate(start.saturating_add(longest));
                }
            }
            Value::Hex(bytes) => {
                let longest = longest.unwrap_or(usize::MAX);
                write_digits(bytes, longest, out);
            }
            other => other.write_plain(clock, out),
        }
    }

    /// Appends the value as JSON (RFC 8259): numbers as such, anything else as a string, `null` where
    /// there is none. A byte that is no UTF-8 becomes the four characters `\xNN` in the string.
    pub(super) fn write_json(self, clock: &mut Clock, out: &mut Vec<u8>) {
        match self {
            Value::Absent => out.extend_from_slice(b"null"),
            Value::Number(_) => self.write_plain(clock, out),
            Value::Text(text) => {
                let (text, is_cut) = cut(text, LONGEST);
                out.push(b'"');
                write_json_escaped(text, out);
                if is_cut {
                    out.extend_from_slice(CUT);
                }
                out.push(b'"');
            }
            Value::List(texts) => {
                out.push(b'"');
                write_joined(texts, out, write_json_escaped);
                out.push(b'"');
            }
            Value::NumberAsText(_) | Value::Address(_) | Value::Hex(_) | Value::Time(_) => {
                out.push(b'"');
                self.write_plain(clock, out);
                out.push(b'"');
            }
        }
    }

    /// Appends what needs no escaping.
    fn write_plain(self, clock: &mut Clock, out: &mut Vec<u8>) {
        match self {
            Value::Number(number) | Value::NumberAsText(number) => write_number(number, out),
            Value::Address(address) => write_address(address, out),
            Value::Hex(bytes) => write_digits(bytes, usize::MAX, out),
            Value::Time(time) => clock.write(time, out),
            Value::Absent | Value::Text(_) | Value::List(_) => {}
        }
    }
}

/// At most `longest` bytes of `text`, no character of which is torn, and whether that is less.
fn cut(text: &[u8], longest: usize) -> (&[u8], bool) {
    if text.len() <= longest {
        return (text, false);
    }
    let continues = |at: &usize| text[*at] & 0xc0 == 0x80;
    // A character has at most three bytes that continue it; more of them are no UTF-8.
    let end = (longest.saturating_sub(3)..=longest).rev().find(|at| !continues(at));
    (&text[..end.unwrap_or(longest)], true)
}

fn write_number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn write_address(address: SocketAddr, out: &mut Vec<u8>) {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => {
            for (place, octet) in ip.octets().into_iter().enumerate() {
                if place > 0 {
                    out.push(b'.');
                }
                write_number(octet.into(), out);
            }
            out.push(b':');
            write_number(address.port().into(), out);
        }
        // Writing to memory does not fail.
        IpAddr::V6(_) => _ = write!(out, "{address}"),
    }
}

/// Whether all of `text` stands for itself, between quotes: printable ASCII but for quotes and
/// backslashes. Looks at all of it without a branch, which is many bytes at a time.
fn is_plain(text: &[u8]) -> bool {
    let is_plain = |byte: u8| (byte.wrapping_sub(b' ') < 95) & (byte != b'"') & (byte != b'\\');
    text.iter().fold(true, |plain, byte| plain & is_plain(*byte))
}

fn has_space(text: &[u8]) -> bool {
    text.iter().fold(false, |space, byte| space | (*byte == b' '))
}

/// Whether a character can do something to a line other than stand in it: control characters (C0,
/// DEL, C1), line and paragraph separators, and those that turn the direction of writing.
fn is_dangerous(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn write_escaped(text: &[u8], quoted: bool, out: &mut Vec<u8>) {
    if is_plain(text) && (quoted || !has_space(text)) {
        return out.extend_from_slice(text);
    }
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            let bytes = &mut [0; 4];
            let bytes = character.encode_utf8(bytes).as_bytes();
            match character {
                '"' | '\\' => bytes.iter().for_each(|byte| write_hex(*byte, out)),
                ' ' if !quoted => bytes.iter().for_each(|byte| write_hex(*byte, out)),
                _ if is_dangerous(character) => bytes.iter().for_each(|byte| write_hex(*byte, out)),
                _ => out.extend_from_slice(bytes),
            }
        }
        chunk.invalid().iter().for_each(|byte| write_hex(*byte, out));
    }
}

fn write_json_escaped(text: &[u8], out: &mut Vec<u8>) {
    if is_plain(text) {
        return out.extend_from_slice(text);
    }
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
                // All of these are in the first plane, so one escape is enough.
                _ if is_dangerous(character) => {
                    _ = write!(out, "\\u{:04x}", u32::from(character));
                }
                _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for byte in chunk.invalid() {
            out.push(b'\\');
            write_hex(*byte, out);
        }
    }
}

/// Texts with commas between them. What is longer than a value may be is cut.
fn write_joined(texts: &[Box<str>], out: &mut Vec<u8>, write: impl Fn(&[u8], &mut Vec<u8>)) {
    let mut left = LONGEST;
    for (place, text) in texts.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        let (text, is_cut) = cut(text.as_bytes(), left);
        write(text, out);
        if is_cut {
            return out.extend_from_slice(CUT);
        }
        left -= text.len();
    }
}

fn digits(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)])
}

/// At most `longest` digits.
fn write_digits(bytes: &[u8], longest: usize, out: &mut Vec<u8>) {
    out.extend(bytes.iter().flat_map(|byte| digits(*byte)).take(longest));
}

fn write_hex(byte: u8, out: &mut Vec<u8>) {
    let [high, low] = digits(byte);
    out.extend_from_slice(&[b'\\', b'x', high, low]);
}
