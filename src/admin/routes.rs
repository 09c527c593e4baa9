//! Handlers of the usual paths, for an embedder to place where it likes.
//!
//! ```no_run
//! use std::sync::Arc;
//! use evenkeel::admin::{Server, routes};
//! use evenkeel::telemetry::Registry;
//!
//! # fn main() -> Result<(), evenkeel::admin::Error> {
//! let registry = Arc::new(Registry::new(2));
//! let server = Server::builder()
//!     .listen(([127, 0, 0, 1], 15000).into())
//!     .get("/ready", routes::ready(|| Ok(())))
//!     .get("/shards", routes::shards(Vec::new))
//!     .get("/listeners", routes::listeners(registry, Vec::new))
//!     .start()?;
//! # drop(server);
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;

#[cfg(feature = "__tls")]
pub use super::certificates::{CertificatesRow, certificates};
use super::json::Json;
use super::request::Request;
use super::response::Response;
use crate::telemetry::Registry;

/// Whether the proxy can serve: 200 and `ready`, or 503 and the reason. `check` is asked each time
/// and should answer within a second or so.
pub fn ready(
    check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
) -> impl Fn(&Request) -> Response + Send + Sync + 'static {
    move |_| match check() {
        Ok(()) => Response::text(200, "ready\n"),
        Err(reason) => Response::text(503, format!("not ready: {reason}\n")),
    }
}

/// Metrics in the Prometheus text format, version 0.0.4, which `render` returns.
pub fn metrics(
    render: impl Fn() -> String + Send + Sync + 'static,
) -> impl Fn(&Request) -> Response + Send + Sync + 'static {
    move |_| Response::new(200, "text/plain; version=0.0.4; charset=utf-8", render())
}

/// A listener of the configuration, as [`listeners`] shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerRow {
    /// Its name, under which the registry has its counts.
    pub name: String,
    /// The address that it accepts on, where it has a socket: the real one, not port 0.
    pub bind: Option<String>,
    /// The original destination that it matches, where it has no socket.
    pub matches: Option<String>,
}

/// The listeners and how their connections lie on the shards:
/// `{"listeners":[{"name","bind","match","shards":[{"shard","active","total"}]}]}`, with null for
/// what a listener does not have.
pub fn listeners(
    registry: Arc<Registry>,
    list: impl Fn() -> Vec<ListenerRow> + Send + Sync + 'static,
) -> impl Fn(&Request) -> Response + Send + Sync + 'static {
    move |_| {
        let listener = |row: ListenerRow| {
            let shards = registry.listener_shards(&row.name).into_iter().map(|shard| {
                Json::Object(vec![
                    ("shard", Json::integer(shard.shard as u64)),
                    ("active", Json::integer(shard.active)),
                    ("total", Json::integer(shard.total)),
                ])
            });
            Json::Object(vec![
                ("name", Json::String(row.name)),
                ("bind", Json::optional(row.bind, Json::String)),
                ("match", Json::optional(row.matches, Json::String)),
                ("shards", Json::array(shards)),
            ])
        };
        answer("listeners", list().into_iter().map(listener))
    }
}

/// A shard, as [`shards`] shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardRow {
    /// Its index.
    pub shard: usize,
    /// What carries out its operations, `io_uring` or `epoll`.
    pub driver: &'static str,
    /// The CPU that it is pinned to, if it is.
    pub cpu: Option<usize>,
    /// Downstream connections that it carries.
    pub connections: u64,
    /// What its guards weigh in all, where they carry a weight.
    pub weight: u64,
    /// Share of the recent time that its loop spent working, 0 to 1.
    pub busy_ratio: f64,
    /// Buffers of its buffer ring that are not in use.
    pub free_buffers: u64,
    /// Downstream connections that it was ever given.
    pub total: u64,
}

/// The shards: `{"shards":[{"shard","driver","cpu","connections","weight","busy_ratio",
/// "free_buffers","total"}]}`, with null for the CPU of a shard that is not pinned.
pub fn shards(
    list: impl Fn() -> Vec<ShardRow> + Send + Sync + 'static,
) -> impl Fn(&Request) -> Response + Send + Sync + 'static {
    move |_| {
        let shard = |row: ShardRow| {
            Json::Object(vec![
                ("shard", Json::integer(row.shard as u64)),
                ("driver", Json::String(row.driver.to_owned())),
                ("cpu", Json::optional(row.cpu, |cpu| Json::integer(cpu as u64))),
                ("connections", Json::integer(row.connections)),
                ("weight", Json::integer(row.weight)),
                ("busy_ratio", Json::Number(row.busy_ratio)),
                ("free_buffers", Json::integer(row.free_buffers)),
                ("total", Json::integer(row.total)),
            ])
        };
        answer("shards", list().into_iter().map(shard))
    }
}

pub(super) fn answer(name: &'static str, rows: impl Iterator<Item = Json>) -> Response {
    let json = Json::Object(vec![(name, Json::array(rows))]);
    Response::json(200, format!("{json}\n"))
}
