//! `sidecar iptables` against the kernel: real rules in namespaces of the tests' own, real
//! connections, and the state that is left behind.

#[path = "iptables/capture.rs"]
mod capture;
#[path = "iptables/failure.rs"]
mod failure;
#[path = "iptables/namespace.rs"]
mod namespace;
#[path = "iptables/sidecar.rs"]
mod sidecar;
mod sidecar_binary;
#[path = "iptables/state.rs"]
mod state;
