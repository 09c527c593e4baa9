//! Who a redirected connection was meant for.
//!
//! A firewall rule sends connections to this proxy instead of where they were going; this module asks the kernel where
//! that was. It works alone, with any socket, whoever accepted it:
//!
//! ```no_run
//! use evenkeel::original_dst::{self, Destination};
//!
//! let listener = std::net::TcpListener::bind("127.0.0.1:15001")?;
//! let (connection, _) = listener.accept()?;
//! match original_dst::lookup(&connection)? {
//!     Destination::Redirected(address) => println!("was going to {address}"),
//!     other => println!("nobody redirected it: {other:?}"),
//! }
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! **In**: an accepted socket. **Out**: a [`Destination`]. **Owns** nothing. **Never** decides what becomes of the
//! connection; but it offers [`Loops`], without which a proxy that forwards to the original destination can be made to
//! call itself until it has no file descriptors left.
//!
//! # The two ways of redirecting
//!
//! - *REDIRECT* and *DNAT* (iptables, ip6tables, nftables) rewrite the destination, and connection tracking remembers
//!   the old one: [`Redirect`] asks for it with `SO_ORIGINAL_DST` or `IP6T_SO_ORIGINAL_DST`
//!   (`include/uapi/linux/netfilter_ipv4.h`, `netfilter_ipv6/ip6_tables.h`; `getorigdst` and `ipv6_getorigdst` in
//!   `net/netfilter/nf_conntrack_proto.c`).
//! - *TPROXY* rewrites nothing: the accepted socket's local address *is* the destination, and [`Transparent`] reads it
//!   (`Documentation/networking/tproxy.rst`, `IP_TRANSPARENT` in ip(7)).
//!
//! Choose by how the listener is set up, and do not try one after the other: on a transparent socket the first may
//! find a connection tracking entry of an earlier connection between the same ports, and answer with that.

use std::{
    collections::HashSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use rustix::{io::Errno, net::getsockname, net::sockopt};

pub use crate::sys::{address_watch::WatchedAddresses, addresses::OwnAddresses};

/// What the kernel knows about where a connection was going.
///
/// Addresses are canonical: one that is IPv4-mapped (`::ffff:a.b.c.d`) is given as the IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// A rule redirected it here, away from this address.
    Redirected(SocketAddr),
    /// The socket is transparent, and this is its local address. Whether a TPROXY rule sent the connection here, or the
    /// client dialled the listener's own address, cannot be told.
    Transparent(SocketAddr),
    /// It was made to the listener itself: the kernel's answer is the socket's own address.
    Direct,
    /// The kernel does not know: the connection is not tracked, or not TCP.
    Missing,
}

impl Destination {
    /// The address that it was going to, if that is another than the listener's own or may be.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Destination::Redirected(address) | Destination::Transparent(address) => Some(*address),
            Destination::Direct | Destination::Missing => None,
        }
    }
}

