//! The sidecar as its operators and its clients meet it: the real binary, run on a configuration file,
//! with signals, the admin server and sockets on loopback.

#[path = "sidecar/admin.rs"]
mod admin;
#[path = "sidecar/authority.rs"]
mod authority;
#[path = "sidecar/auto.rs"]
mod auto;
#[path = "sidecar/clients.rs"]
mod clients;
#[path = "sidecar/ending.rs"]
mod ending;
#[path = "sidecar/http.rs"]
mod http;
#[path = "sidecar/origin.rs"]
mod origin;
#[path = "sidecar/process.rs"]
mod process;
#[path = "sidecar/refused.rs"]
mod refused;
#[path = "sidecar/reload.rs"]
mod reload;
#[path = "sidecar/rotation.rs"]
mod rotation;
#[path = "sidecar/server_names.rs"]
mod server_names;
mod sidecar_binary;
#[path = "stage/origin.rs"]
mod stage;
#[path = "sidecar/tls.rs"]
mod tls;
#[path = "sidecar/web.rs"]
mod web;
