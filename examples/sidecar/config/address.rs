//! The addresses of a configuration: where to listen, what to match, where to connect from and to,
//! which CPUs. In: text. Out: typed values that display as what was written, or what is wrong with
//! them. Resolves no names and asks the system nothing.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{fd::RawFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use serde::{Serialize, Serializer};

/// The longest path of a Unix-domain socket, in bytes: `sun_path` less its final zero (unix(7)).
const LONGEST_SOCKET_PATH: usize = 107;

/// One more than the highest CPU number that can be written: what a `cpu_set_t` holds
/// (sched_setaffinity(2)).
const CPU_NUMBERS: usize = 1024;

/// Where an accepting listener gets its socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Bind {
    /// `ip:port`, `[v6]:port`; port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// `unix:/path`, absolute.
    Unix(PathBuf),
    /// `fd:3`: a listening socket that the process was started with (systemd counts from 3).
    Inherited(RawFd),
}

impl Bind {
    /// `directory` is what a relative path of a Unix-domain socket is relative to.
    pub(super) fn parse(text: &str, directory: &Path) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return socket_path(path, directory).map(Self::Unix);
        }
        if let Some(number) = text.strip_prefix("fd:") {
            return match number.parse::<RawFd>() {
                Ok(fd) if fd > 2 => Ok(Self::Inherited(fd)),
                _ => {
                    Err(format!("\"{text}\" is not an inherited socket: write \"fd:3\" or higher"))
                }
            };
        }
        if let Some(port) = text.strip_prefix("*:") {
            return Err(format!(
                "\"{text}\" is a pattern, not an address: write \"0.0.0.0:{port}\" or \"[::]:{port}\""
            ));
        }
        socket_address(text).map(Self::Tcp)
    }

    pub(super) fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    /// Whether the socket can only have IPv4 peers.
    pub(super) fn is_v4(&self) -> bool {
        matches!(self, Self::Tcp(SocketAddr::V4(_)))
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Inherited(fd) => write!(f, "fd:{fd}"),
        }
    }
}

impl Serialize for Bind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Which original destinations a destination listener takes. An exact address goes before a wildcard
/// of its family, and that before the wildcard of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Pattern {
    /// `ip:port`. IPv4-mapped IPv6 addresses are held as IPv4.
    Address(SocketAddr),
    /// `0.0.0.0:port`: this port at any IPv4 address.
    AnyV4(u16),
    /// `[::]:port`: this port at any IPv6 address.
    AnyV6(u16),
    /// `*:port`: this port at any address.
    Any(u16),
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let pattern = match text.strip_prefix("*:") {
            Some(port) => Self::Any(
                port.parse().map_err(|_| format!("\"{port}\" is not a port from 1 to 65535"))?,
            ),
            None => match canonical(socket_address(text)?) {
                SocketAddr::V4(v4) if v4.ip().is_unspecified() => Self::AnyV4(v4.port()),
                SocketAddr::V6(v6) if v6.ip().is_unspecified() => Self::AnyV6(v6.port()),
                address => Self::Address(address),
            },
        };
        match pattern.port() {
            0 => Err("port 0 is never a destination: write a port from 1 to 65535".into()),
            _ => Ok(pattern),
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::AnyV4(port) | Self::AnyV6(port) | Self::Any(port) => port,
        }
    }

    /// Whether only IPv6 destinations can fit.
    pub(super) fn is_v6_only(self) -> bool {
        matches!(self, Self::AnyV6(_) | Self::Address(SocketAddr::V6(_)))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::AnyV4(port) => write!(f, "0.0.0.0:{port}"),
            Self::AnyV6(port) => write!(f, "[::]:{port}"),
            Self::Any(port) => write!(f, "*:{port}"),
        }
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The source addresses of outgoing connections, one a family; `None` leaves it to the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) v4: Option<Ipv4Addr>,
    pub(crate) v6: Option<Ipv6Addr>,
}

impl Source {
    /// What inbound passthrough connections are sent from. Istio's redirect rules let these two
    /// addresses pass; from any other, a connection of the sidecar to its own pod address comes back
    /// to the inbound listener for ever.
    pub(crate) const INBOUND: Self = Self {
        v4: Some(Ipv4Addr::new(127, 0, 0, 6)),
        v6: Some(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6)),
    };

    /// The addresses that are set, IPv4 first.
    pub(crate) fn addresses(self) -> impl Iterator<Item = IpAddr> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6))
    }

    /// Sets the address of one family. An error if it is set already or says nothing.
    pub(super) fn add(&mut self, text: &str) -> Result<(), String> {
        let ip: IpAddr = text.parse().map_err(|_| {
            format!(
                "\"{text}\" is not an IP address (a source has no port; the kernel chooses one)"
            )
        })?;
        if ip.is_unspecified() || ip.is_multicast() {
            return Err(format!(
                "connections cannot come from {ip}: leave it out, or write \"off\""
            ));
        }
        let taken = match ip.to_canonical() {
            IpAddr::V4(v4) => self.v4.replace(v4).is_some(),
            IpAddr::V6(v6) => self.v6.replace(v6).is_some(),
        };
        match taken {
            true => Err("has two addresses of one family: one of each is possible".into()),
            false => Ok(()),
        }
    }
}

