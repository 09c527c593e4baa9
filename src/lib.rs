//! io_uring, thread-per-core proxies that keep every core evenly loaded.
//!
//! A transparent sidecar: what iptables redirects to it, it forwards to where it was going.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use evenkeel::{Listener, Proxy, Relay};
//!
//! fn main() -> evenkeel::Result<()> {
//!     let inbound = Listener::bind("0.0.0.0:15006")?
//!         .redirected()
//!         .inbound()
//!         .serve(Relay::to_original_destination().source("127.0.0.6"));
//!     let outbound = Listener::bind("127.0.0.1:15001")?
//!         .redirected()
//!         .destination("10.0.0.7:9080", Relay::to(["10.1.0.1:80", "10.1.0.2:80"]))
//!         .fallback(Relay::to_original_destination());
//!     let proxy = Proxy::builder()
//!         .listener(inbound)
//!         .listener(outbound)
//!         .admin("127.0.0.1:15000")
//!         .start()?;
//! #   #[cfg(feature = "signal")]
//!     evenkeel::signal::terminate()?.wait();
//!     proxy.drain(Duration::from_secs(30)).report()
//! }
//! ```
//!
//! Where io_uring is refused, by a container's seccomp profile for instance, all of it runs on epoll
//! ([`Driver`]).
//!
//! A connection travels through the modules in this order: [`accept`] chooses its shard and counts it
//! there, [`shard`] takes it in, [`original_dst`] says where it was going, a [`Listener`] finds what
//! serves it, and that is a [`Relay`], an HTTP proxy (`http::proxy`, feature `http`) or a [`Service`]
//! of yours, over [`net`] streams and the [`runtime`] of the shard. [`telemetry`] counts it all, and
//! [`admin`] shows it.

#[cfg(not(target_os = "linux"))]
compile_error!("evenkeel is built on io_uring and works on Linux only");

pub mod accept;
pub mod admin;
mod connection;
mod detect;
mod error;
pub mod guests;
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
#[cfg(feature = "__tls")]
pub mod tls;
pub mod upstream;

#[cfg(feature = "glommio")]
pub use self::guests::glommio;
#[cfg(feature = "tokio")]
pub use self::guests::tokio;
pub use self::{
    connection::Connection,
    detect::Detect,
    error::{Error, Result},
    listener::{Limits, Listener, Pattern, PatternError},
    proxy::{
        AcceptorPlacement, BoundListener, Builder, Drain, Drained, Native, Pin, Proxy, Reload,
    },
    relay::Relay,
    ring::{Driver, DriverInUse},
    service::{Service, ServiceFactory},
};

#[cfg(any(test, fuzzing))]
#[cfg_attr(fuzzing, allow(dead_code, unused_imports, reason = "fuzz targets use a part of it"))]
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

/// What fuzz targets run that have no public way to it. Not an interface.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    #[cfg(feature = "http")]
    pub use crate::simulation::http::http_proxy;
    #[cfg(feature = "__tls")]
    pub use crate::simulation::permissive::permissive;
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
