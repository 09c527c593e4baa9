//! TCP sockets that carry connections: those to upstreams, made and ready to connect, and those that were accepted.
//!
//! **In**: a destination and [`UpstreamOptions`], or an accepted socket and [`DownstreamOptions`]. **Out**: options set
//! on the socket. **Never** connects: that is the ring's.

use std::{
    error::Error,
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::socket::{setsockopt, sockopt::IpBindAddressNoPort},
};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// TCP keepalive: how a peer that vanished without a word is found out. How many probes it has to leave
/// unanswered, and how far apart they are, is the host's affair (9 and 75 s, tcp(7)): to say it again for each
/// connection to an upstream takes a system call each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keepalive {
    /// Silence before the first probe. Whole seconds, at least 1.
    pub(crate) idle: Duration,
}

impl Default for Keepalive {
    /// A vanished peer is found out after 180 s + 9 × 75 s, about 14 minutes, at the cost of one probe every three
    /// minutes.
    fn default() -> Self {
        Keepalive { idle: Duration::from_secs(180) }
    }
}

/// Which address a connection to an upstream comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Source {
    /// The one that the routing table says.
    #[default]
    Routed,
    /// These addresses, by the destination's family; a family without one is routed. The port is chosen when the
    /// socket connects, so that one port serves many destinations (IP_BIND_ADDRESS_NO_PORT in ip(7)).
    Addresses { v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr> },
    /// An address that need not be this host's, as a rule the client's own (IP_TRANSPARENT in ip(7)); port 0 is chosen
    /// when the socket connects. Needs CAP_NET_ADMIN, and routes that bring the answers back here.
    Transparent(SocketAddr),
}

/// How a socket to an upstream is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UpstreamOptions {
    pub(crate) source: Source,
    /// SO_MARK, for firewall and routing rules to see. Needs CAP_NET_ADMIN.
    pub(crate) mark: Option<u32>,
    /// TCP_NODELAY: small messages are sent at once.
    pub(crate) nodelay: bool,
    pub(crate) keepalive: Option<Keepalive>,
    /// TCP_USER_TIMEOUT, in whole milliseconds. It also ends a connection whose peer is alive but reads nothing for as
    /// long.
    pub(crate) user_timeout: Option<Duration>,
}

impl Default for UpstreamOptions {
    fn default() -> Self {
        UpstreamOptions {
            source: Source::Routed,
            mark: None,
            nodelay: true,
            keepalive: Some(Keepalive::default()),
            user_timeout: None,
        }
    }
}

/// What is set on an accepted connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DownstreamOptions {
    /// TCP_NODELAY: small messages are sent at once.
    pub(crate) nodelay: bool,
    pub(crate) keepalive: Option<Keepalive>,
}

impl Default for DownstreamOptions {
    fn default() -> Self {
        DownstreamOptions { nodelay: true, keepalive: Some(Keepalive::default()) }
    }
}

/// Who waits for a socket that cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The kernel: a ring waits by itself, and gives EAGAIN for a socket that does not block.
    Blocking,
    /// Whoever calls it.
    Nonblocking,
}

/// What was being done when a socket to an upstream could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DialStep {
    CreateSocket,
    Mark,
    Options,
    Transparent,
    /// Binding to this source.
    Bind(SocketAddr),
}

/// A socket to an upstream could not be made: for where, at which step, and why.
#[derive(Debug)]
pub(crate) struct DialError {
    pub(crate) destination: SocketAddr,
    pub(crate) step: DialStep,
    pub(crate) source: io::Error,
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DialError { destination, step, source } = self;
        write!(f, "cannot make a socket to {destination}: ")?;
        match step {
            DialStep::CreateSocket => write!(f, "create: {source}"),
            DialStep::Mark => write!(f, "set SO_MARK: {source}"),
            DialStep::Options => write!(f, "set TCP options: {source}"),
            DialStep::Transparent => write!(f, "make it transparent: {source}"),
            DialStep::Bind(address) => write!(f, "bind to {address}: {source}"),
        }?;
        match self.remedy() {
            Some(remedy) => write!(f, " ({remedy})"),
            None => Ok(()),
        }
    }
}

impl Error for DialError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

impl From<DialError> for io::Error {
    fn from(error: DialError) -> io::Error {
        io::Error::new(error.source.kind(), error)
    }
}

impl DialError {
    /// What to do about it, where that is known.
    pub(crate) fn remedy(&self) -> Option<&'static str> {
        match (self.step, self.source.kind()) {
            (DialStep::Mark | DialStep::Transparent, io::ErrorKind::PermissionDenied) => {
                Some("needs CAP_NET_ADMIN")
            }
            (DialStep::Bind(_), io::ErrorKind::AddrNotAvailable) => Some(
                "no interface has this source address; IPv6 ones such as ::6 must be added to lo, \
                 unlike those of 127.0.0.0/8",
            ),
            _ => None,
        }
    }
}

