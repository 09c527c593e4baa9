//! runtime

pub(crate) mod timer;
pub(crate) mod wake;
