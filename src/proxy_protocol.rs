//! PROXY protocol.
