//! The doorbell of an epoll driver: an eventfd among what it waits for.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    event::{EventfdFlags, eventfd},
    io::{Errno, write},
};

use crate::ring::driver::Doorbell;

pub(super) struct Bell(OwnedFd);

impl Bell {
    pub(super) fn new() -> io::Result<Bell> {
        Ok(Bell(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    pub(super) fn eventfd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Doorbell for Bell {
    fn ring(&self) -> io::Result<()> {
        loop {
            match write(&self.0, &1_u64.to_ne_bytes()) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                // Nobody reads what it counts. After 2^64 rings it is full: it starts anew.
                Err(Errno::AGAIN) => {
                    let _ = rustix::io::read(&self.0, &mut [0_u8; 8]);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
