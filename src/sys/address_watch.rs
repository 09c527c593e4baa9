//! This host's own addresses, kept current: no thread, no timer, and nothing asked of the kernel for an address that is
//! known.
//!
//! **In**: the kernel's notices of addresses that come and go (rtnetlink(7)), and the interfaces. **Out**: whether an
//! address is this host's, now. **Owns** a netlink socket, in whose queue the notices wait. **Never** reads the
//! interfaces unless there is a notice.
//!
//! # What is guaranteed
//!
//! An address counts as this host's from before the first connection can reach it. The kernel queues its notice first
//! and only then adds the route by which the address is reached (`__inet_insert_ifa` in `net/ipv4/devinet.c`,
//! `__ipv6_ifa_notify` in `net/ipv6/addrconf.c`). So whoever misses an address looks into the queue, which is one system
//! call: where nothing waits, the address is another host's; where something does, the interfaces are read again before
//! the answer is given. Notices that were lost because the queue was full are reported by the kernel, and count as a
//! notice.
//!
//! An address that the host has lost counts until the next look into the queue.

use std::{io, net::IpAddr, os::fd::OwnedFd, sync::Arc};

use arc_swap::ArcSwap;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SocketFlags, SocketType, bind, netlink::SocketAddrNetlink, recv,
        socket_with,
    },
};

use super::addresses::OwnAddresses;
use crate::sync::{Mutex, lock};

/// The addresses of this host, as they are whenever they are asked for.
///
/// They are those of the network namespace of the thread that made this; whoever asks has to be in the same one.
#[derive(Debug)]
pub struct WatchedAddresses {
    known: ArcSwap<OwnAddresses>,
    watch: Mutex<Watch>,
}

#[derive(Debug)]
struct Watch {
    notices: OwnedFd,
    /// Something has changed since `known` was read.
    outdated: bool,
}

impl WatchedAddresses {
    /// Reads the addresses, and watches them from then on.
    ///
    /// # Errors
    /// What socket(2), bind(2) and getifaddrs(3) say: no netlink socket could be opened, for want of file descriptors or
    /// memory, or because a filter forbids them.
    pub fn start() -> io::Result<Self> {
        // Watched first and read then, so that nothing falls in between.
        let watch = Watch { notices: subscribe()?, outdated: false };
        let known = ArcSwap::from_pointee(OwnAddresses::snapshot()?);
        Ok(WatchedAddresses { known, watch: Mutex::new(watch) })
    }

    /// Whether a connection from this host to `address` comes back to this host, as [`OwnAddresses::contains`] has it.
    /// `None`: it cannot be told, because the addresses have changed and could not be read, for want of file descriptors
    /// or memory.
    ///
    /// A known address costs a look into a set; any other one a system call as well, and those who miss at the same time
    /// wait for each other.
    pub fn contains(&self, address: IpAddr) -> Option<bool> {
        if self.known.load().contains(address) {
            return Some(true);
        }
        self.refresh().ok()?;
        Some(self.known.load().contains(address))
    }

    /// Reads the addresses again if there was a notice.
    fn refresh(&self) -> io::Result<()> {
        let mut watch = lock(&self.watch);
        let had_failed = watch.outdated;
        // The queue is emptied before anything is read: what changes meanwhile gives a new notice.
        watch.outdated |= take_notices(&watch.notices);
        if !watch.outdated {
            return Ok(());
        }
        match OwnAddresses::snapshot() {
            Ok(addresses) => {
                self.known.store(Arc::new(addresses));
                watch.outdated = false;
                Ok(())
            }
            Err(error) => {
                if !had_failed {
                    tracing::warn!("cannot read the addresses of this host again: {error}");
                }
                Err(error)
            }
        }
    }
}

/// A socket that the kernel sends notices to.
fn subscribe() -> io::Result<OwnedFd> {
    const GROUPS: u32 = (libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR) as u32;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Protocol 0 is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
    Ok(socket)
}

/// Empties the queue. Whether there was anything in it, or may have been.
fn take_notices(socket: &OwnedFd) -> bool {
    let mut any = false;
    loop {
        // What it says does not matter, so it may be cut off.
        match recv(socket, &mut [0_u8; 1][..], RecvFlags::DONTWAIT) {
            Ok(_) | Err(Errno::NOBUFS) => any = true,
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => return any,
            Err(_) => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_at_the_start_and_what_is_not_here() {
        let addresses = WatchedAddresses::start().unwrap();
        assert_eq!(addresses.contains([127, 0, 0, 1].into()), Some(true));
        assert_eq!(addresses.contains([192, 0, 2, 1].into()), Some(false));
    }
}
