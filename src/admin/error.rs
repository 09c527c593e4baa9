//! What can keep the admin server from starting.

use std::io;
use std::net::SocketAddr;

/// Why the admin server did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// An address could not be listened on.
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The eventfd that stops the server, or the descriptor in reserve, could not be made.
    Descriptor(io::Error),
    /// The accepting thread could not be started.
    Thread(io::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bind { address, source } => {
                write!(f, "admin: cannot listen on {address}: {source}")?;
                match bind_remedy(address, source) {
                    Some(remedy) => write!(f, "; {remedy}"),
                    None => Ok(()),
                }
            }
            Self::Descriptor(source) => write!(
                f,
                "admin: cannot make an eventfd: {source}; raise the limit of open files (ulimit -n)"
            ),
            Self::Thread(source) => write!(
                f,
                "admin: cannot start a thread: {source}; raise the limit of processes (ulimit -u, \
                 pids.max of the cgroup)"
            ),
        }
    }
}

fn bind_remedy(address: &SocketAddr, source: &io::Error) -> Option<String> {
    let port = address.port();
    match source.kind() {
        io::ErrorKind::AddrInUse => Some(format!(
            "another socket has it (`ss -ltnp 'sport = :{port}'` shows whose): end that or choose \
             another port"
        )),
        io::ErrorKind::AddrNotAvailable => {
            Some(format!("no interface of this host has the address {}", address.ip()))
        }
        io::ErrorKind::PermissionDenied => Some(format!(
            "port {port} needs CAP_NET_BIND_SERVICE: choose one from 1024 on or grant it"
        )),
        _ => None,
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind { source, .. } | Self::Descriptor(source) | Self::Thread(source) => {
                Some(source)
            }
        }
    }
}
