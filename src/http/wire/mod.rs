//! Messages on a stream: heads and bodies in, heads and bodies out.
//!
//! Flows in: the two directions of a stream. Flows out: parsed heads, pieces of bodies in the buffers
//! that they were received into, and messages that leave in as few sends as they can. It owns what is
//! half read and half written. It never decides anything about a message.

mod forward;
mod incoming;
mod outgoing;

pub(super) use self::{
    forward::{Broken, forward},
    incoming::{BodyFault, HeadFault, Incoming, is_unannounced_end},
    outgoing::Outgoing,
};
