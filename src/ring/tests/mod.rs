//! The slots and the two halves of a stream against simple models, over arbitrary sequences of
//! what may happen to them.

mod custom;
mod doorbells;
mod reactor;
mod receive;
mod send;
mod slots;
