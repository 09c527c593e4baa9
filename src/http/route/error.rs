//! What can be wrong with a route.

use std::{error, fmt};

use ::http::{HeaderName, StatusCode};

/// A route that cannot be built, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteError {
    /// Which one of the list, from 0.
    pub position: usize,
    /// Its name.
    pub name: String,
    /// What is wrong.
    pub problem: RouteProblem,
}

/// What is wrong with a route. The text of each says what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RouteProblem {
    /// A host of [`Match::hosts`](super::Match::hosts), a rewrite or a redirect.
    Host {
        /// As it was given.
        host: String,
        /// In words.
        why: &'static str,
    },
    /// A path of a match, a rewrite or a redirect.
    Path {
        /// As it was given.
        path: String,
        /// In words.
        why: &'static str,
    },
    /// The match names a field twice.
    RepeatedHeader(HeaderName),
    /// A prefix is to be replaced, and the route matches an exact path.
    NoPrefix,
    /// Something that only a forwarded request needs, on a route that forwards none.
    NotForwarded,
    /// A header field that a route must not change.
    ForbiddenHeader(HeaderName),
    /// An answer of its own with a status that cannot be one.
    RespondStatus(StatusCode),
    /// An answer of its own with a body, to a status that has none.
    RespondBody(StatusCode),
    /// A retry after an answer that is no failure.
    RetryStatus(StatusCode),
    /// A time limit of nothing.
    ZeroTime,
    /// One try may take longer than all of them together.
    TryTime,
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RouteError { position, name, problem } = self;
        write!(f, "route {} ({name:?}): {problem}", position + 1)
    }
}

impl fmt::Display for RouteProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteProblem::Host { host, why } => write!(f, "host {host:?}: {why}"),
            RouteProblem::Path { path, why } => write!(f, "path {path:?}: {why}"),
            RouteProblem::RepeatedHeader(name) => {
                write!(f, "header {name} is matched twice: name each field once")
            }
            RouteProblem::NoPrefix => f.write_str(
                "a prefix is replaced, but the route matches an exact path: match a prefix, or \
                 replace the full path",
            ),
            RouteProblem::NotForwarded => f.write_str(
                "the route forwards nothing: leave rewrite, changes to request headers, retries and \
                 the time limit of a try out",
            ),
            RouteProblem::ForbiddenHeader(name) if name == "host" => {
                f.write_str("header host cannot be changed: rewrite the host instead")
            }
            RouteProblem::ForbiddenHeader(name) => write!(
                f,
                "header {name} cannot be changed, since it belongs to the connection or frames the \
                 message: leave it out"
            ),
            RouteProblem::RespondStatus(status) => {
                write!(f, "a route cannot respond with {status}: use 200 to 599")
            }
            RouteProblem::RespondBody(status) => {
                write!(f, "an answer with {status} has no body: leave body and content type out")
            }
            RouteProblem::RetryStatus(status) => {
                write!(f, "an answer with {status} is not tried again: use 400 to 599")
            }
            RouteProblem::ZeroTime => {
                f.write_str("a time limit of 0 would fail every request: use \"off\" for none")
            }
            RouteProblem::TryTime => f.write_str(
                "one try may take longer than the request with all its tries: make the former \
                 shorter or the latter longer",
            ),
        }
    }
}

impl error::Error for RouteError {}
