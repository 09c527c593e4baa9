//! A request's path: as it is matched, and as it is forwarded.
//!
//! *In:* a path as the client spelled it. *Out:* a [`RequestPath`], or the reason to answer 400.
//! *Never:* looks at the query, decides about a route.

use std::{borrow::Cow, error, fmt};

/// What becomes of a path that says "one up".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathPolicy {
    /// It is refused. What is forwarded is what came, byte by byte. The default.
    #[default]
    Refuse,
    /// It is resolved, and forwarded so: dot segments are removed as by RFC 3986 section 5.2.4,
    /// several slashes become one, and backslashes, `%2F` and `%5C` become slashes. All other bytes
    /// stay. A path with nothing of this is forwarded as it came.
    Resolve,
}

/// Why a request is to be refused with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathRefused {
    /// A segment is `.` or `..`, or would be one to a backend that decodes escapes, takes `\` for
    /// `/`, or ignores what follows a `;`.
    DotSegment,
    /// A `%` without two hexadecimal digits behind it (RFC 3986 section 2.1).
    Escape,
    /// `%00`: what follows it does not exist to a backend whose strings end there.
    Nul,
}

impl PathRefused {
    /// A stable name for logs, metrics and bodies.
    pub fn reason(self) -> &'static str {
        match self {
            PathRefused::DotSegment => "path_dot_segment",
            PathRefused::Escape => "path_malformed_escape",
            PathRefused::Nul => "path_nul",
        }
    }
}

impl fmt::Display for PathRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PathRefused::DotSegment => "the path has a dot segment: send it resolved",
            PathRefused::Escape => "the path has a % without two hexadecimal digits: send %25",
            PathRefused::Nul => "the path has a NUL",
        })
    }
}

impl error::Error for PathRefused {}

/// A path that can be looked up: nothing in it routes around a rule. Made by [`normalize`].
#[derive(Clone, Debug)]
pub struct RequestPath<'r> {
    forwarded: Cow<'r, str>,
    /// `None` where it is the same as what is forwarded.
    matched: Option<Vec<u8>>,
}

impl RequestPath<'_> {
    /// What goes to the upstream, unless a route rewrites it. Without the query.
    pub fn forwarded(&self) -> &str {
        &self.forwarded
    }

    /// What routes are compared with. Percent-escapes in it are of bytes that are not graphic ASCII
    /// characters, or of `%`, `?` and `#`, with upper-case digits.
    pub fn matched(&self) -> &[u8] {
        self.matched.as_deref().unwrap_or(self.forwarded.as_bytes())
    }

    /// What is forwarded of it behind the first `prefix` bytes of what is matched.
    pub(super) fn behind(&self, prefix: usize) -> &str {
        if self.matched.is_none() {
            return self.forwarded.get(prefix..).unwrap_or_default();
        }
        let mut letters = Letters::new(self.forwarded.as_bytes());
        let mut left = prefix;
        while left > 0
            && let Some(Ok(letter)) = letters.next()
        {
            left = left.saturating_sub(letter.as_bytes().len());
        }
        self.forwarded.get(letters.at..).unwrap_or_default()
    }
}

/// Makes a path fit to be looked up; `path` is without the query.
///
/// # Why
/// A rule for `/admin` is worth nothing if `/x/../admin`, `//admin` or `/%61dmin` is matched as
/// something else, and then read as `/admin` by the backend. What backends read differs. So routes
/// are matched against what the *most* eager of them makes of a path:
///
/// - Escapes of graphic ASCII characters are decoded, `%25`, `%3F` and `%23` aside; others get
///   upper-case digits.
/// - `\` counts as `/`, and several slashes count as one, encoded or not.
///
/// What is *forwarded* are nevertheless the bytes that came, since only the backend knows whether
/// `a%2Fb` is one segment to it or two. Left are paths that could mean one route here and another
/// one there even so: dot segments in any spelling, `%00`, and escapes that are none. The first of
/// these can be resolved instead of being refused, if `policy` says so.
///
/// An empty path is `/` (RFC 9110 section 4.2.3). `*` stays `*`.
///
/// Not covered, as it is not for every backend: parameters behind a `;` belong to their segment
/// (RFC 3986 section 3.3), escapes are decoded once, and case matters.
///
/// Nothing is allocated unless the path has an escape that is decoded, a backslash, or a slash too
/// many.
///
/// # Errors
/// The path is to be refused with 400.
pub fn normalize(path: &str, policy: PathPolicy) -> Result<RequestPath<'_>, PathRefused> {
    if path.is_empty() {
        return Ok(RequestPath { forwarded: Cow::Borrowed("/"), matched: None });
    }
    let bytes = path.as_bytes();
    let hints = Hints::of(bytes);
    let matched = if hints.spelling { canonical(bytes)? } else { None };
    let dots =
        (hints.dots || matched.is_some()) && has_dot_segment(matched.as_deref().unwrap_or(bytes));
    match policy {
        PathPolicy::Refuse if dots => Err(PathRefused::DotSegment),
        PathPolicy::Resolve if dots || matched.is_some() => {
            let forwarded = resolve(path)?;
            let matched = canonical(forwarded.as_bytes())?;
            Ok(RequestPath { forwarded: Cow::Owned(forwarded), matched })
        }
        PathPolicy::Refuse | PathPolicy::Resolve => {
            Ok(RequestPath { forwarded: Cow::Borrowed(path), matched })
        }
    }
}

