//! Where requests and connections are forwarded to.
//!
//! ```text
//!  settings ─► Cluster ── snapshot ─► ClusterView ─ pick ─► Target ─► Pool ── none idle ─► connect
//!  (checked)   (shared)               (a shard's)          (address)  (a shard's)
//!                 ▲ addresses   Resolver, on a thread of its own
//!                 ▲ health      Checks, run by one shard
//!                 └ outcomes    of the requests
//! ```
//!
//! A [`Cluster`](cluster::Cluster) is shared by all shards and holds what they must agree about; a
//! [`ClusterView`](view::ClusterView) and a [`Pool`](pool::Pool) belong to one shard. None of these
//! opens a connection, looks at a clock or starts a task, [`watch_health`] aside: times come in as
//! values of one monotonic clock, and whoever drives them does the rest.

#![forbid(unsafe_code)]

#[cfg(feature = "http")]
pub mod cluster;
mod connect;
#[cfg(feature = "http")]
pub mod endpoint;
#[cfg(feature = "http")]
pub mod health;
#[cfg(feature = "http")]
pub mod limits;
#[cfg(feature = "http")]
pub mod outlier;
#[cfg(feature = "http")]
mod pick;
#[cfg(feature = "http")]
pub mod places;
#[cfg(feature = "http")]
pub mod pool;
#[cfg(feature = "http")]
mod probe;
#[cfg(feature = "http")]
pub mod resolve;
#[cfg(feature = "http")]
pub mod retry;
#[cfg(feature = "http")]
pub mod settings;
#[cfg(feature = "http")]
pub mod snapshot;
#[cfg(feature = "http")]
pub mod view;

pub use self::connect::ConnectOptions;
pub(crate) use self::connect::{ConnectError, Connected, Connector, Source};
#[cfg(feature = "http")]
pub use self::probe::watch_health;