/// Makes a TCP socket for a connection to `destination`: closed on exec, bound where `options` say so, not connected.
///
/// # Errors
/// Also where a transparent source is of another family than the destination (`InvalidInput`).
pub(crate) fn upstream_socket(
    destination: SocketAddr,
    options: &UpstreamOptions,
    mode: Mode,
) -> Result<OwnedFd, DialError> {
    let made = make(destination, options, mode);
    made.map_err(|(step, source)| DialError { destination, step, source })
}

fn make(
    destination: SocketAddr,
    options: &UpstreamOptions,
    mode: Mode,
) -> Result<OwnedFd, (DialStep, io::Error)> {
    let at = |step| move |error| (step, error);
    let kind = match mode {
        Mode::Blocking => Type::STREAM.cloexec(),
        Mode::Nonblocking => Type::STREAM.cloexec().nonblocking(),
    };
    let socket = Socket::new(Domain::for_address(destination), kind, Some(Protocol::TCP))
        .map_err(at(DialStep::CreateSocket))?;
    if let Some(mark) = options.mark {
        socket.set_mark(mark).map_err(at(DialStep::Mark))?;
    }
    let tcp = DownstreamOptions { nodelay: options.nodelay, keepalive: options.keepalive };
    set_tcp(SockRef::from(&socket), &tcp).map_err(at(DialStep::Options))?;
    if options.user_timeout.is_some() {
        socket.set_tcp_user_timeout(options.user_timeout).map_err(at(DialStep::Options))?;
    }
    bind_source(&socket, destination, options.source)?;
    Ok(socket.into())
}

fn bind_source(
    socket: &Socket,
    destination: SocketAddr,
    source: Source,
) -> Result<(), (DialStep, io::Error)> {
    let address = match (source, destination) {
        (Source::Routed, _) => return Ok(()),
        (Source::Addresses { v4, .. }, SocketAddr::V4(_)) => v4.map(IpAddr::from),
        (Source::Addresses { v6, .. }, SocketAddr::V6(_)) => v6.map(IpAddr::from),
        (Source::Transparent(address), _) => {
            set_transparent(socket, destination, address)
                .map_err(|error| (DialStep::Transparent, error))?;
            return bind(socket, address);
        }
    };
    address.map_or(Ok(()), |address| bind(socket, SocketAddr::new(address, 0)))
}

fn bind(socket: &Socket, address: SocketAddr) -> Result<(), (DialStep, io::Error)> {
    let at_bind = |error| (DialStep::Bind(address), error);
    if address.port() == 0 {
        match setsockopt(socket, IpBindAddressNoPort, &true) {
            // Where it is not known (before Linux 4.2; gVisor, qemu-user), a local port serves one
            // destination at a time.
            Ok(()) | Err(Errno::ENOPROTOOPT) => {}
            Err(error) => return Err(at_bind(error.into())),
        }
    }
    socket.bind(&address.into()).map_err(at_bind)
}

fn set_transparent(socket: &Socket, destination: SocketAddr, source: SocketAddr) -> io::Result<()> {
    match (destination, source) {
        (SocketAddr::V4(_), SocketAddr::V4(_)) => socket.set_ip_transparent_v4(true),
        (SocketAddr::V6(_), SocketAddr::V6(_)) => socket.set_ip_transparent_v6(true),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the source {source} is of another address family"),
        )),
    }
}

/// Sets `options` on an accepted connection. On a unix socket, which has none of them, it does nothing.
pub(crate) fn apply_downstream(
    connection: impl AsFd,
    options: &DownstreamOptions,
) -> io::Result<()> {
    match set_tcp(SockRef::from(&connection), options) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
        result => result,
    }
}

fn set_tcp(socket: SockRef<'_>, options: &DownstreamOptions) -> io::Result<()> {
    if options.nodelay {
        socket.set_tcp_nodelay(true)?;
    }
    if let Some(Keepalive { idle }) = options.keepalive {
        let idle = idle.max(Duration::from_secs(1));
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle))?;
    }
    Ok(())
}

