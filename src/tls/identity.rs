//! Who a workload is: SPIFFE ids, the trust domains that they belong to, and patterns of them.
//!
//! Text flows in, names that keep to the rules flow out. Nothing here knows of certificates.
//!
//! The rules are those of the standard "The SPIFFE Identity and Verifiable Identity Document",
//! section 2. A name that breaks one is refused and never repaired: two spellings of one identity
//! would make a way around a policy.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

/// The scheme of every SPIFFE id.
const SCHEME: &str = "spiffe://";
/// How many bytes a SPIFFE id may have.
const LONGEST_ID: usize = 2048;
/// How many bytes the name of a trust domain may have.
const LONGEST_TRUST_DOMAIN: usize = 255;

/// The name of a trust domain, such as `cluster.local`: lower-case letters, digits, `.`, `-` and `_`,
/// at most 255 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// For maps with trust domains as their keys. Equality, order and hash are those of the name.
impl Borrow<str> for TrustDomain {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = IdentityError;

    fn from_str(name: &str) -> Result<TrustDomain, IdentityError> {
        check_trust_domain(name)?;
        Ok(TrustDomain(name.into()))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A SPIFFE id, such as `spiffe://cluster.local/ns/default/sa/reviews`. At most 2048 bytes, without
/// query, fragment, port, user or percent-encoding. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    text: Arc<str>,
    /// Where the path begins.
    path: usize,
}

impl SpiffeId {
    /// All of it, with the scheme.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name of its trust domain.
    pub fn trust_domain(&self) -> &str {
        &self.text[SCHEME.len()..self.path]
    }

    /// Its path: empty, or with a `/` in front.
    pub fn path(&self) -> &str {
        &self.text[self.path..]
    }
}

impl FromStr for SpiffeId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<SpiffeId, IdentityError> {
        let path = check_id(text)?;
        Ok(SpiffeId { text: text.into(), path })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// The peers that may connect, or be connected to.
///
/// An entry is a SPIFFE id, or the beginning of one with `/*` at its end, which stands for every id
/// that has something more there: `spiffe://cluster.local/ns/default/*` is every identity of the
/// namespace `default`, and not of `default-2`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peers(Vec<Pattern>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Pattern {
    Exact(SpiffeId),
    /// Ends with a `/`.
    Prefix(Box<str>),
}

impl Peers {
    /// Reads the entries. No entries: nobody may.
    ///
    /// # Errors
    ///
    /// The first entry that is not a SPIFFE id or the beginning of one.
    pub fn parse<T: AsRef<str>>(
        entries: impl IntoIterator<Item = T>,
    ) -> Result<Peers, IdentityError> {
        entries
            .into_iter()
            .map(|entry| Pattern::parse(entry.as_ref()))
            .collect::<Result<_, _>>()
            .map(Peers)
    }

    /// The entries, as they are written.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = String> {
        self.0.iter().map(|pattern| match pattern {
            Pattern::Exact(id) => id.to_string(),
            Pattern::Prefix(prefix) => format!("{prefix}*"),
        })
    }

    /// Whether `id` is one of them.
    pub fn allow(&self, id: &SpiffeId) -> bool {
        self.0.iter().any(|pattern| match pattern {
            Pattern::Exact(exact) => exact == id,
            Pattern::Prefix(prefix) => {
                id.as_str().strip_prefix(&**prefix).is_some_and(|rest| !rest.is_empty())
            }
        })
    }
}

impl Pattern {
    fn parse(entry: &str) -> Result<Pattern, IdentityError> {
        let Some(prefix) = entry.strip_suffix('*') else {
            return entry.parse().map(Pattern::Exact);
        };
        let Some(directory) = prefix.strip_suffix('/') else {
            return Err(IdentityError::new(entry, Fault::Star));
        };
        check_id(directory).map_err(|error| IdentityError::new(entry, error.fault))?;
        Ok(Pattern::Prefix(prefix.into()))
    }
}

/// Checks a SPIFFE id, and says where its path begins.
fn check_id(text: &str) -> Result<usize, IdentityError> {
    let refuse = |fault| Err(IdentityError::new(text, fault));
    if text.len() > LONGEST_ID {
        return refuse(Fault::Long);
    }
    let Some(rest) = text.strip_prefix(SCHEME) else {
        return refuse(Fault::Scheme);
    };
    let (trust_domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    check_trust_domain(trust_domain).map_err(|error| IdentityError::new(text, error.fault))?;
    for segment in path.split('/').skip(1) {
        if segment.is_empty() || segment == "." || segment == ".." {
            return refuse(Fault::Segment);
        }
        if !segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')) {
            return refuse(Fault::Path);
        }
    }
    Ok(text.len() - path.len())
}

fn check_trust_domain(name: &str) -> Result<(), IdentityError> {
    let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
    if name.is_empty() || name.len() > LONGEST_TRUST_DOMAIN || !name.bytes().all(is_allowed) {
        return Err(IdentityError::new(name, Fault::TrustDomain));
    }
    Ok(())
}

/// Why a text is not the name of a trust domain, a SPIFFE id or a pattern of them.
#[derive(Clone, PartialEq, Eq)]
pub struct IdentityError {
    text: Box<str>,
    fault: Fault,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    Long,
    Scheme,
    TrustDomain,
    Segment,
    Path,
    Star,
}

