//! Listening sockets.
//!
//! **In**: a [`BindAddress`] as a user writes it, and [`ListenOptions`]. **Out**: a [`ListeningSocket`] that is
//! in blocking mode (a ring waits by itself), closed on exec, and accepts connections. **Owns** the descriptor, and the file of a unix socket, which
//! goes with it. **Never** takes an address away from a process that still listens on it.

use std::{
    error::Error,
    fmt, fs, io,
    net::SocketAddr,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    str::FromStr,
};

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::{FdFlags, fcntl_dupfd_cloexec, fcntl_getfd, fcntl_setfd},
    net::{SocketType, sockopt},
};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

/// Where to listen: `ip:port`, `[v6]:port`, `unix:/path`, or `fd:N` for a socket that this process inherited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BindAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// A file descriptor number, 3 or above.
    Inherited(RawFd),
}

/// The text is none of the forms of a [`BindAddress`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BindAddressError(String);

impl fmt::Display for BindAddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BindAddressError(text) = self;
        write!(
            f,
            "`{text}` is not an address to listen on; write ip:port, [ipv6]:port, unix:/path, or fd:N with N of 3 \
             or more"
        )
    }
}

impl Error for BindAddressError {}

impl FromStr for BindAddress {
    type Err = BindAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = if let Some(path) = text.strip_prefix("unix:") {
            (!path.is_empty() && !path.contains('\0')).then(|| BindAddress::Unix(path.into()))
        } else if let Some(number) = text.strip_prefix("fd:") {
            let digits = number.bytes().all(|b| b.is_ascii_digit());
            let fd = number.parse().ok().filter(|fd| digits && *fd >= 3);
            fd.map(BindAddress::Inherited)
        } else {
            text.parse().ok().map(BindAddress::Tcp)
        };
        address.ok_or_else(|| BindAddressError(text.to_owned()))
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindAddress::Tcp(address) => address.fmt(f),
            BindAddress::Unix(path) => write!(f, "unix:{}", path.display()),
            BindAddress::Inherited(fd) => write!(f, "fd:{fd}"),
        }
    }
}

/// How a listening socket is made. None of it applies to an inherited socket, whose maker has decided.
#[derive(Clone, Debug)]
pub(crate) struct ListenOptions {
    /// Connections that may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
    pub(crate) backlog: i32,
    /// SO_REUSEPORT: several sockets share the address, and the kernel deals connections out to them.
    pub(crate) reuse_port: bool,
    /// IP_TRANSPARENT, IPV6_TRANSPARENT: the socket takes connections that a TPROXY rule sends it, whatever address
    /// they are for. Needs CAP_NET_ADMIN.
    pub(crate) transparent: bool,
}

impl Default for ListenOptions {
    /// As long a backlog as the kernel gives, and nothing else.
    fn default() -> Self {
        ListenOptions { backlog: i32::MAX, reuse_port: false, transparent: false }
    }
}

/// What was being done when listening failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListenStep {
    CreateSocket,
    ReuseAddress,
    ReusePort,
    DualStack,
    Transparent,
    /// Finding out whether a socket file that is in the way still has a listener, and removing it.
    RemoveStaleFile,
    Bind,
    Listen,
    /// Checking a file descriptor that this process inherited.
    Inherit,
}

/// Listening failed: where, at which step, and why.
#[derive(Debug)]
pub(crate) struct ListenError {
    pub(crate) address: BindAddress,
    pub(crate) step: ListenStep,
    pub(crate) source: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ListenError { address, step, source } = self;
        let step = match step {
            ListenStep::CreateSocket => "create a socket",
            ListenStep::ReuseAddress => "set SO_REUSEADDR",
            ListenStep::ReusePort => "set SO_REUSEPORT",
            ListenStep::DualStack => "clear IPV6_V6ONLY",
            ListenStep::Transparent => "make the socket transparent",
            ListenStep::RemoveStaleFile => "replace the socket file that is there",
            ListenStep::Bind => "bind",
            ListenStep::Listen => "listen",
            ListenStep::Inherit => "use the inherited file descriptor",
        };
        write!(f, "cannot listen on {address}: {step}: {source}")?;
        match self.remedy() {
            Some(remedy) => write!(f, " ({remedy})"),
            None => Ok(()),
        }
    }
}

