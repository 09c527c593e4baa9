//! This host's own addresses.
//!
//! **In**: the interfaces of the network namespace (getifaddrs(3)). **Out**: an [`OwnAddresses`] snapshot, which never
//! changes; whoever needs a fresh one takes it again.

use std::{
    collections::HashSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The addresses that connections from this host reach without leaving it, as they were at one moment.
///
/// Addresses that only a `local` route makes the host's own (as TPROXY set-ups have) are not known here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnAddresses(HashSet<IpAddr>);

impl OwnAddresses {
    /// Asks the kernel for the addresses of all interfaces in the calling thread's network namespace.
    ///
    /// # Errors
    /// What getifaddrs(3) says: no netlink socket could be opened, for want of file descriptors or memory.
    pub fn snapshot() -> io::Result<Self> {
        let interfaces = nix::ifaddrs::getifaddrs()?;
        let addresses = interfaces.filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
        });
        Ok(addresses.collect())
    }

    /// Whether a connection from this host to `address` comes back to this host.
    ///
    /// True for all of 127.0.0.0/8 and for ::1 whatever the interfaces say, and for the unspecified address, which
    /// connect(2) takes for the loopback address. An IPv4-mapped IPv6 address counts as the IPv4 address in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_loopback() || address.is_unspecified() || self.0.contains(&address)
    }

    /// The IPv4 addresses, in no order.
    pub fn v4(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.0.iter().filter_map(|address| match address {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        })
    }

    /// The IPv6 addresses, in no order.
    pub fn v6(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.0.iter().filter_map(|address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(*v6),
        })
    }
}

/// A set of the caller's choosing, for tests and for embedders that know better.
impl FromIterator<IpAddr> for OwnAddresses {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        OwnAddresses(addresses.into_iter().map(|address| address.to_canonical()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn loopback_is_always_own_and_other_hosts_never() {
        let own = OwnAddresses::snapshot().unwrap();
        for address in ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1"] {
            assert!(own.contains(ip(address)), "{address}");
        }
        for address in ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"] {
            assert!(!own.contains(ip(address)), "{address}");
        }
    }

    #[test]
    fn interface_addresses_are_own_in_either_spelling() {
        let own: OwnAddresses = [ip("10.0.0.7"), ip("2001:db8::7")].into_iter().collect();
        for address in ["10.0.0.7", "::ffff:10.0.0.7", "2001:db8::7"] {
            assert!(own.contains(ip(address)), "{address}");
        }
        assert_eq!(own.v4().collect::<Vec<_>>(), [Ipv4Addr::new(10, 0, 0, 7)]);
        assert_eq!(own.v6().count(), 1);
    }

    #[test]
    fn the_snapshot_sees_the_loopback_interface() {
        let own = OwnAddresses::snapshot().unwrap();
        assert!(own.v4().any(|address| address == Ipv4Addr::LOCALHOST), "{own:?}");
    }
}
