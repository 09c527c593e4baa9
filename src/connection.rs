//! A downstream connection, as a service receives it.
//!
//! It is the stream, and with it everything that belongs to the connection's life: its load on the
//! shard, its place under a listener's limit, its counts. They end when it is dropped, and not
//! before.
//!
//! # Served or rejected
//!
//! Each connection counts once, as served or as rejected. Which of them it is, is for its service to
//! say; as counters never go down, neither is counted until that is clear. (The gauge of open
//! connections has it from the start.) A connection is served from when its service first uses it to
//! receive or send, or begins to connect on its behalf, and at the latest when it is dropped without
//! having been rejected.

use std::{
    fmt, io,
    net::SocketAddr,
    ops::{Deref, DerefMut},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use crate::{
    listener::{LimitGuard, RouteOnShard},
    net::Stream,
    proxy_protocol::{self, Header, Parsed},
    runtime::timeout,
    shard::{Arrived, Balanced, Shard, WeightGuard},
    telemetry::{CloseReason, ListenerCells, RejectReason},
};

/// How long a PROXY protocol header may take to arrive.
const PROXY_HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// A downstream connection. It is used as the [`Stream`] that it holds.
pub struct Connection {
    /// Boxed, because futures hold what they are given once for each function that it passes
    /// through.
    inner: Box<Inner>,
}

struct Inner {
    stream: Balanced<Stream>,
    original_destination: Option<SocketAddr>,
    proxied: Option<Box<(SocketAddr, SocketAddr)>>,
    expects_proxy_header: bool,
    close_reason: Option<CloseReason>,
    counted: Counted,
    shard: Shard,
    route: Rc<RouteOnShard>,
    /// Its places under the listener's limit and under the destination's.
    _limits: [Option<LimitGuard>; 2],
}

/// What a connection has been counted as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counted {
    NotYet,
    Served,
    Rejected,
}

impl Connection {
    pub(crate) fn new(arrived: Arrived) -> Connection {
        arrived.route.cells.active.add(1);
        let inner = Inner {
            stream: Balanced::new(Stream::adopt(arrived.socket), arrived.guard),
            original_destination: arrived.original_destination,
            proxied: None,
            expects_proxy_header: arrived.expects_proxy_header,
            close_reason: None,
            counted: Counted::NotYet,
            shard: arrived.shard,
            route: arrived.route,
            _limits: arrived.limits,
        };
        Connection { inner: Box::new(inner) }
    }

    /// Where the client was connecting to before the connection was redirected here; `None` where
    /// it was not, or the listener does not ask.
    pub fn original_destination(&self) -> Option<SocketAddr> {
        self.inner.original_destination
    }

    /// The client's address: from the PROXY header if there was one, else the socket's peer.
    ///
    /// # Errors
    ///
    /// What `getpeername(2)` gives.
    pub fn client_address(&self) -> io::Result<Option<SocketAddr>> {
        match &self.inner.proxied {
            Some(proxied) => Ok(Some(proxied.0)),
            None => self.inner.stream.peer_address(),
        }
    }

    /// The address that the client connected to: from the PROXY header if there was one, else the
    /// original destination, else the socket's own.
    ///
    /// # Errors
    ///
    /// What `getsockname(2)` gives.
    pub fn server_address(&self) -> io::Result<Option<SocketAddr>> {
        match (&self.inner.proxied, self.inner.original_destination) {
            (Some(proxied), _) => Ok(Some(proxied.1)),
            (None, Some(server)) => Ok(Some(server)),
            (None, None) => self.inner.stream.local_address(),
        }
    }

    /// The name of the listener that matched.
    pub fn listener(&self) -> &str {
        &self.inner.route.name
    }

    /// The shard that carries the connection.
    pub fn shard(&self) -> &Shard {
        &self.inner.shard
    }

    /// Says why the connection ends, for the metrics. Without it, a connection that is dropped was
    /// done, or was cut by a drain.
    pub fn set_close_reason(&mut self, reason: CloseReason) {
        self.inner.close_reason = Some(reason);
    }

