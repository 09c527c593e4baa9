//! Whole proxies behind rules that redirect for real: what arrives where it was going, and what is refused.

#[path = "redirect/carried.rs"]
mod carried;
#[path = "redirect/gained.rs"]
mod gained;
#[path = "redirect/http.rs"]
mod http;
#[path = "stage/kernel.rs"]
mod kernel;
mod netns;
#[path = "stage/origin.rs"]
mod origin;
#[path = "redirect/refused.rs"]
mod refused;
mod sidecar_binary;
#[path = "redirect/sidecar_rules.rs"]
mod sidecar_rules;
#[path = "redirect/stage.rs"]
mod stage;
#[path = "redirect/tls.rs"]
mod tls;
