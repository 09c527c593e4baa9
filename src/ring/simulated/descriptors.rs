//! The descriptors that stand for simulated sockets: made, looked up, and found out to be closed.

use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::{Simulation, network::SocketId};
use crate::ring::driver::Token;

impl Simulation {
    pub(super) fn socket(&mut self) -> (SocketId, OwnedFd) {
        let id = self.network.socket(self.behaviour.window, self.behaviour.send_buffer);
        let fd = self.stand_in(id);
        (id, fd)
    }

    /// Makes the descriptor that stands for a socket.
    pub(super) fn stand_in(&mut self, id: SocketId) -> OwnedFd {
        let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let fd = fd.expect("a test may have a few descriptors");
        let number = fd.as_raw_fd();
        // Its number may have been that of a descriptor that was dropped a moment ago.
        self.notice_closed();
        let inode = inode(number).expect("it was just made");
        self.network.sockets[id].descriptor = Some((number, inode));
        self.descriptors.insert(number, id);
        fd
    }

    pub(super) fn give_descriptor(&mut self, id: SocketId) -> i32 {
        self.stand_in(id).into_raw_fd()
    }

    pub(super) fn lookup(&self, fd: BorrowedFd<'_>) -> Option<SocketId> {
        let id = *self.descriptors.get(&fd.as_raw_fd())?;
        let (number, recorded) = self.network.sockets[id].descriptor?;
        (inode(number) == Some(recorded)).then_some(id)
    }

    /// Finds descriptors that their owners have dropped.
    pub(super) fn notice_closed(&mut self) {
        let is_closed = |(number, id): &(&RawFd, &SocketId)| {
            let recorded = self.network.sockets[**id].descriptor;
            recorded.map(|(_, inode)| inode) != inode(**number)
        };
        let closed: Vec<_> =
            self.descriptors.iter().filter(is_closed).map(|(number, id)| (*number, *id)).collect();
        for (number, id) in closed {
            self.descriptors.remove(&number);
            self.close(id);
        }
    }

    pub(super) fn close(&mut self, id: SocketId) {
        let mut flights = self.flights.iter();
        if let Some((token, _)) = flights.find(|(_, flight)| flight.socket == id) {
            let text = format!("socket {id} was closed while {:?} was in flight", Token(*token));
            self.violation(text);
        }
        self.network.close(id);
        self.wake_changed();
    }
}

/// The inode of an open descriptor.
fn inode(number: RawFd) -> Option<u64> {
    // SAFETY: all of stat's fields are integers, for which zeroes are valid.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: any number may be asked about, and `status` is there to be written to.
    let result = unsafe { libc::fstat(number, &raw mut status) };
    (result == 0).then_some(status.st_ino)
}
