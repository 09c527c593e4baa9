//! The byte relay, as a service: every connection is joined to one upstream connection.

mod line;
mod outlived;
mod pipe;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use self::line::Line;
#[cfg(feature = "http")]
pub(crate) use self::pipe::Gear;
pub use self::pipe::{Ended, Meter, Timeouts, Why, pipe};
#[cfg(feature = "http")]
use crate::upstream::cluster::Cluster;
use crate::{
    connection::Connection,
    proxy_protocol::{V1_UNKNOWN, V2_LOCAL, encode_v1, encode_v2},
    service::{Service, ServiceFactory},
    shard::Shard,
    sys::dial::Keepalive,
    telemetry::{
        CloseReason, ClusterCells, ListenerCells, RejectReason, ResponseFlag,
        access_log::{AccessLog, AccessLogOnShard},
    },
    upstream::{ConnectError, ConnectOptions, Connected, Connector, Source},
};

/// Forwards connections byte by byte. It is a [`ServiceFactory`]: give it to a
/// [`Listener`](crate::Listener).
#[derive(Clone, Debug)]
#[must_use = "give it to a listener"]
pub struct Relay {
    cluster: Arc<str>,
    to: To,
    options: ConnectOptions,
    timeouts: Timeouts,
    proxy_header: ProxyHeader,
    access_log: Option<AccessLog>,
    mistake: Option<Box<str>>,
}

#[derive(Clone, Debug)]
enum To {
    OriginalDestination,
    Addresses(Arc<[SocketAddr]>),
    #[cfg(feature = "http")]
    Cluster(Arc<Cluster>),
}

/// Which PROXY protocol header upstream connections begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyHeader {
    /// None.
    #[default]
    Off,
    /// Version 1, in text.
    V1,
    /// Version 2, in binary.
    V2,
}

impl Relay {
    /// Forwards each connection to where its client was connecting when it was redirected. Its
    /// cluster is called `passthrough`.
    pub fn to_original_destination() -> Relay {
        Relay::new("passthrough", To::OriginalDestination)
    }

    /// Forwards to the first of these addresses that answers. They are tried in order for each
    /// connection.
    pub fn to<A: AsRef<str>>(addresses: impl IntoIterator<Item = A>) -> Relay {
        let mut parsed = Vec::new();
        let mut mistake = None;
        for address in addresses {
            match address.as_ref().parse() {
                Ok(address) => parsed.push(address),
                Err(_) => {
                    let address = address.as_ref();
                    mistake.get_or_insert(format!("{address:?} is no ip:port to relay to").into());
                }
            }
        }
        if parsed.is_empty() {
            mistake.get_or_insert("a relay needs an address to relay to".into());
        }
        let name: Vec<String> = parsed.iter().map(SocketAddr::to_string).collect();
        let mut relay = Relay::new(&name.join(","), To::Addresses(parsed.into()));
        relay.mistake = mistake;
        relay
    }

    /// Forwards to the first endpoint of a cluster that answers, as the cluster is when a connection
    /// comes: so names work that a [`Resolver`](crate::upstream::resolve::Resolver) watches, and its
    /// settings can be changed. Endpoints are tried in their order, the ones that are ejected or unwell
    /// last; its policy, limits and retries are for requests.
    ///
    /// How connections are made the settings of the cluster say. It is an error to say it here, too.
    #[cfg(feature = "http")]
    pub fn to_cluster(cluster: Arc<Cluster>) -> Relay {
        let name = Arc::clone(cluster.name());
        Relay::new(&name, To::Cluster(cluster))
    }

    fn new(cluster: &str, to: To) -> Relay {
        Relay {
            cluster: cluster.into(),
            to,
            options: ConnectOptions::default(),
            timeouts: Timeouts::default(),
            proxy_header: ProxyHeader::Off,
            access_log: None,
            mistake: None,
        }
    }

    /// The name of the cluster, in metrics. Default: its addresses.
    pub fn cluster(mut self, name: &str) -> Relay {
        self.cluster = name.into();
        self
    }

    /// Connects from this address of the host, for destinations of its family. Inbound sidecars use
    /// 127.0.0.6 and ::6, which the redirect rules let pass.
    pub fn source(mut self, address: &str) -> Relay {
        match address.parse::<IpAddr>() {
            Ok(address) => self.options.set_source(address),
            Err(_) => {
                self.mistake
                    .get_or_insert(format!("the source {address:?} is no IP address").into());
            }
        }
        self
    }

