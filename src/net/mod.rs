//! Connections, as the code of a shard sees them.

mod accepting;
mod stream;

pub use self::stream::Stream;
pub(crate) use self::accepting::Accepting;

#[cfg(test)]
mod tests;