impl Error for ListenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

impl ListenError {
    /// What to do about it, where that is known.
    pub(crate) fn remedy(&self) -> Option<&'static str> {
        use io::ErrorKind::*;
        let is_tcp = matches!(self.address, BindAddress::Tcp(_));
        match (self.step, self.source.kind()) {
            (ListenStep::Bind | ListenStep::Listen, AddrInUse) if is_tcp => {
                Some("another socket listens there: `ss -ltnp` shows whose")
            }
            (ListenStep::Bind | ListenStep::RemoveStaleFile, AddrInUse) => {
                Some("another process listens on this file, or it is not a socket")
            }
            (ListenStep::Bind, PermissionDenied) if is_tcp => Some(
                "ports below net.ipv4.ip_unprivileged_port_start, 1024 unless set, need CAP_NET_BIND_SERVICE",
            ),
            (ListenStep::Bind, AddrNotAvailable) => Some("no interface has this address"),
            (ListenStep::Bind, PermissionDenied | NotFound) => {
                Some("the directory must exist and be writable")
            }
            (ListenStep::Transparent, PermissionDenied) => {
                Some("needs CAP_NET_ADMIN, or redirect instead of TPROXY")
            }
            (ListenStep::Inherit, InvalidInput) => {
                Some("it must be a stream socket that already listens, as systemd passes them")
            }
            (ListenStep::Inherit, _) => Some("no such descriptor was passed to this process"),
            _ => None,
        }
    }
}

/// The address that a socket really listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LocalAddress {
    /// With the port that the kernel chose, where 0 was asked for.
    Tcp(SocketAddr),
    /// `None` for a socket without a path (an abstract or unnamed one, inherited).
    Unix(Option<PathBuf>),
}

impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LocalAddress::Tcp(address) => address.fmt(f),
            LocalAddress::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
            LocalAddress::Unix(None) => f.write_str("unix:(no path)"),
        }
    }
}

/// A socket that listens. Dropping it closes the descriptor, and removes the file of a unix socket that it made.
#[derive(Debug)]
pub(crate) struct ListeningSocket {
    fd: OwnedFd,
    local: LocalAddress,
    inherited: bool,
    // Declared last: the file goes after the descriptor, so whoever finds it finds that nobody listens.
    _file: Option<SocketFile>,
}

impl ListeningSocket {
    pub(crate) fn local_address(&self) -> &LocalAddress {
        &self.local
    }

    /// Whether others may hold the same socket. Such a socket goes on listening when this descriptor is closed, and
    /// what is changed on it is changed for them too.
    pub(crate) fn is_inherited(&self) -> bool {
        self.inherited
    }

    /// Makes a TCP socket transparent, which needs CAP_NET_ADMIN, or ends that, for the connections that it accepts from
    /// now on (IP_TRANSPARENT in ip(7)). Another kind of socket stays as it is.
    pub(crate) fn set_transparent(&self, transparent: bool) -> io::Result<()> {
        let socket = SockRef::from(&self.fd);
        match self.local {
            LocalAddress::Tcp(SocketAddr::V4(_)) => socket.set_ip_transparent_v4(transparent),
            LocalAddress::Tcp(SocketAddr::V6(_)) => socket.set_ip_transparent_v6(transparent),
            LocalAddress::Unix(_) => Ok(()),
        }
    }
}

impl AsFd for ListeningSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Begins to listen.
///
/// An IPv6 address listens for IPv4 connections too where it is the wildcard. SO_REUSEADDR is set, so that connections
/// of an earlier process in TIME_WAIT do not stand in the way. A unix socket file that nobody listens on is replaced;
/// two processes that do this at the same moment may both succeed, and the later one has the file.
///
/// An inherited descriptor is duplicated and the original is left open (but closed on exec): the number can be used
/// again after a reload. O_NONBLOCK is taken off it, and so for every process that shares the socket.
pub(crate) fn listen(
    address: &BindAddress,
    options: &ListenOptions,
) -> Result<ListeningSocket, ListenError> {
    let result = match address {
        BindAddress::Tcp(tcp) => listen_tcp(*tcp, options),
        BindAddress::Unix(path) => listen_unix(path, options),
        BindAddress::Inherited(fd) => inherit(*fd).at(ListenStep::Inherit),
    };
    result.map_err(|(step, source)| ListenError { address: address.clone(), step, source })
}

