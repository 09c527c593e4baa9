//! Connections, as the code of a shard sees them.

mod accepting;
mod halves;
mod layer;
#[cfg(any(feature = "futures-io", feature = "tokio"))]
mod poll_stream;
mod socket;
mod stream;

pub(crate) use self::accepting::Accepting;
pub(crate) use self::layer::Outlived;
#[cfg(any(feature = "futures-io", feature = "tokio"))]
pub use self::poll_stream::PollStream;
pub use self::{
    halves::{Receiving, Sending},
    stream::Stream,
};
#[cfg(feature = "__tls")]
pub(crate) use self::{layer::Layer, socket::Socket, stream::Leaves};

#[cfg(test)]
mod tests;
