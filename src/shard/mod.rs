//! Shards: one thread, one ring and one executor each, with nothing shared on the data path.
//!
//! Flows in: accepted connections, through the shard's inbox, each counted on the shard since before
//! it was sent. Flows out: the tasks that serve them. A shard owns its executor, its receive
//! buffers and the services made for it. It never accepts connections, except where the kernel is
//! to choose the shard.

pub(crate) mod agreement;
mod arrivals;
mod balanced;
mod busy;
mod draining;
pub(crate) mod inbox;
mod load;
mod mailbox;
mod tally;
pub(crate) mod thread;
mod turns;
mod waiting_acceptors;

use std::{
    any::{Any, TypeId},
    cell::{OnceCell, RefCell},
    collections::HashMap,
    fmt,
    os::fd::OwnedFd,
    rc::Rc,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;

pub(crate) use self::{
    arrivals::{Arrivals, Arrived},
    busy::{BusyShare, PERIOD},
    mailbox::{Mailbox, Receiver},
    waiting_acceptors::WaitingAcceptors,
};
pub use self::{
    balanced::{Balanced, Carried},
    load::{LoadGuard, Loads, ShardLoad, WeightGuard},
};
use self::{draining::Draining, tally::Home};
use crate::{
    accept::Command,
    listener::{LimitGuard, Table, table::ListenerId},
    sys::thread_clock::ThreadClock,
    telemetry::{
        ClusterCells, LogLimit, Registry,
        access_log::{AccessLog, AccessLogOnShard, Queues},
    },
};

/// A connection on its way to a shard. It owns its descriptor, and it is counted already.
pub(crate) struct Accepted {
    pub(crate) socket: OwnedFd,
    pub(crate) listener: ListenerId,
    pub(crate) guard: LoadGuard,
    pub(crate) limit: Option<LimitGuard>,
}

/// A shard as other threads see it.
pub(crate) struct Remote {
    pub(crate) index: usize,
    pub(crate) inbox: Mailbox<Accepted>,
    /// What it is told besides connections.
    pub(crate) control: Mailbox<Command>,
    /// What a guest's thread has used of the CPU; our own shards tell how busy they are themselves.
    pub(crate) clock: OnceLock<ThreadClock>,
}

impl Remote {
    /// Connections that may wait in an inbox; a shard that is this far behind gets no more.
    const INBOX: usize = 1024;

    pub(crate) fn new(index: usize, shared: &Shared) -> Remote {
        Remote {
            index,
            inbox: Mailbox::telling(Remote::INBOX, Arc::clone(&shared.acceptors_ahead)),
            control: Mailbox::new(usize::MAX),
            clock: OnceLock::new(),
        }
    }
}

/// What all shards of a proxy look at: immutable values, and switches that are set once.
pub(crate) struct Shared {
    pub(crate) registry: Arc<Registry>,
    pub(crate) loads: Loads,
    pub(crate) table: ArcSwap<Table>,
    /// Those that wait for descriptors or memory: until a connection is closed.
    pub(crate) starved_acceptors: Arc<WaitingAcceptors>,
    /// Those that every shard is behind: until one looks for more connections.
    pub(crate) acceptors_ahead: Arc<WaitingAcceptors>,
}

/// A shard, as the code that runs on it sees it.
#[derive(Clone)]
pub struct Shard {
    inner: Rc<Inner>,
}

struct Inner {
    index: usize,
    cpu: Option<usize>,
    shared: Arc<Shared>,
    clusters: RefCell<HashMap<Arc<str>, Arc<ClusterCells>>>,
    home: Arc<Home>,
    draining: Draining,
    cut: Draining,
    locals: RefCell<HashMap<TypeId, Rc<dyn Any>>>,
    peer_log: OnceCell<LogLimit>,
    log_queues: Queues,
}

impl Shard {
    pub(crate) fn new(index: usize, cpu: Option<usize>, shared: Arc<Shared>) -> Shard {
        let home = Arc::new(Home::new(Arc::clone(&shared.starved_acceptors)));
        Shard {
            inner: Rc::new(Inner {
                index,
                cpu,
                shared,
                clusters: RefCell::default(),
                home,
                draining: Draining::default(),
                cut: Draining::default(),
                locals: RefCell::default(),
                peer_log: OnceCell::new(),
                log_queues: Queues::default(),
            }),
        }
    }

    /// Which shard this is, counted from 0.
    pub fn index(&self) -> usize {
        self.inner.index
    }

    /// The CPU that it is pinned to; `None` where it is not.
    pub fn cpu(&self) -> Option<usize> {
        self.inner.cpu
    }

    /// The metrics of the proxy.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.inner.shared.registry
    }

    /// The loads of all shards.
    pub fn loads(&self) -> &Loads {
        &self.inner.shared.loads
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    /// This shard's counts for a cluster.
    pub(crate) fn cluster(&self, name: &Arc<str>) -> Arc<ClusterCells> {
        let mut clusters = self.inner.clusters.borrow_mut();
        let cells = clusters
            .entry(Arc::clone(name))
            .or_insert_with(|| self.registry().cluster(name, self.index()));
        Arc::clone(cells)
    }

    /// The one value of type `T` that belongs to this shard, made when it is first asked for. It
    /// lives as long as the shard, so what it holds outlives services that a reload replaces.
    pub fn local<T: Default + 'static>(&self) -> Rc<T> {
        let made = Rc::clone(
            self.inner
                .locals
                .borrow_mut()
                .entry(TypeId::of::<T>())
                .or_insert_with(|| Rc::new(T::default())),
        );
        // The key is the type, so this is what is there.
        made.downcast().unwrap_or_default()
    }

    /// Whether the proxy drains: connections should end as soon as their protocol allows.
    pub fn is_draining(&self) -> bool {
        self.inner.draining.has_begun()
    }

    /// Waits until the proxy drains.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn draining(&self) {
        self.inner.draining.begun().await;
    }

    pub(crate) fn drain(&self) {
        self.inner.draining.begin();
    }

    /// An access log on this shard. Logs that share a sink share a queue here.
    pub fn access_log(&self, log: &AccessLog) -> AccessLogOnShard {
        self.inner.log_queues.join(log, self.registry().shard(self.index()))
    }

    /// Ends the tasks of connections, which are not being cut: their shard has died.
    #[cfg(feature = "glommio")]
    pub(crate) fn abandon(&self) {
        self.inner.cut.begin();
    }

    /// Whether connections that end now are being cut.
    pub(crate) fn is_cutting(&self) -> bool {
        self.inner.home.is_cutting()
    }

    pub(crate) fn cut(&self) {
        self.inner.home.cut();
        self.inner.cut.begin();
    }

    /// Waits until connections are being cut, or their shard has died.
    #[cfg(feature = "glommio")]
    pub(crate) async fn cut_begun(&self) {
        self.inner.cut.begun().await;
    }

    fn home(&self) -> &Arc<Home> {
        &self.inner.home
    }

    pub(crate) fn connection_closed(&self) {
        self.inner.home.connection_closed();
    }

    /// Writes a log line that a peer can cause, so at most ten a second and shard. `line` is given
    /// the number of lines that were left out before it.
    pub(crate) fn log_peer(&self, line: impl FnOnce(u64)) {
        let limit =
            self.inner.peer_log.get_or_init(|| LogLimit::new(Duration::from_millis(100), 10));
        if limit.allow(Instant::now()) {
            line(limit.take_suppressed());
        }
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("index", &self.index())
            .field("cpu", &self.cpu())
            .finish_non_exhaustive()
    }
}