type Step<T> = Result<T, (ListenStep, io::Error)>;

trait At<T> {
    fn at(self, step: ListenStep) -> Step<T>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, step: ListenStep) -> Step<T> {
        self.map_err(|error| (step, error.into()))
    }
}

fn listen_tcp(address: SocketAddr, options: &ListenOptions) -> Step<ListeningSocket> {
    let socket = new_socket(Domain::for_address(address))?;
    socket.set_reuse_address(true).at(ListenStep::ReuseAddress)?;
    if options.reuse_port {
        socket.set_reuse_port(true).at(ListenStep::ReusePort)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(false).at(ListenStep::DualStack)?;
    }
    if options.transparent {
        let set = match address {
            SocketAddr::V4(_) => socket.set_ip_transparent_v4(true),
            SocketAddr::V6(_) => socket.set_ip_transparent_v6(true),
        };
        set.at(ListenStep::Transparent)?;
    }
    socket.bind(&address.into()).at(ListenStep::Bind)?;
    socket.listen(options.backlog).at(ListenStep::Listen)?;
    finish(socket, false, None)
}

fn listen_unix(path: &Path, options: &ListenOptions) -> Step<ListeningSocket> {
    let address = SockAddr::unix(path).at(ListenStep::Bind)?;
    let socket = new_socket(Domain::UNIX)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_if_stale(path, &address).at(ListenStep::RemoveStaleFile)?;
            socket.bind(&address).at(ListenStep::Bind)?;
        }
        bound => bound.at(ListenStep::Bind)?,
    }
    let file = SocketFile::at(path).at(ListenStep::Bind)?;
    socket.listen(options.backlog).at(ListenStep::Listen)?;
    finish(socket, false, Some(file))
}

fn new_socket(domain: Domain) -> Step<Socket> {
    Socket::new(domain, Type::STREAM.cloexec(), None).at(ListenStep::CreateSocket)
}

fn finish(socket: Socket, inherited: bool, file: Option<SocketFile>) -> Step<ListeningSocket> {
    let address = socket.local_addr().at(ListenStep::Listen)?;
    let local = match address.as_socket() {
        Some(tcp) => LocalAddress::Tcp(tcp),
        None => LocalAddress::Unix(address.as_pathname().map(Path::to_owned)),
    };
    Ok(ListeningSocket { fd: socket.into(), local, inherited, _file: file })
}

/// Removes the socket file at `path`, unless it is not a socket or someone listens on it.
fn remove_if_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    let in_use = io::Error::from(io::ErrorKind::AddrInUse);
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(in_use);
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM.cloexec().nonblocking(), None)?;
    match probe.connect(address) {
        // Only this answer says that nobody listens; EAGAIN, for one, says that the listener's queue is full.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Err(in_use),
    }
}

fn inherit(number: RawFd) -> io::Result<ListeningSocket> {
    // SAFETY: the borrow ends with this function, whose calls answer EBADF where the number is not open and harm
    // nothing where it is something else. That it stays open meanwhile is what the user promised by naming it.
    let original = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = fcntl_getfd(original)?;
    let listens = sockopt::socket_acceptconn(original).unwrap_or(false);
    let streams = sockopt::socket_type(original).is_ok_and(|kind| kind == SocketType::STREAM);
    if !(listens && streams) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a listening stream socket"));
    }
    fcntl_setfd(original, flags | FdFlags::CLOEXEC)?;
    let fd = fcntl_dupfd_cloexec(original, 3)?;
    fcntl_setfl(&fd, fcntl_getfl(&fd)? - OFlags::NONBLOCK)?;
    finish(fd.into(), true, None).map_err(|(_, error)| error)
}

/// The file of a unix socket, removed at the end unless somebody else has put another one in its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        // The process may change its directory before the end.
        let path = std::path::absolute(path)?;
        let identity = Self::identity(&path)?;
        Ok(SocketFile { path, identity })
    }

    /// Device and inode.
    fn identity(path: &Path) -> io::Result<(u64, u64)> {
        let file = fs::symlink_metadata(path)?;
        Ok((file.dev(), file.ino()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if Self::identity(&self.path).is_ok_and(|found| found == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests;