/// A way to find out the original destination of an accepted connection.
///
/// Also implemented for closures, so that tests and other platforms' hooks can bring their own:
///
/// ```
/// use std::os::fd::BorrowedFd;
/// use evenkeel::original_dst::{Destination, OriginalDestination};
///
/// let always = |_: BorrowedFd<'_>| Ok(Destination::Redirected(([192, 0, 2, 1], 80).into()));
/// fn takes_any(_: impl OriginalDestination) {}
/// takes_any(always);
/// ```
pub trait OriginalDestination: Send + Sync {
    /// Called once for each connection, on the shard that carries it, before anything is read. It must not block.
    ///
    /// # Errors
    /// Only where the question itself could not be asked. That nothing is known is [`Destination::Missing`].
    fn lookup(&self, connection: BorrowedFd<'_>) -> io::Result<Destination>;
}

impl<F> OriginalDestination for F
where
    F: Fn(BorrowedFd<'_>) -> io::Result<Destination> + Send + Sync,
{
    fn lookup(&self, connection: BorrowedFd<'_>) -> io::Result<Destination> {
        self(connection)
    }
}

/// For listeners that REDIRECT or DNAT rules send connections to: [`lookup`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Redirect;

impl OriginalDestination for Redirect {
    fn lookup(&self, connection: BorrowedFd<'_>) -> io::Result<Destination> {
        lookup(connection)
    }
}

/// For listeners that TPROXY rules send connections to: [`lookup_transparent`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Transparent;

impl OriginalDestination for Transparent {
    fn lookup(&self, connection: BorrowedFd<'_>) -> io::Result<Destination> {
        lookup_transparent(connection)
    }
}

/// Asks connection tracking where an accepted connection was going before a rule redirected it. Two system calls.
///
/// Gives [`Destination::Redirected`], [`Destination::Direct`] or [`Destination::Missing`]; never ask on a transparent
/// socket (see the [module](self)). Connection tracking is asked in its default zone, by the addresses that the socket
/// has now: a connection that is redirected between two zones is not found. IPv4 connections to an IPv6 socket are
/// looked up as IPv4, which is how they are tracked.
///
/// # Errors
/// What getsockname(2) and getsockopt(2) say of a descriptor that is no socket, `EPERM` of a seccomp filter, and the
/// like.
pub fn lookup(connection: impl AsFd) -> io::Result<Destination> {
    let connection = connection.as_fd();
    let Some(local) = local_address(connection)? else { return Ok(Destination::Missing) };
    let original = match local {
        SocketAddr::V4(_) => sockopt::ip_original_dst(connection).map(SocketAddr::V4),
        SocketAddr::V6(_) => sockopt::ipv6_original_dst(connection).map(SocketAddr::V6),
    };
    match original {
        Ok(original) if is_same(canonical(original), local) => Ok(Destination::Direct),
        Ok(original) => Ok(Destination::Redirected(canonical(original))),
        Err(error) if is_unknown(error) => Ok(Destination::Missing),
        Err(error) => Err(error.into()),
    }
}

/// Takes the local address of a connection that a transparent listener accepted for its destination. One system call.
///
/// Gives [`Destination::Transparent`], or [`Destination::Missing`] for a socket that is not TCP/IP.
///
/// # Errors
/// What getsockname(2) says of a descriptor that is no socket.
pub fn lookup_transparent(connection: impl AsFd) -> io::Result<Destination> {
    let local = local_address(connection.as_fd())?;
    Ok(local.map_or(Destination::Missing, Destination::Transparent))
}

/// The canonical local address; `None` where the socket is not IP.
fn local_address(connection: BorrowedFd<'_>) -> io::Result<Option<SocketAddr>> {
    let address = getsockname(connection)?;
    Ok(SocketAddr::try_from(address).ok().map(canonical))
}

/// ENOENT: no entry. ENOPROTOOPT: not TCP, or no connection tracking in this network namespace. EOPNOTSUPP: the kernel
/// has no such option at all.
fn is_unknown(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOPROTOOPT | Errno::OPNOTSUPP)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::from((v4, address.port())),
        IpAddr::V6(_) => address,
    }
}

/// Compares without the scope of a link-local address, which the kernel's two answers need not both carry.
fn is_same(a: SocketAddr, b: SocketAddr) -> bool {
    (a.ip(), a.port()) == (b.ip(), b.port())
}

/// Tells whether a connection to some address would arrive at this proxy itself.
///
/// Made of the addresses that the proxy's own sockets are really bound to, and of this host's addresses: those of one
/// moment, or watched, so that one which the host is given later is known before the first connection to it. Another
/// host's address is never a loop, whatever the port: a neighbour's proxy listens on the same one.
///
/// Ask for the address that a connection is about to be made to. Where its connections are themselves redirected back
/// to the proxy, by rules that do not exempt it, no address shows it; the rules must.
#[derive(Clone, Debug, Default)]
pub struct Loops {
    exact: HashSet<SocketAddr>,
    /// Ports bound on `0.0.0.0`, or on `[::]`, which takes IPv4 connections too.
    any_v4: HashSet<u16>,
    any_v6: HashSet<u16>,
    own: Own,
}

/// Where the host's addresses are looked up.
#[derive(Clone, Debug)]
enum Own {
    AsTheyWere(OwnAddresses),
    AsTheyAre(Arc<WatchedAddresses>),
}

impl Default for Own {
    fn default() -> Self {
        Own::AsTheyWere(OwnAddresses::default())
    }
}

impl Own {
    /// A loop that is not seen does harm without end, so an address that cannot be told counts as the host's.
    fn may_contain(&self, address: IpAddr) -> bool {
        match self {
            Own::AsTheyWere(own) => own.contains(address),
            Own::AsTheyAre(own) => own.contains(address) != Some(false),
        }
    }
}

impl Loops {
    /// `bound` are the local addresses of the listening sockets, as the kernel gives them. Those of `[::]` are taken to
    /// accept IPv4 as well, as this crate's do.
    pub fn new(bound: impl IntoIterator<Item = SocketAddr>, own: OwnAddresses) -> Self {
        Loops::of(bound, Own::AsTheyWere(own))
    }

    /// The same, with the host's addresses as they are whenever it is asked. Where they cannot be read, an address that
    /// is not known counts as the host's.
    pub fn watching(
        bound: impl IntoIterator<Item = SocketAddr>,
        own: Arc<WatchedAddresses>,
    ) -> Self {
        Loops::of(bound, Own::AsTheyAre(own))
    }

