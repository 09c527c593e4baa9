//! What a proxy says about the client to the upstream: `X-Forwarded-For`, `X-Forwarded-Proto`,
//! `X-Request-Id` and `Via`.

use std::{fmt::Write, net::SocketAddr};

use crate::http::{RequestHead, route::Scheme};

/// How far the fields are believed that a client sends about itself.
///
/// A sidecar that takes calls from its own pod or from other sidecars appends. A proxy at the edge,
/// whose clients are nobody's, replaces: otherwise a client chooses the address that the upstream
/// takes it for. Behind a proxy that has done all this already, they are left alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Forwarded {
    /// The client's address is appended to `X-Forwarded-For`; `X-Forwarded-Proto` and
    /// `X-Request-Id` are kept where they are there.
    #[default]
    Append,
    /// What came is dropped, and written anew.
    Replace,
    /// What came stays as it is, and is written only where it is missing.
    Trust,
}

/// A random id in the form of a UUID of version 4 (RFC 9562 section 5.4).
///
/// It names a request in logs; it is no secret, and not made to be hard to guess.
pub(super) fn new_request_id() -> [u8; 36] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let random = fastrand::u128(..) & !(0xf << 76 | 0x3 << 62) | (0x4 << 76 | 0x2 << 62);
    let mut id = [b'-'; 36];
    let mut digits = (0..32).rev().map(|digit| HEX[(random >> (4 * digit)) as usize & 0xf]);
    for (position, byte) in id.iter_mut().enumerate() {
        if !matches!(position, 8 | 13 | 18 | 23) {
            *byte = digits.next().unwrap_or(b'0');
        }
    }
    id
}

/// Writes the fields into the head of a request.
pub(super) fn write(
    head: &mut RequestHead,
    client: Option<SocketAddr>,
    scheme: Scheme,
    policy: Forwarded,
    via: Option<&str>,
    scratch: &mut String,
) {
    let version = if head.version() == http::Version::HTTP_10 { "1.0" } else { "1.1" };
    let headers = head.headers_mut();
    scratch.clear();
    let known = headers.contains("x-forwarded-for");
    if let Some(client) = client
        && (policy != Forwarded::Trust || !known)
    {
        if policy == Forwarded::Append {
            for value in headers.get_all("x-forwarded-for") {
                if let Ok(value) = str::from_utf8(value)
                    && !value.is_empty()
                {
                    let _ = write!(scratch, "{value}, ");
                }
            }
        }
        let _ = write!(scratch, "{}", client.ip().to_canonical());
        let _ = headers.insert("X-Forwarded-For", &*scratch);
    }
    if policy == Forwarded::Replace || !headers.contains("x-forwarded-proto") {
        let _ = headers.insert("X-Forwarded-Proto", scheme.as_str());
    }
    if policy == Forwarded::Replace || !headers.contains("x-request-id") {
        let _ = headers.insert("X-Request-Id", new_request_id());
    }
    if let Some(via) = via {
        scratch.clear();
        let _ = write!(scratch, "{version} {via}");
        let _ = headers.append("Via", &*scratch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(policy: Forwarded, came: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut head = RequestHead::new();
        for (name, value) in came {
            head.headers_mut().append(name, value).unwrap();
        }
        let client = Some("[::ffff:10.0.0.1]:5000".parse().unwrap());
        write(&mut head, client, Scheme::Http, policy, Some("here"), &mut String::new());
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        head.headers().iter().map(|(name, value)| (name.to_lowercase(), text(value))).collect()
    }

    fn value<'f>(fields: &'f [(String, String)], name: &str) -> &'f str {
        &fields.iter().find(|(known, _)| known == name).unwrap().1
    }

    #[test]
    fn the_policy_says_what_is_believed() {
        let came = [
            ("X-Forwarded-For", "192.0.2.1"),
            ("x-forwarded-for", "192.0.2.2"),
            ("X-Forwarded-Proto", "https"),
            ("X-Request-Id", "mine"),
        ];
        let append = written(Forwarded::Append, &came);
        assert_eq!(value(&append, "x-forwarded-for"), "192.0.2.1, 192.0.2.2, 10.0.0.1");
        assert_eq!(value(&append, "x-forwarded-proto"), "https");
        assert_eq!(value(&append, "x-request-id"), "mine");
        assert_eq!(value(&append, "via"), "1.1 here");
        let replace = written(Forwarded::Replace, &came);
        assert_eq!(value(&replace, "x-forwarded-for"), "10.0.0.1");
        assert_eq!(value(&replace, "x-forwarded-proto"), "http");
        assert_ne!(value(&replace, "x-request-id"), "mine");
        let trust = written(Forwarded::Trust, &came);
        assert_eq!(value(&trust, "x-forwarded-for"), "192.0.2.1");
        assert_eq!(value(&written(Forwarded::Trust, &[]), "x-forwarded-for"), "10.0.0.1");
    }

    #[test]
    fn ids_are_uuids_and_differ() {
        let (id, other) = (new_request_id(), new_request_id());
        assert_ne!(id, other);
        let text = str::from_utf8(&id).unwrap();
        let parts: Vec<_> = text.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(&text[14..15], "4");
        assert!("89ab".contains(&text[19..20]), "{text}");
    }
}
