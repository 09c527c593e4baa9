//! What a shard does with the kernel.
#![allow(unsafe_code)]

mod buffers;
mod custom;
mod doorbells;
mod driver;
mod output;
mod reactor;
mod receive;
mod send;
#[cfg(any(test, fuzzing))]
#[cfg_attr(fuzzing, allow(dead_code, reason = "fuzz targets use a part of it"))]
pub(crate) mod simulated;
mod slots;
#[cfg(test)]
mod tests;
mod uring;

pub use io_uring;

pub use self::buffers::{Chunk, Payload};
pub use self::custom::CustomOperation;
pub(crate) use self::custom::Submitted;
pub use self::output::Output;
#[cfg(all(test, feature = "__tls"))]
pub(crate) use self::output::Outputs;
pub use self::uring::{Capabilities, Restrictions, RingRefused};
pub(crate) use self::{
    buffers::Pool,
    driver::{Doorbell, Key, Nanoseconds, Wait, nanoseconds},
    reactor::Reactor,
    uring::RingDriver,
};
