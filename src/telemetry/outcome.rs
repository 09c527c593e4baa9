//! How one exchange, or one relayed connection, went: one value that both the metrics and the access
//! log are made from, so that neither can tell another story than the other.
//!
//! Flows in: times, sizes and addresses, as values; this reads no clock. Flows out: an [`Outcome`],
//! to an [`Exchange`](super::Exchange) for HTTP and to
//! [`AccessLogOnShard::log`](super::access_log::AccessLogOnShard::log) for a relayed connection.
//!
//! The flags are Envoy's, letter for letter, because dashboards and people know them.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::label::{CloseReason, LabelValue, label_values};

label_values! {
    /// What was out of the ordinary, in the letters of Envoy's `%RESPONSE_FLAGS%`. One an exchange:
    /// the one that decided how it ended.
    ResponseFlag {
        /// Nothing was.
        None => "-",
        /// The upstream connection could not be made (503).
        UpstreamConnectionFailure => "UF",
        /// The cluster has no endpoint that may be used (503).
        NoHealthyUpstream => "UH",
        /// The upstream ended its connection before the answer was complete (502 or 503).
        UpstreamConnectionTermination => "UC",
        /// The upstream took too long to answer (504).
        UpstreamRequestTimeout => "UT",
        /// Every attempt failed and no further one was allowed.
        UpstreamRetryLimitExceeded => "URX",
        /// A limit of the cluster was reached (503).
        UpstreamOverflow => "UO",
        /// The upstream's answer was not valid HTTP (502).
        UpstreamProtocolError => "UPE",
        /// The client ended its connection.
        DownstreamConnectionTermination => "DC",
        /// The client's request was not valid (400, 413, 414, 431, 501 and the like).
        DownstreamProtocolError => "DPE",
        /// No route matches (404).
        NoRoute => "NR",
        /// The route's cluster does not exist (503).
        NoCluster => "NC",
        /// A limit on the rate of requests was reached (429).
        RateLimited => "RL",
        /// This proxy ended it: a drain came to its deadline, for instance.
        LocalReset => "LR",
        /// Nothing moved for the idle timeout (408 where the answer had not begun).
        StreamIdleTimeout => "SI",
        /// It took longer than it may in all.
        DurationTimeout => "DT",
    }
}

label_values! {
    /// A status code by its first digit.
    CodeClass {
        /// 100 to 199: protocols were switched.
        Informational => "1xx",
        /// 200 to 299.
        Success => "2xx",
        /// 300 to 399.
        Redirection => "3xx",
        /// 400 to 499.
        ClientError => "4xx",
        /// 500 to 599.
        ServerError => "5xx",
        /// No answer, or one with a code that HTTP does not know.
        None => "none",
    }
}

impl CodeClass {
    /// The class of a status code; 0 is none.
    #[must_use]
    pub const fn of(status: u16) -> CodeClass {
        match status / 100 {
            1 => CodeClass::Informational,
            2 => CodeClass::Success,
            3 => CodeClass::Redirection,
            4 => CodeClass::ClientError,
            5 => CodeClass::ServerError,
            _ => CodeClass::None,
        }
    }
}

impl From<CloseReason> for ResponseFlag {
    /// The flag of a relayed connection that ended so.
    fn from(reason: CloseReason) -> ResponseFlag {
        match reason {
            CloseReason::Done => ResponseFlag::None,
            CloseReason::DownstreamReset => ResponseFlag::DownstreamConnectionTermination,
            CloseReason::UpstreamReset => ResponseFlag::UpstreamConnectionTermination,
            CloseReason::UpstreamFailed => ResponseFlag::UpstreamConnectionFailure,
            CloseReason::IdleTimeout | CloseReason::HalfCloseTimeout => {
                ResponseFlag::StreamIdleTimeout
            }
            CloseReason::Drain => ResponseFlag::LocalReset,
            CloseReason::Protocol => ResponseFlag::DownstreamProtocolError,
        }
    }
}

/// The response code details of an answer that came from the upstream.
pub const VIA_UPSTREAM: &str = "via_upstream";

