//! Why an attempt failed, and what the client is told if there is no other.

use http::StatusCode;

use crate::{telemetry::ResponseFlag, upstream::outlier};

/// Why an attempt failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) flag: ResponseFlag,
    pub(super) status: StatusCode,
    pub(super) details: &'static str,
    /// Whose fault it is, as far as it is the endpoint's.
    pub(super) blame: Option<outlier::Outcome>,
    pub(super) kind: Kind,
    /// In words, for the log.
    pub(super) text: Option<String>,
}

/// What kind of failure it was, for whoever decides whether there is another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// No connection: nothing of the request was sent.
    NoConnection,
    /// The connection ended before the answer began.
    Ended,
    /// An answer came whose status says that another attempt may help, and there is to be one.
    Status(StatusCode),
    /// It took too long.
    TimedOut,
    /// Trying again is of no use.
    Final,
}

impl Failure {
    pub(super) fn new(flag: ResponseFlag, status: StatusCode, details: &'static str) -> Failure {
        Failure { flag, status, details, blame: None, kind: Kind::Final, text: None }
    }

    pub(super) fn ended(text: Option<String>) -> Failure {
        Failure {
            blame: Some(outlier::Outcome::Reset),
            kind: Kind::Ended,
            text,
            ..Failure::new(
                ResponseFlag::UpstreamConnectionTermination,
                StatusCode::SERVICE_UNAVAILABLE,
                "upstream_reset_before_response_started",
            )
        }
    }

    pub(super) fn no_connection(text: String) -> Failure {
        Failure {
            blame: Some(outlier::Outcome::ConnectFailed),
            kind: Kind::NoConnection,
            text: Some(text),
            ..Failure::new(
                ResponseFlag::UpstreamConnectionFailure,
                StatusCode::SERVICE_UNAVAILABLE,
                "upstream_connection_failure",
            )
        }
    }

    /// The upstream has given a new connection up when it was used first: it does not want us.
    pub(super) fn refused(text: String) -> Failure {
        Failure { kind: Kind::Ended, ..Failure::no_connection(text) }
    }

    pub(super) fn to_be_retried(status: StatusCode) -> Failure {
        Failure {
            blame: Some(outlier::Outcome::Answered(status.as_u16())),
            kind: Kind::Status(status),
            ..Failure::new(ResponseFlag::UpstreamRetryLimitExceeded, status, "via_upstream")
        }
    }

    pub(super) fn protocol(details: &'static str) -> Failure {
        Failure {
            blame: Some(outlier::Outcome::Reset),
            ..Failure::new(ResponseFlag::UpstreamProtocolError, StatusCode::BAD_GATEWAY, details)
        }
    }

    pub(super) fn timed_out(details: &'static str) -> Failure {
        Failure {
            blame: Some(outlier::Outcome::TimedOut),
            kind: Kind::TimedOut,
            ..Failure::new(
                ResponseFlag::UpstreamRequestTimeout,
                StatusCode::GATEWAY_TIMEOUT,
                details,
            )
        }
    }

    pub(super) fn body_too_large() -> Failure {
        Failure::new(
            ResponseFlag::DownstreamProtocolError,
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
        )
    }

    pub(super) fn no_cluster() -> Failure {
        Failure::new(ResponseFlag::NoCluster, StatusCode::SERVICE_UNAVAILABLE, "cluster_not_found")
    }

    pub(super) fn no_endpoint() -> Failure {
        Failure::new(
            ResponseFlag::NoHealthyUpstream,
            StatusCode::SERVICE_UNAVAILABLE,
            "no_healthy_upstream",
        )
    }

    pub(super) fn overflow() -> Failure {
        Failure::new(
            ResponseFlag::UpstreamOverflow,
            StatusCode::SERVICE_UNAVAILABLE,
            "upstream_overflow",
        )
    }
}
