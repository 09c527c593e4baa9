//! Authorities: the `host[:port]` of `Host`, of a target in absolute form, and of CONNECT.
//!
//! The grammar is that of RFC 3986 section 3.2.2 without userinfo and with less in the name: no comma
//! (a list of hosts is not a host), no percent-encoding (an encoded name could pass a rule that the
//! decoded one does not), and an IP literal is an IPv6 address.

use std::net::Ipv6Addr;

/// A checked authority, borrowed from what was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct Authority<'a> {
    text: &'a str,
    has_port: bool,
}

impl<'a> Authority<'a> {
    /// Checks `bytes`; `None` if they are no authority. A port that is empty goes, with its colon.
    pub(in crate::http) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let text = str::from_utf8(bytes).ok()?;
        let host_length = match text.strip_prefix('[') {
            Some(literal) => {
                let address = &literal[..literal.find(']')?];
                address.parse::<Ipv6Addr>().ok()?;
                address.len() + 2
            }
            None => bytes.iter().position(|&byte| byte == b':').unwrap_or(bytes.len()),
        };
        let (host, port) = text.split_at(host_length);
        if !host.starts_with('[') && !is_name(host.as_bytes()) {
            return None;
        }
        match port.strip_prefix(':') {
            None if port.is_empty() => Some(Self { text, has_port: false }),
            Some("") => Some(Self { text: host, has_port: false }),
            Some(digits) if is_port(digits) => Some(Self { text, has_port: true }),
            _ => None,
        }
    }

    pub(in crate::http) fn as_str(self) -> &'a str {
        self.text
    }

    pub(in crate::http) fn has_port(self) -> bool {
        self.has_port
    }
}

fn is_name(host: &[u8]) -> bool {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(byte);
    !host.is_empty() && host.iter().all(is_allowed)
}

fn is_port(digits: &str) -> bool {
    digits.len() <= 5
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && digits.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::Authority;

    #[test]
    fn names_addresses_and_ports_pass() {
        for text in
            ["a", "a.example", "A_b-c.d~", "a:80", "a:0", "10.0.0.1:8080", "[::1]", "[::1]:65535"]
        {
            let authority = Authority::parse(text.as_bytes());
            assert_eq!(authority.map(Authority::as_str), Some(text));
            assert_eq!(
                authority.map(Authority::has_port),
                Some(text.contains(['0', '5'])),
                "{text}"
            );
        }
    }

    #[test]
    fn an_empty_port_goes() {
        for (text, canonical) in [("a:", "a"), ("[::1]:", "[::1]")] {
            assert_eq!(Authority::parse(text.as_bytes()).map(Authority::as_str), Some(canonical));
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            ":80",
            "a,b",
            "a b",
            "a/b",
            "a@b",
            "user@a:80",
            "a#b",
            "a?b",
            "a%2eb",
            "a:b",
            "a:+1",
            "a:65536",
            "a:000080",
            "a:80:80",
            "::1",
            "[::1",
            "[::1]80",
            "[fe80::1%eth0]",
            "[v1.a]",
            "[]",
            "[a]",
            "a\"b",
            "a\\b",
            "a\tb",
            "a\0",
            "\u{e4}",
            "a<b",
            "a|b",
            "a[b",
        ] {
            assert_eq!(Authority::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Authority::parse(b"a\xff"), None);
    }
}
