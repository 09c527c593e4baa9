//! From the kernel's accept queue to a shard.
//!
//! ```text
//!  listening sockets ─ multishot accept ─► Acceptor ─ Balancer ─► inbox of the shard ─ doorbell
//!                       (one ring)          caps       +1 on its load   (once a batch)
//! ```
//!
//! An acceptor is a thread with a ring of its own, or a task on a shard's. It does next to nothing
//! for a connection: no address, no option, no lookup, no bytes. Options that connections need are
//! set on the listening socket and inherited.
//!
//! **Liveness.** An acceptor never dies of what accept gives. When descriptors or memory are used
//! up it pauses, and goes on when a connection is closed in this process or, since others use them
//! too, after a time that doubles from 10 ms to 1 s. When all inboxes are full, what is accepted
//! waits here and nothing more is accepted. One that dies all the same closes its mailbox as it goes,
//! so that the process is not ready and nobody waits for its answers.

mod acceptor;
mod balance;
mod command;
mod entrance;
mod guest_clocks;

pub use self::balance::{
    Balance, Balancer, LeastBusy, LeastConnections, NoShard, Policy, RoundRobin, UnknownBalance,
};
pub(crate) use self::{
    acceptor::{Acceptor, AcceptorTurns},
    command::Command,
    entrance::{Entrance, Entrances, Place},
};
