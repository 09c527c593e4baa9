//! The admin listener: a small HTTP server for operators, probes and scrapers.
//!
//! Flows in: short requests, by HTTP/1.0 or 1.1, one a connection. Flows out: what the handlers of
//! an embedder answer. It owns its listening sockets, one thread that accepts, a thread for each
//! connection of which there are few, and one descriptor in reserve. It never runs on a shard,
//! never touches a shard's memory but through what handlers read, and never lets a client decide
//! how long anything takes.
//!
//! It is there when nothing else is:
//!
//! - *No descriptors left*: the reserve is given up for the next connection, and the connection's
//!   descriptor becomes the reserve again in one step, so that nobody can take it in between.
//! - *All connections taken by clients that send or read nothing*: the one that has waited longest
//!   is cut for the one that comes. A client that answers at once is never that one.
//! - *No threads left*: the accepting thread serves the client itself, within a second.
//! - *A handler panics*: that client gets a 500, the server lives on.
//!
//! Limits: 16 connections at a time, 16 KiB and 64 fields of a head, 64 KiB of a body, 5 seconds
//! for a request, 10 seconds for reading an answer. Handlers bound their own time.
//!
//! A page in a browser on this host can send requests here too. It cannot read the answers, and a
//! POST with an `Origin` field, which browsers add and tools do not, is refused.

#![forbid(unsafe_code)]

#[cfg(feature = "__tls")]
mod certificates;
mod connections;
mod error;
mod exchange;
mod json;
mod listen;
mod request;
mod reserve;
mod response;
mod router;
pub mod routes;
mod server;

pub use error::Error;
pub use request::Request;
pub use response::Response;
pub use server::{Builder, Server};
