//! io_uring, thread-per-core proxies that keep every core evenly loaded.

#[cfg(not(target_os = "linux"))]
compile_error!("evenkeel is built on io_uring and works on Linux only");

pub mod accept;
pub mod admin;
mod connection;
mod detect;
mod error;
#[cfg(feature = "http")]
pub mod http;
pub mod limits;
mod listener;
pub mod net;
pub mod original_dst;
mod proxy;
pub mod proxy_protocol;
pub mod relay;
pub mod ring;
pub mod runtime;
mod service;
pub mod shard;
#[cfg(feature = "signal")]
pub mod signal;
pub mod telemetry;
pub mod upstream;

pub use self::{
    connection::Connection,
    detect::Detect,
    error::{Error, Result},
    listener::{Limits, Listener, Pattern, PatternError},
    proxy::{AcceptorPlacement, BoundListener, Builder, Drain, Drained, Pin, Proxy, Reload},
    relay::Relay,
    service::{Service, ServiceFactory},
};

#[cfg(test)]
mod simulation;
mod sync;
mod sys;

/// Parts without a public home that the benchmarks measure. Not an interface.
#[doc(hidden)]
pub mod benchable {
    pub use crate::{
        runtime::timer::{TimerKey, TimerWheel},
        shard::inbox::{Inbox, Refusal, Refused},
    };
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
