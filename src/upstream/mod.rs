//! Where connections are forwarded.

mod connect;

pub(crate) use self::connect::{ConnectError, ConnectOptions, Connected, Source, connect};