/// `"off"`, an address, or an array with one of each family.
impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.v4, self.v6) {
            (None, None) => serializer.serialize_str("off"),
            (Some(_), Some(_)) => serializer.collect_seq(self.addresses()),
            _ => self.addresses().next().serialize(serializer),
        }
    }
}

/// CPU numbers in the order they were written, each once, at least one. Displays as `0-3,8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CpuList(Vec<usize>);

impl CpuList {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |part: &str| {
            format!(
                "\"{part}\" is not a CPU or a range of CPUs: write numbers from 0 to {}, as in \
                 \"0-3,8\"",
                CPU_NUMBERS - 1
            )
        };
        let cpu = |digits: &str| digits.parse().ok().filter(|cpu: &usize| *cpu < CPU_NUMBERS);
        let mut cpus = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Some(first), Some(last)) = (cpu(first), cpu(last)) else {
                return Err(wrong(part));
            };
            if first > last {
                return Err(format!("\"{part}\" runs backwards: write \"{last}-{first}\""));
            }
            for cpu in first..=last {
                if cpus.contains(&cpu) {
                    return Err(format!("CPU {cpu} is listed twice: a CPU runs one shard"));
                }
                cpus.push(cpu);
            }
        }
        Ok(Self(cpus))
    }

    pub(crate) fn cpus(&self) -> &[usize] {
        &self.0
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, run) in self.0.chunk_by(|before, after| before + 1 == *after).enumerate() {
            let comma = if n == 0 { "" } else { "," };
            match run {
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [only] => write!(f, "{comma}{only}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

impl Serialize for CpuList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An `ip:port`, with a hint for each common way to get it wrong.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Ok(ip) = text.parse::<Ipv4Addr>() {
        return Err(format!("\"{text}\" has no port: write one, as in \"{ip}:8080\""));
    }
    if let Some(port) = text.strip_prefix(':').filter(|port| port.parse::<u16>().is_ok()) {
        return Err(format!("\"{text}\" has no address: write it, as in \"127.0.0.1:{port}\""));
    }
    match text.rsplit_once(':') {
        Some((ip, port)) if ip.parse::<Ipv6Addr>().is_ok() => {
            Err(format!("an IPv6 address stands in brackets: write \"[{ip}]:{port}\""))
        }
        _ if text.parse::<Ipv6Addr>().is_ok() => {
            Err(format!("\"{text}\" has no port: write one, as in \"[{text}]:8080\""))
        }
        Some((ip, port)) if ip.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() => {
            Err(format!("\"{port}\" is not a port from 0 to 65535"))
        }
        _ => Err(format!(
            "\"{text}\" is not an address: write ip:port, as in \"127.0.0.1:8080\" or \"[::1]:8080\""
        )),
    }
}

/// The address an upstream connection goes to.
pub(super) fn endpoint(text: &str) -> Result<SocketAddr, String> {
    let address = canonical(socket_address(text)?);
    if address.port() == 0 {
        return Err("port 0 cannot be connected to: write a port from 1 to 65535".into());
    }
    if address.ip().is_unspecified() || address.ip().is_multicast() {
        return Err(format!("{} cannot be connected to: write one host's address", address.ip()));
    }
    Ok(address)
}

/// Whether this is `name:port` with a host name rather than an address.
pub(super) fn is_host_name(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        port.parse::<u16>().is_ok()
            && host.chars().all(label)
            && host.contains(|c: char| c.is_ascii_alphabetic())
    })
}

/// The address with an IPv4-mapped IPv6 address turned into IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    }
}

fn socket_path(path: &str, directory: &Path) -> Result<PathBuf, String> {
    if path.is_empty() {
        return Err("\"unix:\" has no path: write \"unix:/run/evenkeel.sock\"".into());
    }
    if path.starts_with('@') {
        return Err("abstract Unix-domain sockets are not supported: write a path".into());
    }
    if path.contains('\0') {
        return Err("a path cannot contain a zero byte".into());
    }
    let path = directory.join(path);
    match path.as_os_str().as_bytes().len() {
        length if length > LONGEST_SOCKET_PATH => Err(format!(
            "{} has {length} bytes; the path of a Unix-domain socket has at most \
             {LONGEST_SOCKET_PATH}",
            path.display()
        )),
        _ => Ok(path),
    }
}
