//! TLS over real sockets, against other implementations of it.

#[path = "stage/authority.rs"]
mod authority;
#[path = "tls/endings.rs"]
mod endings;
#[path = "tls/established.rs"]
mod established;
#[path = "stage/kernel.rs"]
mod kernel;
#[path = "tls/late.rs"]
mod late;
#[path = "tls/others.rs"]
mod others;
#[path = "tls/permissive.rs"]
mod permissive;
#[cfg(feature = "futures-io")]
#[path = "tls/polled.rs"]
mod polled;
#[path = "tls/refused.rs"]
mod refused;
#[path = "tls/rotation.rs"]
mod rotation;
#[path = "tls/stage.rs"]
mod stage;
#[path = "tls/upstream.rs"]
mod upstream;
