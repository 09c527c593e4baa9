//! Connections, as the code of a shard sees them.

mod accepting;
mod halves;
mod stream;

pub(crate) use self::accepting::Accepting;
pub use self::{
    halves::{Receiving, Sending},
    stream::Stream,
};

#[cfg(test)]
mod tests;