    /// Closes the connection, which was not served. It counts as rejected, unless something was
    /// received from it or sent to it: then it counts as served, and closed.
    pub fn reject(mut self, reason: RejectReason) {
        self.mark_rejected(reason);
    }

    /// Says that the connection, which is about to be dropped, was not served.
    pub(crate) fn mark_rejected(&mut self, reason: RejectReason) {
        if self.inner.counted == Counted::NotYet {
            self.inner.counted = Counted::Rejected;
            self.inner.route.cells.rejected.increment(reason);
        }
    }

    /// Says that the connection is being served.
    pub(crate) fn mark_served(&mut self) {
        if self.inner.counted == Counted::NotYet {
            self.inner.counted = Counted::Served;
            self.inner.route.cells.connections.increment();
        }
    }

    /// The stream, for whoever looks at first bytes and puts them back: the connection is not served
    /// for that.
    pub(crate) fn uncounted(&mut self) -> &mut Stream {
        &mut self.inner.stream
    }

    /// Counts what is in flight on the connection in its shard's load, for the policies that look at
    /// that, until the guard is dropped.
    pub fn add_weight(&self, weight: u32) -> WeightGuard {
        self.inner.stream.guard().add_weight(weight)
    }

    /// The counts of its listener on this shard.
    pub(crate) fn counts(&self) -> Arc<ListenerCells> {
        Arc::clone(&self.inner.route.cells)
    }

    pub(crate) fn expects_proxy_header(&self) -> bool {
        self.inner.expects_proxy_header
    }

    /// Reads the PROXY header that the listener requires. What came behind it is received next.
    pub(crate) async fn read_proxy_header(&mut self) -> Result<(), ()> {
        match timeout(PROXY_HEADER_TIMEOUT, self.receive_proxy_header()).await {
            Ok(Some(header)) => {
                self.inner.proxied = header.addresses().map(Box::new);
                Ok(())
            }
            Ok(None) | Err(_) => {
                self.set_close_reason(CloseReason::Protocol);
                self.inner.stream.reset_on_drop();
                Err(())
            }
        }
    }

    async fn receive_proxy_header(&mut self) -> Option<Header> {
        let mut head = Vec::new();
        loop {
            let mut chunk = self.inner.stream.receive().await.ok()??;
            let before = head.len();
            head.extend_from_slice(&chunk);
            match proxy_protocol::parse(&head) {
                Ok(Parsed::Incomplete) => {}
                Ok(Parsed::Done { header, consumed }) => {
                    chunk.advance(consumed - before);
                    self.inner.stream.unreceive(chunk);
                    return Some(header);
                }
                Err(error) => {
                    self.inner.shard.log_peer(|suppressed| {
                        tracing::warn!(
                            listener = %self.inner.route.name,
                            suppressed,
                            "closed a connection without a valid PROXY header: {error}"
                        );
                    });
                    return None;
                }
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.route.cells.active.add(-1);
        if self.counted == Counted::NotYet {
            self.route.cells.connections.increment();
        }
        if self.counted != Counted::Rejected {
            let default = match self.shard.is_cutting() {
                true => CloseReason::Drain,
                false => CloseReason::Done,
            };
            self.route.cells.closed.increment(self.close_reason.unwrap_or(default));
        }
        self.shard.connection_closed();
    }
}

impl Deref for Connection {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        &self.inner.stream
    }
}

/// Receiving and sending take the stream so, and make the connection one that is served.
impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Stream {
        self.mark_served();
        &mut self.inner.stream
    }
}

impl AsMut<Stream> for Connection {
    fn as_mut(&mut self) -> &mut Stream {
        self
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("listener", &self.inner.route.name)
            .field("original_destination", &self.inner.original_destination)
            .field("stream", &self.inner.stream)
            .finish_non_exhaustive()
    }
}
