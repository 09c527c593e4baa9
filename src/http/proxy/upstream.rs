//! The upstream connections of a shard: idle ones, and new ones.
//!
//! They belong to the shard, not to the service that made them, so that a reload, which makes new
//! services, does not close them, and listeners share them.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
    future::poll_fn,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use crate::{
    http::{
        h1::HeadLimits,
        wire::{Incoming, Outgoing},
    },
    runtime::{JoinHandle, sleep, spawn},
    shard::Shard,
    telemetry::{CodeClass, HttpClusterCells, PoolState},
    upstream::{
        ConnectError, Connected, Connector, Source,
        cluster::Cluster,
        endpoint::{EndpointId, Target},
        outlier::Outcome,
        places::{Place as ClaimedPlace, Places},
        pool::{Idle, Pool, PoolKey, PoolLimits},
        view::ClusterView,
    },
};

/// A cluster on one shard.
pub(super) struct ClusterOnShard {
    pub(super) name: Arc<str>,
    pub(super) view: RefCell<ClusterView>,
    pub(super) http: Arc<HttpClusterCells>,
    connector: Connector,
    id: EndpointId,
    idle: Rc<IdleConnections>,
    /// Closes idle connections whose place was taken, where there is a limit.
    gives_way: OnceCell<JoinHandle<()>>,
}

/// Where a request is to go.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// To an endpoint of the cluster.
    Endpoint(Target),
    /// To where its client was connecting.
    Original(SocketAddr),
}

impl Place {
    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Place::Endpoint(target) => target.address(),
            Place::Original(address) => *address,
        }
    }
}

/// One upstream connection.
pub(super) struct Upstream {
    pub(super) connected: Connected,
    pub(super) incoming: Incoming,
    pub(super) outgoing: Outgoing,
    /// Whether it has carried a request before.
    pub(super) reused: bool,
    /// Once somebody wanted to know.
    local_address: OnceCell<Option<SocketAddr>>,
    key: PoolKey,
    counted: Counted,
    place: ClaimedPlace,
}

/// An upstream connection's place in the counts of its pool.
struct Counted {
    cells: Arc<HttpClusterCells>,
    state: PoolState,
}

impl Counted {
    fn new(cells: &Arc<HttpClusterCells>, state: PoolState) -> Counted {
        cells.pool.add(state, 1);
        Counted { cells: Arc::clone(cells), state }
    }

    fn change(&mut self, state: PoolState) {
        self.cells.pool.add(self.state, -1);
        self.cells.pool.add(state, 1);
        self.state = state;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.cells.pool.add(self.state, -1);
    }
}

/// Why there is no upstream connection.
#[derive(Debug)]
pub(super) enum Unreachable {
    /// The cluster may have no more.
    Overflow,
    /// It would lead back to this proxy.
    Loop,
    /// It could not be made.
    Failed(io::Error),
}

impl Upstream {
    /// Our own end of the connection.
    pub(super) fn local_address(&self) -> Option<SocketAddr> {
        let ask = || self.connected.stream.local_address().ok().flatten();
        *self.local_address.get_or_init(ask)
    }

    /// Counts the bytes since the last call.
    fn count(&mut self) {
        let cells = &self.connected.cells;
        cells.received_bytes.add(self.incoming.take_count());
        cells.sent_bytes.add(self.outgoing.take_count());
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.count();
    }
}

impl Idle for Upstream {
    /// What arrives on a connection that nobody has asked anything makes it useless, as its end does;
    /// and so may a new certificate.
    fn is_alive(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let stream = &mut self.connected.stream;
        !stream.is_superseded() && stream.poll_receive(&mut cx).is_pending()
    }

    fn close(self) {
        self.connected.stream.announce_end();
    }
}

/// All upstream connections of a shard that HTTP uses, and its views of clusters.
#[derive(Default)]
pub(super) struct Connections {
    clusters: RefCell<HashMap<Arc<str>, Rc<ClusterOnShard>>>,
    idle: Rc<IdleConnections>,
}

/// Those that nobody uses at the moment. Clusters refer to them and not to each other, so that all of
/// it ends with the shard.
#[derive(Default)]
struct IdleConnections {
    pool: RefCell<IdlePool>,
    /// When they are looked at next.
    expires_at: Cell<Option<Instant>>,
}

struct IdlePool(Pool<Upstream>);

/// With the shard, as its connections have no use any more.
impl Drop for IdlePool {
    fn drop(&mut self) {
        self.0.clear_all();
    }
}

impl Default for IdlePool {
    fn default() -> IdlePool {
        IdlePool(Pool::new(PoolLimits::default()))
    }
}

impl Connections {
    /// This shard's view of a cluster. Where the cluster of that name is another one than before, the
    /// view is made anew.
    pub(super) fn cluster(&self, cluster: &Arc<Cluster>, shard: &Shard) -> Rc<ClusterOnShard> {
        let mut clusters = self.clusters.borrow_mut();
        if let Some(known) = clusters.get(cluster.name())
            && Arc::ptr_eq(known.view.borrow().cluster(), cluster)
        {
            return Rc::clone(known);
        }
        let name = Arc::clone(cluster.name());
        let made = Rc::new(ClusterOnShard {
            view: RefCell::new(ClusterView::new(Arc::clone(cluster), fastrand::u64(..))),
            http: shard.registry().http_cluster(&name, shard.index()),
            connector: Connector::new(shard, &name),
            id: EndpointId::next(),
            idle: Rc::clone(&self.idle),
            gives_way: OnceCell::new(),
            name: Arc::clone(&name),
        });
        clusters.insert(name, Rc::clone(&made));
        made
    }
}