    /// Connects from the client's own address, which needs CAP_NET_ADMIN and rules that bring the
    /// answers back.
    pub fn transparent_source(mut self) -> Relay {
        self.options.source = Source::Client;
        self
    }

    /// Sets SO_MARK on upstream sockets, so that rules can tell them from others; needs
    /// CAP_NET_ADMIN.
    pub fn mark(mut self, mark: u32) -> Relay {
        self.options.mark = Some(mark);
        self
    }

    /// How long each address may take to answer; `None` leaves it to the kernel. Default: 5 s.
    pub fn connect_timeout(mut self, timeout: Option<Duration>) -> Relay {
        self.options.timeout = timeout;
        self
    }

    /// Ends connections on which nothing moves. Default: 1 h each.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Relay {
        self.timeouts = timeouts;
        self
    }

    /// Speaks TLS on upstream connections. The time to connect covers the handshake.
    #[cfg(feature = "__tls")]
    pub fn tls(mut self, credentials: crate::tls::ClientCredentials) -> Relay {
        self.options.tls = Some(credentials);
        self
    }

    /// TCP keepalive on upstream connections; `None` switches it off. Default: the first probe after
    /// 180 s without a sign of life, then as the host has it: 9 more, 75 s apart, by default.
    pub fn keepalive(mut self, idle: Option<Duration>) -> Relay {
        self.options.keepalive = idle.map(|idle| Keepalive { idle });
        self
    }

    /// Ends upstream connections whose peer acknowledges nothing for so long (TCP_USER_TIMEOUT). It
    /// ends a peer that lives and reads slowly as well, so it is off by default.
    pub fn user_timeout(mut self, timeout: Option<Duration>) -> Relay {
        self.options.user_timeout = timeout;
        self
    }

    /// Begins upstream connections with a PROXY protocol header that names the client. Default: off.
    pub fn proxy_header(mut self, header: ProxyHeader) -> Relay {
        self.proxy_header = header;
        self
    }

    /// Logs a line for each connection when it ends. Default: none. With a log, a connection costs a
    /// few more system calls, for its addresses.
    pub fn access_log(mut self, log: AccessLog) -> Relay {
        self.access_log = Some(log);
        self
    }
}

impl ServiceFactory for Relay {
    type Service = RelayOnShard;

    fn make(&self, shard: &Shard) -> RelayOnShard {
        RelayOnShard {
            relay: self.clone(),
            connector: Connector::new(shard, &self.cluster),
            log: self.access_log.as_ref().map(|log| shard.access_log(log)),
        }
    }

    fn needs_original_destination(&self) -> bool {
        matches!(self.to, To::OriginalDestination)
    }

    fn check(&self) -> Result<(), String> {
        #[cfg(feature = "http")]
        if matches!(self.to, To::Cluster(_)) && self.options != ConnectOptions::default() {
            return Err(format!(
                "the relay to cluster {:?} connects as the cluster says: set source, mark, keepalive \
                 and connect timeout in its settings",
                self.cluster
            ));
        }
        self.mistake.as_deref().map_or(Ok(()), |mistake| Err(mistake.to_owned()))
    }
}

/// A [`Relay`] on one shard.
#[derive(Debug)]
pub struct RelayOnShard {
    relay: Relay,
    connector: Connector,
    log: Option<AccessLogOnShard>,
}

impl Service for RelayOnShard {
    async fn serve(&self, mut connection: Connection) {
        let begin = |log| Line::begin(log, &self.relay.cluster, &connection);
        let mut meter = Counts {
            connection: connection.counts(),
            cluster: Arc::clone(self.connector.cells()),
            line: self.log.as_ref().map(begin),
        };
        // Boxed, so that an established connection does not keep the room that connecting needed.
        let connecting = Box::pin(self.connect(&mut connection, &mut meter.line));
        let Some(mut upstream) = connecting.await else { return };
        let ended = pipe(&mut connection, &mut upstream.stream, &self.relay.timeouts, &meter).await;
        let reason = ended.why.into();
        connection.set_close_reason(reason);
        if let Some(line) = &mut meter.line {
            line.ended(reason);
        }
    }
}

impl From<Why> for CloseReason {
    fn from(why: Why) -> CloseReason {
        match why {
            Why::Done => CloseReason::Done,
            Why::DownstreamReset => CloseReason::DownstreamReset,
            Why::UpstreamReset => CloseReason::UpstreamReset,
            Why::IdleTimeout => CloseReason::IdleTimeout,
            Why::HalfCloseTimeout => CloseReason::HalfCloseTimeout,
            Why::Outlived => CloseReason::Drain,
        }
    }
}

