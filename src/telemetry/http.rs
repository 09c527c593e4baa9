//! What is counted of HTTP, beyond the connections that carry it.
//!
//! Flows in: updates of the shards, a few plain stores for each exchange. Flows out: through the
//! [`Registry`](super::Registry). What only a cluster as a whole knows is asked of it when somebody
//! collects ([`ClusterState`]). Status codes are counted by class and flags one by one, so the number
//! of series is bounded whatever anybody sends.

use super::cell::{Counter, Gauge, Histogram};
use super::label::{CounterBy, LabelValue, label_values};
use super::outcome::{CodeClass, Outcome, ResponseFlag};

/// The bounds of `request_duration_seconds`, in nanoseconds: 0.1 ms to 60 s.
pub static REQUEST_DURATION_BOUNDS_NANOS: [u64; 18] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];

label_values! {
    /// Why a request was refused by this proxy, before any route was asked. The exact reason is in
    /// the response code details of the access log.
    HttpReject {
        /// The request line is malformed.
        RequestLine => "request_line",
        /// A version of HTTP other than 1.0 and 1.1.
        Version => "version",
        /// A method that is not served, CONNECT for instance.
        Method => "method",
        /// A path that could be read as another one.
        Path => "path",
        /// A malformed field, or a line that does not end as it must.
        Field => "field",
        /// No Host where there must be one, several, or a malformed one.
        Host => "host",
        /// A Content-Length or Transfer-Encoding that leaves a doubt about where the body ends.
        Framing => "framing",
        /// A transfer coding other than `chunked`.
        Coding => "coding",
        /// A malformed chunk or trailer.
        Chunk => "chunk",
        /// An expectation other than `100-continue`.
        Expectation => "expectation",
        /// The request line is too long.
        TargetTooLong => "target_too_long",
        /// The head is too large, or has too many fields.
        HeadTooLarge => "head_too_large",
        /// The body is too large.
        BodyTooLarge => "body_too_large",
        /// The head did not arrive in time.
        HeadTimeout => "head_timeout",
        /// The body did not arrive in time.
        BodyTimeout => "body_timeout",
        /// Anything else.
        Other => "other",
    }
}

label_values! {
    /// What an upstream connection of a shard's pool is doing.
    PoolState {
        /// It waits for a request.
        Idle => "idle",
        /// It carries an exchange.
        Active => "active",
        /// It is being made.
        Connecting => "connecting",
    }
}

label_values! {
    /// A limit of a cluster that holds over all shards together.
    CircuitLimit {
        /// Open connections.
        Connections => "connections",
        /// Requests that wait for a connection.
        Pending => "pending",
        /// Requests in flight.
        Requests => "requests",
        /// Retries in flight.
        Retries => "retries",
    }
}

/// Requests by the class of their status and by their flag.
#[derive(Debug, Default)]
pub struct RequestCounts {
    by_code: [CounterBy<ResponseFlag, { ResponseFlag::COUNT }>; CodeClass::COUNT],
}

impl RequestCounts {
    /// Adds one.
    #[inline]
    pub fn increment(&self, code: CodeClass, flag: ResponseFlag) {
        self.by_code[code.index()].increment(flag);
    }

    /// The count of one class and flag; callable on any thread.
    #[must_use]
    pub fn value(&self, code: CodeClass, flag: ResponseFlag) -> u64 {
        self.by_code[code.index()].value(flag)
    }
}

/// What one shard counts about the requests of one listener. Written by the shard only.
#[derive(Debug)]
#[repr(align(128))]
pub struct HttpListenerCells {
    /// Requests that have ended.
    pub requests: RequestCounts,
    /// Requests in flight.
    pub active: Gauge,
    /// How long they took.
    pub duration: Histogram<{ REQUEST_DURATION_BOUNDS_NANOS.len() }>,
    /// Requests that this proxy refused, by why. They are in `requests` as well.
    pub rejected: CounterBy<HttpReject, { HttpReject::COUNT }>,
}

impl HttpListenerCells {
    /// Counts an exchange that has ended.
    #[inline]
    pub(super) fn ended(&self, outcome: &Outcome<'_>) {
        self.active.add(-1);
        self.requests.increment(outcome.code(), outcome.flag);
        self.duration.observe(outcome.duration);
    }
}

impl Default for HttpListenerCells {
    fn default() -> Self {
        Self {
            requests: RequestCounts::default(),
            active: Gauge::new(),
            duration: Histogram::new(&REQUEST_DURATION_BOUNDS_NANOS),
            rejected: CounterBy::new(),
        }
    }
}

/// What one shard counts about the requests to one cluster. Written by the shard only.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct HttpClusterCells {
    /// Requests that were sent, each retry for itself, by the class of the answer.
    pub requests: CounterBy<CodeClass, { CodeClass::COUNT }>,
    /// Those of them that were retries.
    pub retries: Counter,
    /// Connections of this shard's pool, by what they are doing.
    pub pool: GaugeBy<PoolState, { PoolState::COUNT }>,
}

/// One [`Gauge`] for each value of a label; `N` is the label's `COUNT`.
#[derive(Debug)]
pub struct GaugeBy<L, const N: usize> {
    gauges: [Gauge; N],
    label: std::marker::PhantomData<fn(L)>,
}

impl<L: LabelValue, const N: usize> GaugeBy<L, N> {
    const COVERS_EVERY_VALUE: () = assert!(N == L::ALL.len());

    /// Adds `n`, which may be negative, to the gauge of `value`.
    #[inline]
    pub fn add(&self, value: L, n: i64) {
        self.gauges[value.index()].add(n);
    }

    /// The gauge of `value`; callable on any thread.
    #[must_use]
    pub fn value(&self, value: L) -> i64 {
        self.gauges[value.index()].value()
    }
}

impl<L: LabelValue, const N: usize> Default for GaugeBy<L, N> {
    fn default() -> Self {
        let () = Self::COVERS_EVERY_VALUE;
        Self { gauges: [const { Gauge::new() }; N], label: std::marker::PhantomData }
    }
}

/// What only a cluster as a whole knows. Asked on the thread that collects; it must not block.
pub trait ClusterState: Send + Sync {
    /// Whether a limit is reached, so that what would exceed it is refused. A limit that is not set
    /// is never reached.
    fn is_open(&self, limit: CircuitLimit) -> bool;

    /// How many endpoints are ejected now.
    fn ejected_endpoints(&self) -> usize;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_are_those_that_dashboards_hold_on_to() {
        let reasons: Vec<_> = HttpReject::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(
            reasons.join(" "),
            "request_line version method path field host framing coding chunk expectation \
             target_too_long head_too_large body_too_large head_timeout body_timeout other"
        );
        let limits: Vec<_> = CircuitLimit::ALL.iter().map(|limit| limit.as_str()).collect();
        assert_eq!(limits.join(" "), "connections pending requests retries");
    }

    #[test]
    fn groups_share_no_cache_lines_and_are_small() {
        for size in [size_of::<HttpListenerCells>(), size_of::<HttpClusterCells>()] {
            assert_eq!(size % 128, 0);
        }
        assert!(size_of::<HttpListenerCells>() <= 1280, "{}", size_of::<HttpListenerCells>());
        assert!(size_of::<HttpClusterCells>() <= 128, "{}", size_of::<HttpClusterCells>());
    }
}
