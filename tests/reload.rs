//! Changing a running proxy, as an embedder does it: all at once, or not at all.

#[path = "reload/carried_over.rs"]
mod carried_over;
#[path = "reload/changed.rs"]
mod changed;
#[path = "reload/counted.rs"]
mod counted;
#[path = "stage/origin.rs"]
mod origin;
#[path = "reload/stage.rs"]
mod stage;
