//! What a proxy counts, and how the counts leave it.
//!
//! Flows in: updates of the shards and acceptors, each to cells that nobody else writes. Flows out:
//! on request only, the same numbers as a [`metrics::Recorder`] wants them ([`Publisher`]), as
//! Prometheus text (`PrometheusRenderer`, feature `prometheus`), or to any other [`Sink`].
//!
//! ```text
//!  shard 0 ─ writes ─► ShardCells, ListenerCells, ClusterCells of shard 0 ┐
//!  shard 1 ─ writes ─► …                                    of shard 1    ├─ Registry::collect ─► Sink
//!  acceptor 0 ──────► AcceptorCells, AcceptCells            of acceptor 0 │   (on the scraper's thread)
//!  values kept elsewhere (loads, queue lengths) ─ Source ─────────────────┘
//! ```
//!
//! It owns the cells, one [`Registry`] a proxy, and no global state: two proxies in a process do
//! not see each other. It never locks, allocates or writes a line of memory that another shard
//! writes while a connection is served; the registry's lock is taken when cells are handed out and
//! when they are read.
//!
//! Limits: label values are the names in the configuration and the closed sets of [`LabelValue`],
//! never something that a peer sent. Cells of a listener or cluster outlive its removal by a
//! reload, so that its counters go on where they were if it comes back.

#![forbid(unsafe_code)]

pub mod access_log;
pub mod catalog;
mod cell;
mod exchanges;
mod groups;
mod http;
mod label;
mod log_limit;
mod outcome;
mod process;
#[cfg(feature = "prometheus")]
mod prometheus;
mod publish;
mod registry;
mod sink;
mod tls;

pub use catalog::Metric;
pub use cell::{BucketSnapshot, Counter, Gauge, Histogram, HistogramSnapshot, SharedCounter};
pub use exchanges::{Exchange, Exchanges};
pub use groups::{
    AcceptCells, AcceptorCells, ClusterCells, ListenerCells, ProxyCells, ShardCells,
    TURN_DURATION_BOUNDS_NANOS,
};
pub use http::{
    CircuitLimit, ClusterState, GaugeBy, HttpClusterCells, HttpListenerCells, HttpReject,
    PoolState, REQUEST_DURATION_BOUNDS_NANOS, RequestCounts,
};
pub use label::{
    AcceptError, CloseReason, ConnectFailure, CounterBy, LabelValue, LookupResult, RejectReason,
    ReloadResult,
};
pub use log_limit::LogLimit;
pub use outcome::{CodeClass, Outcome, ResponseFlag, VIA_UPSTREAM};
pub use process::Process;
#[cfg(feature = "prometheus")]
pub use prometheus::PrometheusRenderer;
pub use publish::Publisher;
pub use registry::{ListenerShard, Registry};
pub use sink::{Labels, Sink, Source};
pub use tls::{HANDSHAKE_DURATION_BOUNDS_NANOS, HandshakeFailure, HandshakeResult, TlsCells};
