//! Why certificates, keys, roots or revocation lists are not taken.

use std::{fmt, io, time::SystemTime};

use super::certificate::Unreadable;

/// Why a set of certificates, keys, roots and revocation lists is not taken. Its text names the
/// file, what is wrong with it, and the remedy where there is one.
#[derive(Debug)]
pub struct Error {
    /// The file, or the name of what is in memory.
    source: Box<str>,
    problem: Problem,
}

/// What is wrong. Certificates are counted from 1, in the order of the file.
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// The file cannot be read.
    Read(io::Error),
    /// The file is longer than anything of the kind.
    TooLong {
        /// How many bytes may be read.
        limit: u64,
    },
    /// It is not PEM, or is cut off in the middle of an item.
    Pem(String),
    /// No certificate is in it.
    NoCertificate,
    /// No private key is in it.
    NoKey {
        /// There is one, and it needs a password.
        encrypted: bool,
    },
    /// Two or more private keys are in it.
    SeveralKeys,
    /// No revocation list is in it.
    NoRevocationList,
    /// A certificate cannot be read.
    Unreadable {
        /// Which.
        certificate: usize,
        /// Why.
        why: Unreadable,
    },
    /// A root cannot be used as one.
    UnusableRoot {
        /// Which.
        certificate: usize,
        /// Why.
        why: rustls::Error,
    },
    /// A revocation list cannot be used.
    UnusableRevocationList {
        /// Which, counted from 1.
        list: usize,
        /// Why.
        why: String,
    },
    /// The key is of a kind that is not known, or broken.
    UnusableKey(rustls::Error),
    /// The first certificate is for another key.
    KeyMismatch,
    /// A certificate of our own chain is valid no more.
    Expired {
        /// Which.
        certificate: usize,
        /// Since when.
        not_after: SystemTime,
    },
    /// A certificate of our own chain is not valid yet.
    NotYetValid {
        /// Which.
        certificate: usize,
        /// From when on it is.
        not_before: SystemTime,
    },
    /// A certificate of our own chain was not issued by the next one.
    OutOfOrder {
        /// Which.
        certificate: usize,
    },
    /// Roots by trust domain, and there is no trust domain.
    NoRoots,
    /// Servers are to be verified by a name, and there is none.
    NoName,
    /// rustls makes no configuration of it.
    Configuration(rustls::Error),
}

impl Error {
    pub(super) fn new(source: &str, problem: Problem) -> Error {
        Error { source: source.into(), problem }
    }

    /// The file that it is about, or the name of what is in memory.
    pub fn about(&self) -> &str {
        &self.source
    }

    /// What is wrong.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.problem)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Read(error) => write!(f, "cannot be read: {error}"),
            Problem::TooLong { limit } => write!(f, "has more than {limit} bytes"),
            Problem::Pem(why) => write!(f, "is not PEM, or not all of it: {why}"),
            Problem::NoCertificate => f.write_str("there is no certificate in it"),
            Problem::NoKey { encrypted: false } => f.write_str("there is no private key in it"),
            Problem::NoKey { encrypted: true } => f.write_str(
                "the private key in it needs a password; take it off with `openssl pkey`",
            ),
            Problem::SeveralKeys => {
                f.write_str("there is more than one private key in it; leave one")
            }
            Problem::NoRevocationList => f.write_str("there is no revocation list in it"),
            Problem::Unreadable { certificate, why } => {
                write!(f, "certificate {certificate} cannot be read: {why}")
            }
            Problem::UnusableRoot { certificate, why } => {
                write!(f, "certificate {certificate} cannot be a root: {why}")
            }
            Problem::UnusableRevocationList { list, why } => {
                write!(f, "revocation list {list} cannot be used: {why}")
            }
            Problem::UnusableKey(why) => write!(f, "the private key cannot be used: {why}"),
            Problem::KeyMismatch => f.write_str(
                "its first certificate is not for the private key; are they of one pair?",
            ),
            Problem::Expired { certificate, not_after } => {
                write!(f, "certificate {certificate} has expired, {} ago", Since(*not_after))
            }
            Problem::NotYetValid { certificate, not_before } => write!(
                f,
                "certificate {certificate} is not valid yet, but in {}; is the clock right?",
                Since(*not_before)
            ),
            Problem::OutOfOrder { certificate } => write!(
                f,
                "certificate {certificate} was not issued by the next one; our own certificate comes \
                 first, and behind each the one that issued it"
            ),
            Problem::NoRoots => f.write_str("roots by trust domain need at least one trust domain"),
            Problem::NoName => {
                f.write_str("no name to verify servers by; give a name (sni), or the peers allowed")
            }
            Problem::Configuration(why) => write!(f, "cannot be used: {why}"),
        }
    }
}

/// How far a moment is from now, in either direction.
struct Since(SystemTime);

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = SystemTime::now();
        let distance = now.duration_since(self.0).unwrap_or_else(|error| error.duration());
        match distance.as_secs() {
            seconds @ ..120 => write!(f, "{seconds} s"),
            seconds @ ..7200 => write!(f, "{} min", seconds / 60),
            seconds @ ..172_800 => write!(f, "{} h", seconds / 3600),
            seconds => write!(f, "{} days", seconds / 86_400),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            Problem::Read(error) => Some(error),
            Problem::Unreadable { why, .. } => Some(why),
            Problem::UnusableRoot { why, .. }
            | Problem::UnusableKey(why)
            | Problem::Configuration(why) => Some(why),
            _ => None,
        }
    }
}