/// How one exchange, or one relayed connection, went. Make one with [`new`](Self::new) and set what
/// is known; what stays as it is was not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome<'a> {
    /// When it began, on the wall clock.
    pub started: SystemTime,
    /// From the first byte of the request to the last byte of the answer; a relayed connection's
    /// whole life.
    pub duration: Duration,
    /// From the request's departure to the first byte of the upstream's answer.
    pub upstream_time: Option<Duration>,
    /// Bytes of the request's body; of a relayed connection, all that came from the client.
    pub received: u64,
    /// Bytes of the answer's body; of a relayed connection, all that went to the client.
    pub sent: u64,
    /// The status code that the client was sent; 0 where there was none.
    pub status: u16,
    /// What was out of the ordinary.
    pub flag: ResponseFlag,
    /// Why the status is what it is: [`VIA_UPSTREAM`], or a stable reason in snake case.
    pub details: Option<&'a str>,
    /// Why the connection did not end in order: a stable reason in snake case.
    pub termination: Option<&'a str>,
    /// Why the connection to the upstream failed, in words.
    pub transport_failure: Option<&'a str>,
    /// The endpoint that was used, or tried last.
    pub upstream: Option<SocketAddr>,
    /// This end of the upstream connection.
    pub upstream_local: Option<SocketAddr>,
    /// The cluster's name.
    pub cluster: Option<&'a str>,
    /// The route's name.
    pub route: Option<&'a str>,
}

impl Outcome<'_> {
    /// The outcome of what began at `started`, about which nothing else is known.
    #[must_use]
    pub const fn new(started: SystemTime) -> Self {
        Outcome {
            started,
            duration: Duration::ZERO,
            upstream_time: None,
            received: 0,
            sent: 0,
            status: 0,
            flag: ResponseFlag::None,
            details: None,
            termination: None,
            transport_failure: None,
            upstream: None,
            upstream_local: None,
            cluster: None,
            route: None,
        }
    }

    /// The class of the status.
    #[must_use]
    pub const fn code(&self) -> CodeClass {
        CodeClass::of(self.status)
    }

    /// Whether an operator would call it an error: a status of 500 or more, or any flag.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.status >= 500 || self.flag != ResponseFlag::None
    }

    /// When it began, since the Unix epoch; zero where the clock stood before that.
    pub(super) fn since_epoch(&self) -> Duration {
        self.started.duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn flags_are_envoys_letters() {
        let flags: Vec<_> = ResponseFlag::ALL.iter().map(|flag| flag.as_str()).collect();
        assert_eq!(
            flags.join(" "),
            "- UF UH UC UT URX UO UPE DC DPE NR NC RL LR SI DT",
            "dashboards hold on to them"
        );
        assert_eq!(flags.iter().collect::<BTreeSet<_>>().len(), flags.len());
    }

    #[test]
    fn codes_are_counted_by_their_first_digit() {
        for (status, class) in [
            (0, "none"),
            (99, "none"),
            (101, "1xx"),
            (200, "2xx"),
            (299, "2xx"),
            (304, "3xx"),
            (404, "4xx"),
            (599, "5xx"),
            (600, "none"),
            (u16::MAX, "none"),
        ] {
            assert_eq!(CodeClass::of(status).as_str(), class, "{status}");
        }
    }

    #[test]
    fn every_way_for_a_relayed_connection_to_end_has_its_flag() {
        let flags: Vec<_> = CloseReason::ALL
            .iter()
            .map(|reason| format!("{reason}={}", ResponseFlag::from(*reason)))
            .collect();
        assert_eq!(
            flags.join(" "),
            "done=- downstream_reset=DC upstream_reset=UC upstream_failed=UF idle_timeout=SI \
             half_close_timeout=SI drain=LR protocol=DPE"
        );
    }

    #[test]
    fn an_error_is_a_status_of_500_or_any_flag() {
        let mut outcome = Outcome::new(UNIX_EPOCH);
        for (status, error) in [(0, false), (200, false), (404, false), (500, true), (503, true)] {
            outcome.status = status;
            assert_eq!(outcome.is_error(), error, "{status}");
        }
        outcome.status = 404;
        outcome.flag = ResponseFlag::NoRoute;
        assert!(outcome.is_error());
    }
}