impl IdleConnections {
    /// Closes idle connections that have a place in `places` whenever connections of other shards take
    /// these places.
    fn give_way(self: &Rc<Self>, places: Places) -> JoinHandle<()> {
        let idle = Rc::downgrade(self);
        spawn(poll_fn(move |cx| {
            // First, so that what comes up meanwhile is not missed.
            places.hold(cx);
            match idle.upgrade() {
                Some(idle) => idle.close_surplus(&places),
                None => return Poll::Ready(()),
            }
            Poll::Pending
        }))
    }

    /// Closes idle connections for as long as there are more than have a place in `places`, the ones
    /// that have been idle longest first.
    fn close_surplus(&self, places: &Places) {
        let pool = &mut self.pool.borrow_mut().0;
        while pool.close_one(|upstream| upstream.place.give_way(places)) {}
    }

    /// Closes idle connections when their time has come, the first of them at `due`, for as long as
    /// there are any.
    fn expire_from(self: &Rc<Self>, mut due: Instant) {
        if self.expires_at.get().is_some_and(|at| at <= due) {
            return;
        }
        self.expires_at.set(Some(due));
        let idle = Rc::clone(self);
        spawn(async move {
            loop {
                sleep(due.saturating_duration_since(Instant::now())).await;
                if idle.expires_at.get() != Some(due) {
                    // Another one is due before what this one would wait for.
                    return;
                }
                let pool = &mut idle.pool.borrow_mut().0;
                pool.expire(Instant::now());
                let next = pool.next_expiry();
                idle.expires_at.set(next);
                match next {
                    Some(next) => due = next,
                    None => return,
                }
            }
        })
        .detach();
    }
}

impl ClusterOnShard {
    /// Counts a request that has ended, by the status that the upstream gave; 0 for none.
    pub(super) fn count(&self, status: u16) {
        self.http.requests.increment(CodeClass::of(status));
    }

    /// Tells how a request ended, as far as its endpoint is to blame.
    pub(super) fn report(&self, place: &Place, outcome: Option<Outcome>) {
        if let (Place::Endpoint(target), Some(outcome)) = (place, outcome) {
            self.view.borrow_mut().report(target, outcome, Instant::now());
        }
    }

    fn key(&self, place: &Place) -> PoolKey {
        match place {
            Place::Endpoint(target) => PoolKey::Endpoint(target.id()),
            Place::Original(address) => {
                PoolKey::Destination { cluster: self.id, address: *address }
            }
        }
    }

    /// Whether connections carry the requests of whoever comes. One that comes from its client's own
    /// address does not.
    fn shares_connections(&self) -> bool {
        self.view.borrow_mut().settings().connect_options().source != Source::Client
    }

    /// An idle connection to `place`.
    pub(super) fn idle(&self, place: &Place) -> Option<Upstream> {
        let key = self.key(place);
        let mut upstream = loop {
            let mut upstream = self.idle.pool.borrow_mut().0.get(&key, Instant::now())?;
            if upstream.place.resume() {
                break upstream;
            }
            upstream.close();
        };
        upstream.counted.change(PoolState::Active);
        upstream.reused = true;
        // Not before: a receive that is cancelled is armed again by who waits for it, and nobody
        // waits for an idle connection.
        upstream.connected.stream.set_bulk(false);
        Some(upstream)
    }

    /// A new connection to `place`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the attempt up.
    pub(super) async fn connect(
        &self,
        place: &Place,
        client: Option<SocketAddr>,
        limits: HeadLimits,
    ) -> Result<Upstream, Unreachable> {
        let (pending, connection, options) = {
            let mut view = self.view.borrow_mut();
            let pending = view.claim_pending().map_err(|_| Unreachable::Overflow)?;
            let connection = view.claim_connection().map_err(|_| Unreachable::Overflow)?;
            (pending, connection, view.settings().connect_options().clone())
        };
        if let Some(places) = connection.places()
            && places.census().surplus > 0
        {
            self.idle.close_surplus(places);
            if places.census().surplus > 0 {
                places.wake_holders();
            }
        }
        let mut counted = Counted::new(&self.http, PoolState::Connecting);
        let connected = self.connector.connect(&[place.address()], &options, client, None).await;
        drop(pending);
        let connected = connected.map_err(|error| match error {
            ConnectError::Failed { error, .. } => Unreachable::Failed(error),
            ConnectError::Loop => Unreachable::Loop,
            ConnectError::NoAddress => Unreachable::Failed(io::ErrorKind::AddrNotAvailable.into()),
        })?;
        counted.change(PoolState::Active);
        connected.stream.watch_for_resets(false);
        Ok(Upstream {
            connected,
            incoming: Incoming::new(limits),
            outgoing: Outgoing::new(),
            reused: false,
            local_address: OnceCell::new(),
            key: self.key(place),
            counted,
            place: connection,
        })
    }

    /// Keeps a connection that is ready for another request.
    pub(super) fn keep(&self, mut upstream: Upstream) {
        let is_kept = self.shares_connections() && upstream.is_alive() && upstream.place.rest();
        if !is_kept {
            return upstream.close();
        }
        if let Some(places) = upstream.place.places() {
            self.gives_way.get_or_init(|| self.idle.give_way(places.clone()));
        }
        upstream.count();
        upstream.counted.change(PoolState::Idle);
        let timeout = self.view.borrow_mut().settings().pool_idle();
        let (key, now) = (upstream.key, Instant::now());
        self.idle.pool.borrow_mut().0.put(key, upstream, timeout, now);
        if let Some(timeout) = timeout {
            self.idle.expire_from(now + timeout);
        }
    }
}