/// What one look at a path says about it: nearly all of them have neither.
struct Hints {
    /// It may be spelled otherwise than it is matched.
    spelling: bool,
    /// A segment begins with a dot.
    dots: bool,
}

impl Hints {
    fn of(path: &[u8]) -> Hints {
        let mut hints = Hints { spelling: false, dots: path.first() == Some(&b'.') };
        let mut slash = false;
        for &byte in path {
            hints.spelling |= byte == b'%' || byte == b'\\' || (slash && byte == b'/');
            hints.dots |= slash && byte == b'.';
            slash = byte == b'/';
        }
        hints
    }
}

/// The one spelling that is matched; `None` if it is the given one.
pub(super) fn canonical(path: &[u8]) -> Result<Option<Vec<u8>>, PathRefused> {
    let mut changed: Option<Vec<u8>> = None;
    let mut letters = Letters::new(path);
    loop {
        let before = letters.at;
        let Some(letter) = letters.next().transpose()? else { return Ok(changed) };
        if let Some(changed) = &mut changed {
            changed.extend_from_slice(letter.as_bytes());
        } else if letter.as_bytes() != &path[before..letters.at] {
            changed = Some([&path[..before], letter.as_bytes()].concat());
        }
    }
}

/// Whether a canonical path has a segment that means this place or the one above.
pub(super) fn has_dot_segment(canonical: &[u8]) -> bool {
    canonical.split(|&byte| byte == b'/').any(|segment| levels_up(segment).is_some())
}

/// How far up a canonical segment leads, if it is a dot segment.
fn levels_up(segment: &[u8]) -> Option<usize> {
    match segment.split(|&byte| byte == b';').next() {
        Some(b".") => Some(0),
        Some(b"..") => Some(1),
        _ => None,
    }
}

/// Removes dot segments (RFC 3986 section 5.2.4) and empty ones, and writes every slash as such.
fn resolve(path: &str) -> Result<String, PathRefused> {
    let mut segments: Vec<&str> = Vec::new();
    let mut letters = Letters::new(path.as_bytes());
    let mut start = 0;
    loop {
        let end = letters.at;
        let letter = letters.next().transpose()?;
        if matches!(letter, Some(Letter::Byte(_) | Letter::Escape(_))) {
            continue;
        }
        let segment = &path[start..end];
        start = letters.at;
        let spelling = canonical(segment.as_bytes())?;
        let up = levels_up(spelling.as_deref().unwrap_or(segment.as_bytes()));
        match up {
            Some(levels) => segments.truncate(segments.len().saturating_sub(levels)),
            None if segment.is_empty() => {}
            None => segments.push(segment),
        }
        if letter.is_none() {
            // A slash at the end stays, and a dot segment there leaves one.
            if up.is_some() || segment.is_empty() {
                segments.push("");
            }
            return Ok(format!("/{}", segments.join("/")));
        }
    }
}

/// A path, letter by letter, as it is matched.
struct Letters<'p> {
    path: &'p [u8],
    /// Where the next letter begins.
    at: usize,
    /// Whether the last one was a slash.
    slash: bool,
}

enum Letter {
    Slash,
    /// Right behind a slash, which it is one with.
    SlashAgain,
    Byte(u8),
    /// The escape of a byte that stays escaped.
    Escape([u8; 3]),
}

impl Letter {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Letter::Slash => b"/",
            Letter::SlashAgain => b"",
            Letter::Byte(byte) => std::slice::from_ref(byte),
            Letter::Escape(escape) => escape,
        }
    }
}

impl<'p> Letters<'p> {
    fn new(path: &'p [u8]) -> Letters<'p> {
        Letters { path, at: 0, slash: false }
    }
}

impl Iterator for Letters<'_> {
    type Item = Result<Letter, PathRefused>;

    fn next(&mut self) -> Option<Result<Letter, PathRefused>> {
        let (letter, length) = match self.path[self.at..] {
            [] => return None,
            [b'%', high, low, ..] => match (digit(high), digit(low)) {
                (Some(high), Some(low)) => (decoded(16 * high + low), 3),
                _ => return Some(Err(PathRefused::Escape)),
            },
            [b'%', ..] => return Some(Err(PathRefused::Escape)),
            [b'/' | b'\\', ..] => (Letter::Slash, 1),
            [byte, ..] => (Letter::Byte(byte), 1),
        };
        let letter = match letter {
            Letter::Byte(0) => return Some(Err(PathRefused::Nul)),
            Letter::Slash if self.slash => Letter::SlashAgain,
            letter => letter,
        };
        self.slash = matches!(letter, Letter::Slash | Letter::SlashAgain);
        self.at += length;
        Some(Ok(letter))
    }
}

/// What an escaped byte is matched as.
fn decoded(byte: u8) -> Letter {
    match byte {
        b'/' | b'\\' => Letter::Slash,
        b'%' | b'?' | b'#' => escaped(byte),
        0 | b'!'..=b'~' => Letter::Byte(byte),
        _ => escaped(byte),
    }
}

fn escaped(byte: u8) -> Letter {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    Letter::Escape([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
}

/// The value of a hexadecimal digit.
fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
