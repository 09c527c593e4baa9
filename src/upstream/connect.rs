//! Connecting to an upstream: addresses are tried in turn, each within a time that covers TLS where
//! there is any, and every attempt is counted.

#[cfg(feature = "__tls")]
use std::cell::OnceCell;
use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    net::Stream,
    runtime::timeout,
    shard::{Shard, Shared},
    sys::dial::{self, Keepalive, UpstreamOptions},
    telemetry::{ClusterCells, ConnectFailure},
};
#[cfg(feature = "__tls")]
use crate::{
    telemetry::TlsCells,
    tls::{self, ClientCredentials},
};

/// Which address upstream connections come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Source {
    /// The one that the routing table says.
    #[default]
    Routed,
    /// These, by the family of the destination; a family without one is routed.
    Addresses {
        /// For IPv4 destinations.
        v4: Option<Ipv4Addr>,
        /// For IPv6 destinations.
        v6: Option<Ipv6Addr>,
    },
    /// The client's own address, from a transparent socket (IP_TRANSPARENT). It needs
    /// CAP_NET_ADMIN, and rules that bring the answers back here.
    Client,
}

/// How upstream connections are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    pub(crate) source: Source,
    pub(crate) mark: Option<u32>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) user_timeout: Option<Duration>,
    /// What connections are TLS clients with. The time to connect covers the handshake.
    #[cfg(feature = "__tls")]
    pub(crate) tls: Option<ClientCredentials>,
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions {
            source: Source::Routed,
            mark: None,
            timeout: Some(Duration::from_secs(5)),
            keepalive: Some(Keepalive::default()),
            user_timeout: None,
            #[cfg(feature = "__tls")]
            tls: None,
        }
    }
}

impl ConnectOptions {
    fn for_client(&self, client: Option<SocketAddr>) -> UpstreamOptions {
        let source = match (self.source, client) {
            (Source::Routed, _) | (Source::Client, None) => dial::Source::Routed,
            (Source::Addresses { v4, v6 }, _) => dial::Source::Addresses { v4, v6 },
            // The client's port may be in use on this side; the kernel chooses one.
            (Source::Client, Some(client)) => {
                dial::Source::Transparent(SocketAddr::new(client.ip().to_canonical(), 0))
            }
        };
        UpstreamOptions {
            source,
            mark: self.mark,
            nodelay: true,
            keepalive: self.keepalive,
            user_timeout: self.user_timeout,
        }
    }

    /// Sets the source for the address's family.
    pub(crate) fn set_source(&mut self, address: IpAddr) {
        let (v4, v6) = match self.source {
            Source::Addresses { v4, v6 } => (v4, v6),
            Source::Routed | Source::Client => (None, None),
        };
        self.source = match address {
            IpAddr::V4(address) => Source::Addresses { v4: Some(address), v6 },
            IpAddr::V6(address) => Source::Addresses { v4, v6: Some(address) },
        };
    }
}

/// An upstream connection, counted under its cluster for as long as this lives.
pub(crate) struct Connected {
    pub(crate) stream: Stream,
    pub(crate) cells: Arc<ClusterCells>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.cells.active.add(-1);
    }
}

/// Why no upstream could be reached.
pub(crate) enum ConnectError {
    /// Every address failed; the last one so.
    Failed { address: SocketAddr, error: io::Error },
    /// An address is one of this proxy's own listeners.
    Loop,
    /// There is no address.
    NoAddress,
}

/// What could not be connected to, and why.
impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Failed { address, error } => write!(f, "{address}: {error}"),
            ConnectError::Loop => f.write_str("one of this proxy's own listeners"),
            ConnectError::NoAddress => f.write_str("an upstream without an address"),
        }
    }
}

/// What connects one shard to one cluster.
pub(crate) struct Connector {
    /// Not the shard itself, which what is kept on it must not hold.
    shared: Arc<Shared>,
    shard: usize,
    cells: Arc<ClusterCells>,
    #[cfg(feature = "__tls")]
    tls: TlsCounts,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("shard", &self.shard).finish_non_exhaustive()
    }
}

impl Connector {
    pub(crate) fn new(shard: &Shard, cluster: &Arc<str>) -> Connector {
        Connector {
            shared: Arc::clone(shard.shared()),
            shard: shard.index(),
            cells: shard.cluster(cluster),
            #[cfg(feature = "__tls")]
            tls: TlsCounts { cluster: Arc::clone(cluster), cells: OnceCell::new() },
        }
    }

    pub(crate) fn cells(&self) -> &Arc<ClusterCells> {
        &self.cells
    }

