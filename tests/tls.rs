//! TLS over real sockets, against other implementations of it.

#[path = "tls/established.rs"]
mod established;
#[path = "stage/kernel.rs"]
mod kernel;
#[path = "tls/stage.rs"]
mod stage;
#[path = "tls/upstream.rs"]
mod upstream;
