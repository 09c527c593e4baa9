//! Whole proxies behind rules that redirect for real: what arrives where it was going, and what is refused.

#[path = "redirect/carried.rs"]
mod carried;
#[path = "stage/kernel.rs"]
mod kernel;
mod netns;
#[path = "stage/origin.rs"]
mod origin;
#[path = "iptables/program.rs"]
mod program;
#[path = "redirect/refused.rs"]
mod refused;
#[path = "redirect/sidecar_rules.rs"]
mod sidecar_rules;
#[path = "redirect/stage.rs"]
mod stage;