    /// Connects to the first of `addresses` that answers. `preamble` goes in front of everything else,
    /// TLS included.
    ///
    /// Dropping the future gives the attempt up.
    pub(crate) async fn connect(
        &self,
        addresses: &[SocketAddr],
        options: &ConnectOptions,
        client: Option<SocketAddr>,
        preamble: Option<&[u8]>,
    ) -> Result<Connected, ConnectError> {
        let table = self.shared.table.load_full();
        let options_for_client = options.for_client(client);
        let mut last = ConnectError::NoAddress;
        for &address in addresses {
            if table.loops.is_loop(address) {
                return Err(ConnectError::Loop);
            }
            let begun = Instant::now();
            let connected = connect_one(address, &options_for_client, options.timeout).await;
            let ready = match connected {
                Ok(mut stream) => {
                    if let Some(preamble) = preamble {
                        // A failure shows itself when more is sent.
                        let _ = stream.start_send(preamble.to_vec());
                    }
                    let left = options.timeout.map(|limit| limit.saturating_sub(begun.elapsed()));
                    self.secure(stream, options, left).await
                }
                Err((failure, error)) => {
                    self.cells.connect_failures.increment(failure);
                    Err(error)
                }
            };
            match ready {
                Ok(stream) => {
                    self.cells.connections.increment();
                    self.cells.active.add(1);
                    return Ok(Connected { stream, cells: Arc::clone(&self.cells) });
                }
                Err(error) => last = ConnectError::Failed { address, error },
            }
        }
        Err(last)
    }

    /// Makes a TLS connection of a stream where the options say so.
    #[cfg(feature = "__tls")]
    async fn secure(
        &self,
        mut stream: Stream,
        options: &ConnectOptions,
        limit: Option<Duration>,
    ) -> io::Result<Stream> {
        let Some(credentials) = &options.tls else { return Ok(stream) };
        let begun = Instant::now();
        let shaken = shake_hands(&mut stream, credentials, limit).await;
        let took = begun.elapsed();
        let cells = self
            .tls
            .cells
            .get_or_init(|| self.shared.registry.tls_cluster(&self.tls.cluster, self.shard));
        match shaken {
            Ok(()) => {
                stream.count_handshake(cells, took);
                Ok(stream)
            }
            Err((reason, error)) => {
                cells.ended(Err(reason), took);
                Err(error)
            }
        }
    }

    #[cfg(not(feature = "__tls"))]
    async fn secure(
        &self,
        stream: Stream,
        _: &ConnectOptions,
        _: Option<Duration>,
    ) -> io::Result<Stream> {
        Ok(stream)
    }
}

/// Where handshakes with a cluster's servers are counted, from the first one on.
#[cfg(feature = "__tls")]
struct TlsCounts {
    cluster: Arc<str>,
    cells: OnceCell<Arc<TlsCells>>,
}

#[cfg(feature = "__tls")]
async fn shake_hands(
    stream: &mut Stream,
    credentials: &ClientCredentials,
    limit: Option<Duration>,
) -> Result<(), (tls::Reason, io::Error)> {
    match timeout(limit, tls::connect(stream, credentials)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err((error.reason(), io::Error::other(error))),
        Err(_) => Err((tls::Reason::Timeout, io::ErrorKind::TimedOut.into())),
    }
}

/// Connects to one address, for no cluster's count and no client.
#[cfg(feature = "http")]
pub(super) async fn connect_uncounted(
    address: SocketAddr,
    options: &ConnectOptions,
) -> io::Result<Stream> {
    let connected = connect_one(address, &options.for_client(None), options.timeout).await;
    #[cfg_attr(not(feature = "__tls"), expect(unused_mut, reason = "TLS changes it"))]
    let mut stream = connected.map_err(|(_, error)| error)?;
    #[cfg(feature = "__tls")]
    if let Some(credentials) = &options.tls {
        shake_hands(&mut stream, credentials, options.timeout).await.map_err(|(_, error)| error)?;
    }
    Ok(stream)
}

async fn connect_one(
    address: SocketAddr,
    options: &UpstreamOptions,
    limit: Option<Duration>,
) -> Result<Stream, (ConnectFailure, io::Error)> {
    let connecting = Stream::start_connect(address, options)
        .map_err(|error| (ConnectFailure::Local, io::Error::from(error)))?;
    match timeout(limit, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err((failure(&error), error)),
        Err(_) => Err((ConnectFailure::Timeout, io::ErrorKind::TimedOut.into())),
    }
}

fn failure(error: &io::Error) -> ConnectFailure {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => ConnectFailure::Refused,
        Some(libc::ETIMEDOUT) => ConnectFailure::Timeout,
        Some(libc::ECONNRESET | libc::ECONNABORTED) => ConnectFailure::Reset,
        Some(
            libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::ENETDOWN
            | libc::EHOSTDOWN
            | libc::ENONET,
        ) => ConnectFailure::Unreachable,
        _ => ConnectFailure::Local,
    }
}
