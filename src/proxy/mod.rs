//! The one assembly point: listeners, shards and services become a running proxy.
//!
//! Flows in: what [`Builder`] was told. Flows out: a [`Proxy`], the handle of a running one. It owns
//! the listening sockets, the threads and the operators' servers. It never exits the process, installs no
//! signal handler and keeps nothing global, so that several proxies can live in one process.

mod builder;
mod drain;
mod handle;
mod operators;
mod reload;
mod rows;
mod running;
mod sockets;

pub use self::{
    builder::{AcceptorPlacement, Builder, Native, Pin},
    drain::{Drain, Drained},
    handle::{BoundListener, Proxy},
    reload::Reload,
};
