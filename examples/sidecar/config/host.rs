//! What a configuration depends on outside its file. In: the machine, or what a test makes up. Out:
//! answers to the few questions that the checks ask. Changes nothing, and a question that the machine
//! does not answer is answered so that no finding comes of it.

use std::net::{IpAddr, UdpSocket};

use rustix::thread::{CapabilitySet, CpuSet};

/// The machine and the process that a configuration is meant for.
#[derive(Clone)]
pub(crate) struct Host {
    /// Whether an address is one of this host's own; asked for other than loopback.
    pub(crate) own_address: fn(IpAddr) -> bool,
    /// Whether the process may set marks and make transparent sockets.
    pub(crate) network_admin: bool,
    /// The CPUs that the process may run on; empty if that is not known.
    pub(crate) cpus: Vec<usize>,
    /// Whether the files of certificates and keys are here, and so can be looked at.
    pub(crate) certificates: bool,
}

impl Host {
    /// This machine, as this process sees it.
    pub(crate) fn current() -> Self {
        let cpus = rustix::thread::sched_getaffinity(None).map_or_else(
            |_| Vec::new(),
            |mask| (0..CpuSet::MAX_CPU).filter(|cpu| mask.is_set(*cpu)).collect(),
        );
        // SO_MARK and IP_TRANSPARENT ask for either of the two (net/core/sock.c,
        // net/ipv4/ip_sockglue.c).
        let either = CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW;
        let network_admin = rustix::thread::capabilities(None)
            .map_or(true, |sets| sets.effective.intersects(either));
        // Only an own address can be bound, whatever interface, namespace or route makes it so.
        let own_address = |ip| UdpSocket::bind((ip, 0)).is_ok();
        Self { own_address, network_admin, cpus, certificates: true }
    }

    pub(super) fn owns(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || (self.own_address)(ip)
    }
}
