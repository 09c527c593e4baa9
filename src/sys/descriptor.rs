//! Descriptors for types that take a number only.
//!
//! **In**: an owned descriptor. **Out**: a value that owns it. **Owns** nothing in between.

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

/// Gives a descriptor to a type that can be made of its number only.
pub(crate) fn give<T: FromRawFd>(descriptor: OwnedFd) -> T {
    // SAFETY: `from_raw_fd` wants a descriptor that is open and that nobody else owns. It was owned
    // until here, and `into_raw_fd` has given the ownership up without closing it.
    unsafe { T::from_raw_fd(descriptor.into_raw_fd()) }
}
