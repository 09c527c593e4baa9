//! What the proxy makes of origins, clients, limits and threads that fail, over real sockets.

#[path = "faults/acceptors.rs"]
mod acceptors;
#[path = "faults/descriptors.rs"]
mod descriptors;
#[path = "faults/exact.rs"]
mod exact;
#[path = "faults/origins.rs"]
mod origins;
#[path = "faults/pressure.rs"]
mod pressure;
#[path = "faults/process.rs"]
mod process;
#[path = "faults/quiet.rs"]
mod quiet;
#[path = "faults/rubbish.rs"]
mod rubbish;
#[path = "faults/shards.rs"]
mod shards;
#[path = "faults/stage.rs"]
mod stage;
#[path = "faults/storm.rs"]
mod storm;
