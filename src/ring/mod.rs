//! What a shard does with the kernel.
#![allow(unsafe_code)]

mod buffers;
mod choice;
mod custom;
mod doorbells;
mod driver;
mod epoll;
mod output;
mod payload;
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

pub use self::buffers::Chunk;
pub(crate) use self::choice::Selected;
pub use self::choice::{Driver, DriverInUse};
pub use self::custom::CustomOperation;
pub(crate) use self::custom::Submitted;
pub use self::output::Output;
#[cfg(all(test, feature = "__tls"))]
pub(crate) use self::output::Outputs;
pub use self::payload::Payload;
pub use self::uring::{Capabilities, Restrictions, RingRefused};
pub(crate) use self::{
    buffers::Pool,
    driver::{Doorbell, Key, Nanoseconds, Wait, nanoseconds},
    epoll::EpollDriver,
    reactor::{CREDIT, Reactor},
    uring::RingDriver,
};