impl IdentityError {
    fn new(text: &str, fault: Fault) -> IdentityError {
        // A peer may have written it, so that it is not kept at any length.
        IdentityError { text: text.chars().take(256).collect::<String>().into(), fault }
    }
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a SPIFFE identity: ", self.text)?;
        f.write_str(match self.fault {
            Fault::Long => "it has more than 2048 bytes",
            Fault::Scheme => "it does not begin with spiffe://",
            Fault::TrustDomain => {
                "its trust domain is not 1 to 255 of lower-case letters, digits, '.', '-' and '_'"
            }
            Fault::Segment => {
                "a segment of its path is empty, '.' or '..' (nor may it end with a '/')"
            }
            Fault::Path => "its path has other signs than letters, digits, '.', '-', '_' and '/'",
            Fault::Star => "a '*' may only stand alone behind the last '/'",
        })
    }
}

impl fmt::Debug for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for IdentityError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> SpiffeId {
        text.parse().unwrap()
    }

    #[test]
    fn the_parts_of_an_id() {
        let reviews = id("spiffe://cluster.local/ns/default/sa/reviews");
        assert_eq!(reviews.trust_domain(), "cluster.local");
        assert_eq!(reviews.path(), "/ns/default/sa/reviews");
        assert_eq!(id("spiffe://a_b-1").path(), "");
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        let long = format!("spiffe://a/{}", "b".repeat(2048));
        let long_domain = format!("spiffe://{}/b", "a".repeat(256));
        for text in [
            "",
            "spiffe:",
            "spiffe://",
            "spiffe:///a",
            "SPIFFE://a/b",
            "https://a/b",
            "spiffe://A/b",
            "spiffe://a:80/b",
            "spiffe://user@a/b",
            "spiffe://a/b?c",
            "spiffe://a/b#c",
            "spiffe://a/%62",
            "spiffe://a/",
            "spiffe://a/b/",
            "spiffe://a//b",
            "spiffe://a/./b",
            "spiffe://a/..",
            "spiffe://a/b c",
            "spiffe://a/\u{e4}",
            "spiffe://a/b\0",
            "spiffe://[::1]/a",
            "spiffe://a/*",
            &long,
            &long_domain,
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_longest_that_may_be() {
        let path = "b".repeat(LONGEST_ID - "spiffe://a/".len());
        assert_eq!(id(&format!("spiffe://a/{path}")).as_str().len(), LONGEST_ID);
        assert_eq!(id(&format!("spiffe://{}", "a".repeat(255))).trust_domain().len(), 255);
    }

    #[test]
    fn a_star_takes_whole_segments() {
        let peers = Peers::parse(["spiffe://td/ns/default/*", "spiffe://other/sa"]).unwrap();
        for allowed in
            ["spiffe://td/ns/default/sa", "spiffe://td/ns/default/sa/a", "spiffe://other/sa"]
        {
            assert!(peers.allow(&id(allowed)), "{allowed}");
        }
        for refused in [
            "spiffe://td/ns/default",
            "spiffe://td/ns/default-2/sa",
            "spiffe://td/ns",
            "spiffe://td2/ns/default/sa",
            "spiffe://other/sa/a",
            "spiffe://other/s",
        ] {
            assert!(!peers.allow(&id(refused)), "{refused}");
        }
        assert!(Peers::parse(["spiffe://td/*"]).unwrap().allow(&id("spiffe://td/a")));
        assert!(!Peers::parse::<&str>([]).unwrap().allow(&id("spiffe://td/a")));
    }

    #[test]
    fn a_star_elsewhere_is_refused() {
        for entry in ["*", "spiffe://*", "spiffe://td*", "spiffe://td/a*", "spiffe://td/*/a", "/*"]
        {
            assert!(Peers::parse([entry]).is_err(), "{entry}");
        }
    }

    proptest! {
        #[test]
        fn whatever_keeps_the_rules_is_read_and_prints_as_it_was(
            domain in "[a-z0-9._-]{1,40}",
            path in "(/[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,10}){0,6}",
        ) {
            let text = format!("spiffe://{domain}{path}");
            let id = id(&text);
            prop_assert_eq!(id.to_string(), text);
            prop_assert_eq!(id.trust_domain(), domain);
            prop_assert_eq!(id.path(), path);
        }

        #[test]
        fn any_text_is_refused_or_made_of_what_is_allowed(text in "(spiffe://)?[a-zA-Z0-9./%:@?#*~ -]{0,40}") {
            if let Ok(id) = text.parse::<SpiffeId>() {
                prop_assert_eq!(id.as_str(), &text);
                prop_assert!(!text.contains(['%', '@', '?', '#', '*', '~', ' ']));
                prop_assert!(!text.ends_with('/'));
                prop_assert!(id.trust_domain().parse::<TrustDomain>().is_ok());
            }
        }

        #[test]
        fn a_prefix_allows_what_lies_below_it_and_nothing_else(
            prefix in "(/[ab]{1,2}){0,2}",
            path in "(/[ab]{1,2}){0,4}",
        ) {
            let peers = Peers::parse([format!("spiffe://td{prefix}/*")]).unwrap();
            let segments = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
            let (above, below) = (segments(&prefix), segments(&path));
            let expected = below.len() > above.len() && below.starts_with(&above);
            prop_assert_eq!(peers.allow(&id(&format!("spiffe://td{path}"))), expected);
        }
    }
}
