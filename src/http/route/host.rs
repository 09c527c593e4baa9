//! Host names: of patterns, and of requests.
//!
//! *In:* text. *Out:* lower-case names without a dot at the end, and ports. *Never:* resolves a
//! name.

/// Longest name of a host in bytes (RFC 1035 section 2.3.4).
pub(super) const NAME_MAX: usize = 255;

/// Which hosts a route is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostPattern {
    pub(super) name: NamePattern,
    /// The port that the authority has to spell, if any.
    pub(super) port: Option<u16>,
}

/// Names are in lower case, without a dot at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NamePattern {
    Exact(String),
    /// What follows `*.`.
    Suffix(String),
    Any,
}

impl HostPattern {
    pub(super) const ANY: HostPattern = HostPattern { name: NamePattern::Any, port: None };

    /// Reads `name`, `*.suffix` or `*`, with or without `:port`. The error says what is wrong.
    pub(super) fn parse(text: &str) -> Result<HostPattern, &'static str> {
        let (name, port) = split(text);
        let port = match port {
            None => None,
            Some(digits) => match digits.parse() {
                Ok(port) if port > 0 => Some(port),
                _ => return Err("a port is a number from 1 to 65535"),
            },
        };
        let name = if name == "*" {
            NamePattern::Any
        } else if let Some(suffix) = name.strip_prefix("*.") {
            NamePattern::Suffix(checked_name(suffix)?)
        } else {
            NamePattern::Exact(checked_name(name)?)
        };
        Ok(HostPattern { name, port })
    }
}

/// A name that could be a host's, in lower case and without a dot at the end.
fn checked_name(name: &str) -> Result<String, &'static str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.starts_with('[') {
        return match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(address) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
                Ok(name.to_ascii_lowercase())
            }
            _ => Err("what is in brackets is an IPv6 address"),
        };
    }
    if name.contains('*') {
        return Err("`*` stands alone or in front, as in *.a.example");
    }
    if !name.is_ascii() {
        return Err("write names in their ASCII form, xn--…");
    }
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"-_~!$&'()+;=%".contains(&byte);
    if name.split('.').any(|label| label.is_empty() || !label.bytes().all(letters)) {
        return Err("a name is labels with dots between them");
    }
    if name.len() > NAME_MAX {
        return Err("a name has 255 bytes at most");
    }
    Ok(name.to_ascii_lowercase())
}

/// A host as it stands in a configuration, with or without a port, is written as it is.
pub(super) fn check_authority(text: &str) -> Result<(), &'static str> {
    match HostPattern::parse(text)?.name {
        NamePattern::Exact(_) => Ok(()),
        NamePattern::Suffix(_) | NamePattern::Any => Err("a pattern is not a host to send to"),
    }
}

/// Splits `host[:port]`; brackets of an IPv6 address belong to the host.
pub(super) fn split(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// The host that a request asks for: its name in lower case and without a dot at the end, and the
/// port that is spelled, if any. `buffer` is for a name that has capitals.
pub(super) fn request_host<'a>(
    authority: &'a str,
    buffer: &'a mut [u8; NAME_MAX],
) -> (&'a [u8], Option<u16>) {
    let (name, port) = split(authority);
    let port = port.and_then(|digits| digits.parse().ok());
    let name = name.strip_suffix('.').unwrap_or(name).as_bytes();
    if !name.iter().any(u8::is_ascii_uppercase) && name.len() <= NAME_MAX {
        return (name, port);
    }
    let Some(lowered) = buffer.get_mut(..name.len()) else {
        // Too long to be anybody's name: only a route for all hosts takes it.
        return (b"", port);
    };
    lowered.copy_from_slice(name);
    lowered.make_ascii_lowercase();
    (lowered, port)
}

/// What follows each dot of a name, the longest first.
pub(super) fn suffixes(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let behind_dots = name.iter().enumerate().filter(|&(_, &byte)| byte == b'.');
    behind_dots.filter(|&(at, _)| at > 0).map(|(at, _)| &name[at + 1..])
}