    fn of(bound: impl IntoIterator<Item = SocketAddr>, own: Own) -> Self {
        let mut loops = Loops { own, ..Loops::default() };
        for address in bound.into_iter().map(canonical) {
            let port = address.port();
            match address.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => {
                    loops.any_v4.insert(port);
                }
                IpAddr::V6(ip) if ip.is_unspecified() => {
                    loops.any_v4.insert(port);
                    loops.any_v6.insert(port);
                }
                ip => {
                    loops.exact.insert(SocketAddr::new(ip, port));
                }
            }
        }
        loops
    }

    /// Whether connecting to `destination` would reach one of the bound sockets. The host's addresses are asked only
    /// about a port that is bound on all of them.
    pub fn is_loop(&self, destination: SocketAddr) -> bool {
        let (ip, port) = (destination.ip().to_canonical(), destination.port());
        let (ip, any) = match ip {
            // connect(2) takes the unspecified address for the loopback address.
            IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST.into(), &self.any_v4),
            IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST.into(), &self.any_v6),
            ip @ IpAddr::V4(_) => (ip, &self.any_v4),
            ip @ IpAddr::V6(_) => (ip, &self.any_v6),
        };
        self.exact.contains(&SocketAddr::new(ip, port))
            || (any.contains(&port) && self.own.may_contain(ip))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        net::{TcpListener, TcpStream, UdpSocket},
        os::unix::net::UnixStream,
    };

    use super::*;

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    fn loops(bound: &[&str]) -> Loops {
        let own = ["10.0.0.7", "2001:db8::7"].map(|ip| ip.parse().unwrap());
        Loops::new(bound.iter().map(|address| at(address)), own.into_iter().collect())
    }

    #[test]
    fn a_connection_to_our_own_socket_is_a_loop_and_others_are_not() {
        for (bound, destination, is_loop) in [
            ("0.0.0.0:15006", "10.0.0.7:15006", true),
            ("0.0.0.0:15006", "127.0.0.6:15006", true),
            ("0.0.0.0:15006", "0.0.0.0:15006", true),
            ("0.0.0.0:15006", "[::ffff:10.0.0.7]:15006", true),
            ("0.0.0.0:15006", "10.0.0.8:15006", false),
            ("0.0.0.0:15006", "10.0.0.7:15001", false),
            ("0.0.0.0:15006", "[2001:db8::7]:15006", false),
            ("[::]:15006", "10.0.0.7:15006", true),
            ("[::]:15006", "[2001:db8::7]:15006", true),
            ("[::]:15006", "[::1]:15006", true),
            ("[::]:15006", "[2001:db8::8]:15006", false),
            ("127.0.0.1:15001", "127.0.0.1:15001", true),
            ("127.0.0.1:15001", "0.0.0.0:15001", true),
            ("127.0.0.1:15001", "[::ffff:127.0.0.1]:15001", true),
            ("127.0.0.1:15001", "127.0.0.2:15001", false),
            ("127.0.0.1:15001", "10.0.0.7:15001", false),
            ("[::1]:15001", "[::]:15001", true),
            ("[::ffff:127.0.0.1]:15001", "127.0.0.1:15001", true),
            ("[fe80::1%3]:80", "[fe80::1%4]:80", true),
        ] {
            assert_eq!(loops(&[bound]).is_loop(at(destination)), is_loop, "{bound} {destination}");
        }
        assert!(!loops(&[]).is_loop(at("127.0.0.1:80")));
    }

    #[test]
    fn a_plain_loopback_connection_is_not_redirected() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _client = TcpStream::connect(address).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        // Direct where this machine tracks connections, missing where it does not.
        let found = lookup(&accepted).unwrap();
        assert!(matches!(found, Destination::Direct | Destination::Missing), "{found:?}");
        assert_eq!(found.address(), None);
        assert_eq!(lookup_transparent(&accepted).unwrap(), Destination::Transparent(address));
    }

    #[test]
    fn sockets_that_are_not_tcp_have_no_destination() {
        let (unix, _other) = UnixStream::pair().unwrap();
        assert_eq!(lookup(&unix).unwrap(), Destination::Missing);
        assert_eq!(lookup_transparent(&unix).unwrap(), Destination::Missing);
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(lookup(&udp).unwrap(), Destination::Missing);
    }

    #[test]
    fn a_descriptor_that_is_no_socket_is_an_error() {
        let file = File::open("/dev/null").unwrap();
        assert_eq!(lookup(&file).unwrap_err().raw_os_error(), Some(libc::ENOTSOCK));
        assert!(lookup_transparent(&file).is_err());
    }

    #[test]
    fn every_way_fits_behind_the_trait() {
        let always = |_: BorrowedFd<'_>| Ok(Destination::Direct);
        let ways: [Box<dyn OriginalDestination>; 3] =
            [Box::new(Redirect), Box::new(Transparent), Box::new(always)];
        let (unix, _other) = UnixStream::pair().unwrap();
        let found = ways.map(|way| way.lookup(unix.as_fd()).unwrap());
        assert_eq!(found, [Destination::Missing, Destination::Missing, Destination::Direct]);
    }
}
