//! Connections, as the code of a shard sees them.

mod accepting;
mod stream;

pub(crate) use self::accepting::Accepting;
pub use self::stream::Stream;

#[cfg(test)]
mod tests;
