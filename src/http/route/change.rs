//! What a route changes on the way: path, host and header fields.
//!
//! *In:* the configuration's words. *Out:* pieces that are written into a message. *Never:* holds a
//! message.

use std::fmt;

use ::http::{HeaderName, HeaderValue};

use super::path::RequestPath;

/// Host and path that the upstream gets instead of the client's.
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    /// Name or address for the `Host` field, with or without a port; `None` keeps the client's.
    pub host: Option<String>,
    /// `None` keeps the client's.
    pub path: Option<PathChange>,
}

impl Rewrite {
    /// The path that the upstream gets, without the query. `*` stays `*`.
    pub fn path<'a>(&'a self, path: &'a RequestPath<'_>) -> UpstreamPath<'a> {
        match &self.path {
            Some(change) => change.apply(path),
            None => UpstreamPath { head: "", tail: path.forwarded() },
        }
    }
}

/// Another path, or another beginning of it.
///
/// What stays of the client's path stays byte by byte. The query is not part of the path and stays
/// too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathChange {
    to: String,
    scope: Scope,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    All,
    /// The length in bytes of the prefix that the route matches; 0 until the table is built.
    Prefix(usize),
}

impl PathChange {
    /// Replaces the whole path.
    pub fn full(to: impl Into<String>) -> PathChange {
        PathChange { to: to.into(), scope: Scope::All }
    }

    /// Replaces the prefix that the route matches, as `ReplacePrefixMatch` of the Gateway API does:
    /// slashes at the end of either do not count, and there is always one between the replacement
    /// and the rest. Empty or `/` removes the prefix.
    pub fn prefix(to: impl Into<String>) -> PathChange {
        let mut to = to.into();
        to.truncate(to.trim_end_matches('/').len());
        PathChange { to, scope: Scope::Prefix(0) }
    }

    /// What is put in; without the slashes at its end, if for a prefix.
    pub(super) fn replacement(&self) -> &str {
        &self.to
    }

    /// Whether nothing at all may be put in.
    pub(super) fn may_be_empty(&self) -> bool {
        matches!(self.scope, Scope::Prefix(_))
    }

    /// Tells how much of a path the route matches; false if this replaces a prefix and the route
    /// has none.
    pub(super) fn bind(&mut self, prefix: Option<usize>) -> bool {
        match (&mut self.scope, prefix) {
            (Scope::All, _) => true,
            (Scope::Prefix(bound), Some(length)) => {
                *bound = length;
                true
            }
            (Scope::Prefix(_), None) => false,
        }
    }

    /// The changed path. `*` stays `*`.
    pub(super) fn apply<'a>(&'a self, path: &'a RequestPath<'_>) -> UpstreamPath<'a> {
        let rest = match self.scope {
            _ if path.forwarded() == "*" => return UpstreamPath { head: "", tail: "*" },
            Scope::All => "",
            Scope::Prefix(length) => path.behind(length),
        };
        if self.to.is_empty() {
            // With more than one slash in front, it would be the name of a host to some.
            UpstreamPath { head: "/", tail: rest.trim_start_matches(['/', '\\']) }
        } else {
            UpstreamPath { head: &self.to, tail: rest }
        }
    }
}

/// A path in two parts, which are written one after the other; together they are not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamPath<'a> {
    /// What the route put in front; may be empty.
    pub head: &'a str,
    /// What is left of the client's path; may be empty.
    pub tail: &'a str,
}

impl fmt::Display for UpstreamPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.head)?;
        f.write_str(self.tail)
    }
}

/// Changes to header fields: first some are removed, then some are set, then some are added.
///
/// Fields that frame a message or belong to one connection cannot be changed (RFC 9110 section
/// 7.6.1), nor can `Host`: see [`Rewrite::host`].
#[derive(Clone, Debug, Default)]
pub struct HeaderChanges {
    /// Fields that go, with all their lines.
    pub remove: Vec<HeaderName>,
    /// Fields that have this one line, whatever they had before.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Lines that are put behind those that are there.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

impl HeaderChanges {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// A field that no route may change, if there is one.
    pub(super) fn forbidden(&self) -> Option<&HeaderName> {
        const FORBIDDEN: [&str; 10] = [
            "connection",
            "content-length",
            "expect",
            "host",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ];
        let put = self.set.iter().chain(&self.add).map(|(name, _)| name);
        self.remove.iter().chain(put).find(|name| FORBIDDEN.contains(&name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::route::{PathPolicy, normalize};

    /// What a path becomes where `prefix`, as it is matched, is replaced.
    fn replaced(path: &str, prefix: &str, to: &str) -> String {
        let mut change = PathChange::prefix(to);
        assert!(change.bind(Some(prefix.trim_end_matches('/').len())));
        change.apply(&normalize(path, PathPolicy::Refuse).unwrap()).to_string()
    }

    #[test]
    fn a_prefix_is_replaced_as_the_gateway_api_does() {
        for (path, prefix, to, becomes) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/bar", "/", "/xyz", "/xyz/bar"),
            ("/", "/", "/xyz", "/xyz/"),
            ("/bar", "/", "/", "/bar"),
        ] {
            assert_eq!(replaced(path, prefix, to), becomes, "{path} {prefix} {to}");
        }
    }

    #[test]
    fn the_rest_of_a_path_stays_as_it_came() {
        assert_eq!(replaced("//f%6Fo/a%2Fb//c%20", "/foo", "/xyz"), "/xyz/a%2Fb//c%20");
        assert_eq!(replaced("/foo%2Fbar", "/foo", "/xyz"), "/xyz%2Fbar");
        assert_eq!(replaced("/caf%c3%a9/x", "/caf%C3%A9", "/xyz"), "/xyz/x");
    }

    #[test]
    fn a_rewritten_path_begins_with_one_slash() {
        for (path, becomes) in [
            ("/foo//evil.example", "/evil.example"),
            ("/foo/\\evil.example", "/evil.example"),
            ("/foo%2Fbar", "/%2Fbar"),
            ("/foo\\bar", "/bar"),
        ] {
            assert_eq!(replaced(path, "/foo", "/"), becomes);
        }
    }

    #[test]
    fn a_full_path_is_replaced_and_an_asterisk_is_not() {
        let full = Rewrite { path: Some(PathChange::full("/xyz/")), ..Rewrite::default() };
        let path = |path| normalize(path, PathPolicy::Refuse).unwrap();
        assert_eq!(full.path(&path("/foo/bar")).to_string(), "/xyz/");
        assert_eq!(full.path(&path("*")).to_string(), "*");
        assert_eq!(replaced("*", "/", "/xyz"), "*");
        assert_eq!(Rewrite::default().path(&path("/a%2Fb//")).to_string(), "/a%2Fb//");
    }
}