impl RelayOnShard {
    /// Connects to the upstream. `None` where the connection was refused or reset instead.
    async fn connect(
        &self,
        connection: &mut Connection,
        line: &mut Option<Box<Line<'_>>>,
    ) -> Option<Connected> {
        let original;
        #[cfg(feature = "http")]
        let (cluster, endpoints);
        let own_options = &self.relay.options;
        let (addresses, options) = match &self.relay.to {
            To::Addresses(addresses) => (&addresses[..], own_options),
            To::OriginalDestination => {
                original = connection.original_destination();
                (original.as_slice(), own_options)
            }
            #[cfg(feature = "http")]
            To::Cluster(current) => {
                cluster = current.snapshot();
                endpoints = cluster.addresses();
                (&endpoints[..], cluster.settings().connect_options())
            }
        };
        let client = match (options.source, self.relay.proxy_header) {
            (Source::Client, _) | (_, ProxyHeader::V1 | ProxyHeader::V2) => {
                connection.client_address().ok().flatten()
            }
            _ => None,
        };
        let table = connection.shard().shared().table.load_full();
        let refused = match (addresses.first(), &self.relay.to) {
            (None, To::OriginalDestination) => Some(RejectReason::Missing),
            // Names may have no address at the moment.
            (None, _) => None,
            (Some(first), _) => table.loops.is_loop(*first).then_some(RejectReason::Loop),
        };
        if let Some(reason) = refused {
            connection.mark_rejected(reason);
            if let Some(line) = line {
                let flag = match reason {
                    RejectReason::Loop => ResponseFlag::NoRoute,
                    _ => ResponseFlag::NoHealthyUpstream,
                };
                line.refused(flag, reason.as_str());
            }
            return None;
        }
        connection.mark_served();
        let header = self.header(connection, client);
        let connected = self.connector.connect(addresses, options, client, header.as_deref()).await;
        match connected {
            Ok(upstream) => {
                if let Some(line) = line {
                    line.connected(&upstream.stream);
                }
                Some(upstream)
            }
            Err(error) => {
                self.log_failure(connection, &error);
                match (line, &error) {
                    (Some(line), ConnectError::Failed { address, error }) => {
                        line.failed(*address, error.to_string());
                    }
                    (Some(line), ConnectError::NoAddress) => {
                        line.refused(ResponseFlag::NoHealthyUpstream, "no_healthy_upstream");
                    }
                    _ => {}
                }
                connection.set_close_reason(CloseReason::UpstreamFailed);
                connection.reset_on_drop();
                None
            }
        }
    }

    fn log_failure(&self, connection: &Connection, error: &ConnectError) {
        connection.shard().log_peer(|suppressed| {
            tracing::info!(
                listener = connection.listener(),
                cluster = %self.relay.cluster,
                suppressed,
                "cannot connect to {error}"
            );
        });
    }

    fn header(&self, connection: &Connection, client: Option<SocketAddr>) -> Option<Vec<u8>> {
        let server = match self.relay.proxy_header {
            ProxyHeader::Off => return None,
            ProxyHeader::V1 | ProxyHeader::V2 => connection.server_address().ok().flatten(),
        };
        Some(match (self.relay.proxy_header, client, server) {
            (ProxyHeader::V1, Some(client), Some(server)) => encode_v1(client, server),
            (ProxyHeader::V1, ..) => V1_UNKNOWN.to_vec(),
            (_, Some(client), Some(server)) => encode_v2(client, server),
            _ => V2_LOCAL.to_vec(),
        })
    }
}

/// Counts a relay's bytes under its listener and its cluster, and in its line of the log.
pub(crate) struct Counts<'r> {
    connection: Arc<ListenerCells>,
    cluster: Arc<ClusterCells>,
    line: Option<Box<Line<'r>>>,
}

#[cfg(feature = "http")]
impl Counts<'_> {
    /// Counts without a line of the log.
    pub(crate) fn new(connection: Arc<ListenerCells>, cluster: Arc<ClusterCells>) -> Self {
        Counts { connection, cluster, line: None }
    }
}

impl Meter for Counts<'_> {
    fn received(&self, bytes: usize) {
        self.connection.received_bytes.add(bytes as u64);
        self.cluster.sent_bytes.add(bytes as u64);
        if let Some(line) = &self.line {
            line.received(bytes as u64);
        }
    }

    fn sent(&self, bytes: usize) {
        self.connection.sent_bytes.add(bytes as u64);
        self.cluster.received_bytes.add(bytes as u64);
        if let Some(line) = &self.line {
            line.sent(bytes as u64);
        }
    }
}
