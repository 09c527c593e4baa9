//! Where connections are forwarded.

mod connect;

pub use self::connect::Source;
pub(crate) use self::connect::{ConnectError, ConnectOptions, Connected, connect};
