//! The HTTP proxy through a whole proxy, over real sockets and with TLS on both sides: the same
//! cases, with the same bytes inside, as without.

#![cfg(feature = "http")]

#[path = "stage/alone.rs"]
mod alone;
#[path = "http/answers.rs"]
mod answers;
#[path = "stage/authority.rs"]
mod authority;
#[path = "http/bodies.rs"]
mod bodies;
#[path = "http/chains.rs"]
mod chains;
#[path = "http/connect.rs"]
mod connect;
#[path = "http/cuts.rs"]
mod cuts;
#[path = "http/draining.rs"]
mod draining;
#[path = "stage/driver.rs"]
mod driver;
#[path = "http/failures.rs"]
mod failures;
#[path = "http/filters.rs"]
mod filters;
#[path = "stage/kernel.rs"]
mod kernel;
#[path = "http/limits.rs"]
mod limits;
#[path = "http/messages.rs"]
mod messages;
#[path = "stage/origin.rs"]
mod origin;
#[path = "http/persistence.rs"]
mod persistence;
#[path = "http/pool.rs"]
mod pool;
#[path = "http/requests.rs"]
mod requests;
#[path = "http/secured.rs"]
mod secured;
#[path = "http/stage.rs"]
mod stage;
#[path = "http/mutual.rs"]
mod transport;
#[path = "http/upgrades.rs"]
mod upgrades;
#[path = "http/wire.rs"]
mod wire;