/// Makes closing the socket send RST instead of FIN, and throw away what has not been sent (SO_LINGER in socket(7)).
pub(crate) fn set_linger_zero(connection: impl AsFd) -> io::Result<()> {
    SockRef::from(&connection).set_linger(Some(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        net::{TcpListener, TcpStream},
        os::unix::net::UnixStream,
    };

    use rustix::{
        fs::{OFlags, fcntl_getfl},
        io::{FdFlags, fcntl_getfd},
    };

    use super::*;
    use crate::sys::limits;

    const V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);
    const V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 9);

    /// Connects through a socket made with `options`, and says which address the listener saw.
    fn seen_by_listener(options: &UpstreamOptions) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let destination = listener.local_addr()?;
        let socket = Socket::from(upstream_socket(destination, options, Mode::Blocking).unwrap());
        socket.set_nonblocking(false)?;
        socket.connect(&destination.into())?;
        Ok(listener.accept()?.1)
    }

    #[test]
    fn the_default_socket_is_ready_to_connect() {
        let modes = [Mode::Blocking, Mode::Nonblocking];
        for (destination, mode) in [V4, V6].into_iter().flat_map(|to| modes.map(|mode| (to, mode)))
        {
            let fd = upstream_socket(destination, &UpstreamOptions::default(), mode).unwrap();
            let nonblocking = fcntl_getfl(&fd).unwrap().contains(OFlags::NONBLOCK);
            assert_eq!(nonblocking, mode == Mode::Nonblocking);
            assert!(fcntl_getfd(&fd).unwrap().contains(FdFlags::CLOEXEC));
            let socket = Socket::from(fd);
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
            assert_eq!(socket.tcp_user_timeout().unwrap(), None);
            assert_eq!(socket.local_addr().unwrap().as_socket().unwrap().port(), 0);
        }
    }

    #[test]
    fn options_reach_the_socket() {
        let seconds = Duration::from_secs;
        let options = UpstreamOptions {
            nodelay: false,
            keepalive: Some(Keepalive { idle: seconds(7) }),
            user_timeout: Some(seconds(11)),
            ..UpstreamOptions::default()
        };
        let socket = Socket::from(upstream_socket(V4, &options, Mode::Blocking).unwrap());
        assert!(!socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), seconds(7));
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(seconds(11)));
    }

    #[test]
    fn a_source_address_is_what_the_listener_sees() {
        let source = Source::Addresses {
            v4: Some(Ipv4Addr::new(127, 0, 0, 6)),
            v6: Some(Ipv6Addr::LOCALHOST),
        };
        let options = UpstreamOptions { source, ..UpstreamOptions::default() };
        let seen = seen_by_listener(&options).unwrap();
        assert_eq!(seen.ip(), Ipv4Addr::new(127, 0, 0, 6));
    }

    #[test]
    fn a_family_without_a_source_is_routed() {
        let source = Source::Addresses { v4: None, v6: Some(Ipv6Addr::LOCALHOST) };
        let options = UpstreamOptions { source, ..UpstreamOptions::default() };
        assert_eq!(seen_by_listener(&options).unwrap().ip(), Ipv4Addr::LOCALHOST);
    }

    #[test]
    fn a_foreign_source_is_named_with_the_remedy() {
        let source = Source::Addresses { v4: Some(Ipv4Addr::new(192, 0, 2, 1)), v6: None };
        let options = UpstreamOptions { source, ..UpstreamOptions::default() };
        let text = upstream_socket(V4, &options, Mode::Blocking).unwrap_err().to_string();
        assert!(text.contains("127.0.0.1:9: bind to 192.0.2.1:0"), "{text}");
        assert!(text.contains("no interface has this source address"), "{text}");
    }

    #[test]
    fn a_transparent_source_is_any_address_or_a_plain_refusal() {
        let client: SocketAddr = "192.0.2.1:4321".parse().unwrap();
        let options =
            UpstreamOptions { source: Source::Transparent(client), ..UpstreamOptions::default() };
        match upstream_socket(V4, &options, Mode::Blocking) {
            Ok(fd) => {
                let local = Socket::from(fd).local_addr().unwrap();
                assert_eq!(local.as_socket(), Some(client));
            }
            Err(error) => {
                assert!(!limits::capabilities_of_thread().net_admin, "{error}");
                assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
            }
        }
        let mixed = upstream_socket(V6, &options, Mode::Blocking).unwrap_err();
        assert_eq!(mixed.step, DialStep::Transparent);
        assert_eq!(mixed.source.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_mark_is_set_or_plainly_refused() {
        let options = UpstreamOptions { mark: Some(1337), ..UpstreamOptions::default() };
        match upstream_socket(V4, &options, Mode::Blocking) {
            Ok(fd) => assert_eq!(Socket::from(fd).mark().unwrap(), 1337),
            Err(error) => {
                assert!(!limits::capabilities_of_thread().net_admin, "{error}");
                assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
            }
        }
    }

    #[test]
    fn options_of_an_accepted_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        apply_downstream(&accepted, &DownstreamOptions::default()).unwrap();
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());

        let (unix, _other) = UnixStream::pair().unwrap();
        apply_downstream(&unix, &DownstreamOptions::default()).unwrap();
    }

    #[test]
    fn closing_with_linger_zero_resets_the_peer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        set_linger_zero(&accepted).unwrap();
        drop(accepted);
        let error = client.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
