//! The atomics and locks of every type that threads share: std's, or loom's when the crate is built
//! with `--cfg loom`, so that the models in the tests run the code that ships.

#[cfg(loom)]
pub(crate) use loom::sync::{Arc, Mutex, MutexGuard, atomic};
#[cfg(not(loom))]
pub(crate) use std::sync::{Arc, Mutex, MutexGuard, atomic};
