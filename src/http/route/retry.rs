//! When a request is tried again, and how long it may take.

use std::time::Duration;

use ::http::StatusCode;

/// When to send a request again.
///
/// It is a permission, not an order: a request goes out again only if nothing of it reached the
/// upstream, or if its method is idempotent and its body can be sent again (RFC 9110 section
/// 9.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How many times at most, not counting the first; 0 for never, whatever the cluster says.
    pub attempts: u32,
    /// Answers of the upstream after which to try again, 400 or higher.
    pub statuses: Vec<StatusCode>,
    /// Failures after which to try again.
    pub on: RetryOn,
}

impl RetryPolicy {
    /// Whether an answer with this status is not the last word.
    pub fn retries(&self, status: StatusCode) -> bool {
        self.statuses.contains(&status)
    }
}

/// One retry, after a failed connection or a reset.
impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy { attempts: 1, statuses: Vec::new(), on: RetryOn::default() }
    }
}

/// Failures after which to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryOn {
    /// No connection to the upstream (flag UF). On by default.
    pub connect_failure: bool,
    /// The upstream closed or reset the connection before its answer began (flag UC). On by
    /// default.
    pub reset: bool,
    /// A try took longer than it may (flag UT). Off by default.
    pub timeout: bool,
}

impl Default for RetryOn {
    fn default() -> RetryOn {
        RetryOn { connect_failure: true, reset: true, timeout: false }
    }
}

/// How long something may take, as a route says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeLimit {
    /// What is configured for all requests, of the listener or the cluster. The default.
    #[default]
    Inherit,
    /// As long as it likes.
    Off,
    /// This long.
    After(Duration),
}

impl TimeLimit {
    /// The limit, where `inherited` is that for all requests.
    pub fn or(self, inherited: Option<Duration>) -> Option<Duration> {
        match self {
            TimeLimit::Inherit => inherited,
            TimeLimit::Off => None,
            TimeLimit::After(limit) => Some(limit),
        }
    }
}
