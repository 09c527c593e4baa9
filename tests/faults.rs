//! What the proxy makes of origins, clients, limits and threads that fail, over real sockets.

#[path = "faults/acceptors.rs"]
mod acceptors;
#[path = "stage/alone.rs"]
mod alone;
#[path = "faults/caps.rs"]
mod caps;
#[path = "faults/descriptors.rs"]
mod descriptors;
#[path = "faults/exact.rs"]
mod exact;
#[path = "stage/kernel.rs"]
mod kernel;
#[path = "stage/origin.rs"]
mod origin;
#[path = "faults/origins.rs"]
mod origins;
#[path = "faults/pressure.rs"]
mod pressure;
#[path = "faults/quiet.rs"]
mod quiet;
#[path = "faults/rubbish.rs"]
mod rubbish;
#[path = "faults/shards.rs"]
mod shards;
#[path = "sidecar_binary/mod.rs"]
mod sidecar_binary;
#[path = "faults/stage.rs"]
mod stage;
#[path = "faults/storm.rs"]
mod storm;
