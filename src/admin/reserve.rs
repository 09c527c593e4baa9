//! A descriptor in reserve, for the moment when there is no other.
//!
//! Limits of descriptors are met by accept: the connection stays in the kernel's queue, and the
//! client waits. So a descriptor of no use is kept, and closed when an accept fails for want of one.
//! When that connection is done with, its descriptor is made the reserve again by dup3(2), which
//! replaces what a descriptor refers to in one step: were it closed and opened anew, a connection of
//! the proxy would have it first.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{DupFlags, dup3};

/// The reserve. Shared by the threads of the server.
#[derive(Debug)]
pub(super) struct Reserve {
    spare: Mutex<Option<OwnedFd>>,
    /// What the spare descriptor refers to while it is spare.
    idle: OwnedFd,
}

impl Reserve {
    /// Takes two descriptors: one in reserve and the one that it is a copy of.
    pub(super) fn new() -> io::Result<Self> {
        let idle = eventfd(0, EventfdFlags::CLOEXEC)?;
        let spare = Mutex::new(Some(idle.try_clone()?));
        Ok(Self { spare, idle })
    }

    /// Closes the reserve, so that the next accept finds a descriptor, unless another thread of the
    /// process is faster. Whether there was one.
    pub(super) fn give_up(&self) -> bool {
        self.lock().take().is_some()
    }

    /// Closes a connection; if there is no reserve, its descriptor becomes it. Whether it did.
    pub(super) fn retire(&self, stream: TcpStream) -> bool {
        let mut descriptor = OwnedFd::from(stream);
        let mut spare = self.lock();
        if spare.is_some() || dup3(self.idle.as_fd(), &mut descriptor, DupFlags::CLOEXEC).is_err() {
            return false;
        }
        *spare = Some(descriptor);
        true
    }

    /// Makes a new reserve if there is none and a descriptor is free.
    pub(super) fn refill(&self) {
        let mut spare = self.lock();
        if spare.is_none() {
            *spare = self.idle.try_clone().ok();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
