//! What an original destination is matched by.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

/// Matches original destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pattern {
    /// One address and port.
    Exact(SocketAddr),
    /// A port of every IPv4 address: `0.0.0.0:port`.
    AnyIpv4(u16),
    /// A port of every IPv6 address: `[::]:port`.
    AnyIpv6(u16),
    /// A port of every address: `*:port`.
    Any(u16),
}

impl Pattern {
    /// The patterns that match an address, the most specific first.
    pub(crate) fn matching(address: SocketAddr) -> [Pattern; 3] {
        let port = address.port();
        let ip = address.ip().to_canonical();
        let family = match ip {
            IpAddr::V4(_) => Pattern::AnyIpv4(port),
            IpAddr::V6(_) => Pattern::AnyIpv6(port),
        };
        [Pattern::Exact(SocketAddr::new(ip, port)), family, Pattern::Any(port)]
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Pattern, PatternError> {
        if let Some(port) = text.strip_prefix("*:") {
            return match port.parse() {
                Ok(port) if port > 0 => Ok(Pattern::Any(port)),
                _ => Err(PatternError),
            };
        }
        let address: SocketAddr = text.parse().map_err(|_| PatternError)?;
        match (address.ip().to_canonical(), address.port()) {
            (_, 0) => Err(PatternError),
            (IpAddr::V4(Ipv4Addr::UNSPECIFIED), port) => Ok(Pattern::AnyIpv4(port)),
            (IpAddr::V6(Ipv6Addr::UNSPECIFIED), port) => Ok(Pattern::AnyIpv6(port)),
            (ip, port) => Ok(Pattern::Exact(SocketAddr::new(ip, port))),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::Exact(address) => address.fmt(f),
            Pattern::AnyIpv4(port) => write!(f, "0.0.0.0:{port}"),
            Pattern::AnyIpv6(port) => write!(f, "[::]:{port}"),
            Pattern::Any(port) => write!(f, "*:{port}"),
        }
    }
}

/// A text that is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatternError;

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a pattern is ip:port, [ipv6]:port, *:port, 0.0.0.0:port or [::]:port")
    }
}

impl std::error::Error for PatternError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_and_written() {
        for (text, pattern) in [
            ("10.0.0.7:80", Pattern::Exact("10.0.0.7:80".parse().unwrap())),
            ("[2001:db8::1]:80", Pattern::Exact("[2001:db8::1]:80".parse().unwrap())),
            ("0.0.0.0:80", Pattern::AnyIpv4(80)),
            ("[::]:80", Pattern::AnyIpv6(80)),
            ("*:80", Pattern::Any(80)),
        ] {
            assert_eq!(text.parse(), Ok(pattern));
            assert_eq!(pattern.to_string(), text);
        }
        for wrong in ["", "*", "*:0", "10.0.0.7", "10.0.0.7:0", "*:65536", "a:1", "*:80 "] {
            assert!(wrong.parse::<Pattern>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_most_specific_comes_first() {
        let mapped = "[::ffff:10.0.0.7]:80".parse().unwrap();
        assert_eq!(
            Pattern::matching(mapped),
            [
                Pattern::Exact("10.0.0.7:80".parse().unwrap()),
                Pattern::AnyIpv4(80),
                Pattern::Any(80)
            ]
        );
    }
}
