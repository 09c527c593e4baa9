//! The system calls outside the ring, wrapped once and safely.
//!
//! **In**: settings, addresses, borrowed sockets. **Out**: facts about this machine ([`cpus`], [`cpu_quota`],
//! [`placement`], [`limits`], [`addresses`], [`address_watch`]) and sockets that are ready to use ([`listening`],
//! [`dial`], [`delivery`] in between, and [`closing`] at the end). **Owns** nothing beyond the sockets that it
//! returns. **Never** waits for a peer, and is never called for
//! each message of a connection.
//!
//! `unsafe` is allowed here because some calls have no safe wrapper in rustix, socket2 or nix: masks of more than 1,024
//! CPUs, `TCP_INFO`, the CPU time of another thread, and descriptors that come or go as numbers.

#![allow(unsafe_code)]

pub(crate) mod address_watch;
pub(crate) mod addresses;
pub(crate) mod closing;
pub(crate) mod cpu_quota;
pub(crate) mod cpus;
pub(crate) mod delivery;
#[cfg(feature = "glommio")]
pub(crate) mod descriptor;
pub(crate) mod dial;
pub(crate) mod limits;
pub(crate) mod listening;
pub(crate) mod placement;
pub(crate) mod thread_clock;
