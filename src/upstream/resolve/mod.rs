//! Names among the endpoints of clusters: resolved again and again, off the data path.
//!
//! *In:* clusters. *Out:* the addresses of their names, as [`Cluster::set_addresses`] takes them.
//! *Owns:* one thread, started for the first cluster that has a name, and its sockets. *Never:* runs
//! anything on a shard, or makes a request wait: shards choose among the addresses that were last
//! heard.
//!
//! ```text
//!  watch(cluster) ─► thread: schedule ─► lookup ─► exchange ─► server
//!                      ▲        (TTL)     (A, AAAA)   (UDP, TCP)
//!                      └── outcome ───────┘└─► set_addresses of each cluster that has the name
//! ```
//!
//! What resolv.conf(5) and hosts(5) say holds, and changes of the files are noticed. A name is
//! looked up again when its TTL ends; [`Refresh`] bounds that, and says how long addresses are kept
//! when servers fail. getaddrinfo(3) is not used, since it tells no TTL and waits.
//!
//! # Liveness
//! The thread waits in poll(2) for sockets, the next deadline, and an eventfd that
//! [`Resolver::watch`] and the drop write to. At most 64 lookups are under way, two questions each;
//! further names wait their turn. A question that is not answered in time goes to the next server.

mod exchange;
mod lookup;
mod message;
mod schedule;
mod system;
mod worker;

use std::{
    fmt, io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
    thread::{self, JoinHandle},
};

use rustix::{
    event::{EventfdFlags, eventfd},
    fd::OwnedFd,
};

pub use self::schedule::Refresh;
use self::{message::Family, worker::Worker};
use super::cluster::Cluster;

/// Which addresses of a name are used.
///
/// The addresses of both families are not used together: they are as a rule the same hosts, which
/// would be chosen twice as often, and half of the choices fail where one family leads nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Families {
    /// The IPv4 ones; those of IPv6 where a name has none.
    #[default]
    PreferIpv4,
    /// The IPv6 ones; those of IPv4 where a name has none.
    PreferIpv6,
    /// The IPv4 ones.
    Ipv4,
    /// The IPv6 ones.
    Ipv6,
}

impl Families {
    /// What is asked for, the preferred family first.
    fn asked(self) -> &'static [Family] {
        match self {
            Families::PreferIpv4 => &[Family::Ipv4, Family::Ipv6],
            Families::PreferIpv6 => &[Family::Ipv6, Family::Ipv4],
            Families::Ipv4 => &[Family::Ipv4],
            Families::Ipv6 => &[Family::Ipv6],
        }
    }
}

/// How names are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolverSettings {
    /// Default: `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// Default: `/etc/hosts`.
    pub hosts: PathBuf,
    /// Servers to ask instead of those in resolv.conf. Default: `None`.
    pub servers: Option<Vec<SocketAddr>>,
    /// Default: [`Families::PreferIpv4`].
    pub families: Families,
    /// When names are looked up again.
    pub refresh: Refresh,
}

impl Default for ResolverSettings {
    fn default() -> ResolverSettings {
        ResolverSettings {
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
            servers: None,
            families: Families::default(),
            refresh: Refresh::default(),
        }
    }
}

/// Resolves the names of clusters, one for a proxy. Dropping it ends its thread, and waits for that.
pub struct Resolver {
    settings: ResolverSettings,
    running: Mutex<Option<Running>>,
}

struct Running {
    orders: Arc<Orders>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is told.
struct Orders {
    incoming: Mutex<Incoming>,
    bell: OwnedFd,
}

/// What it has not seen yet.
#[derive(Default)]
struct Incoming {
    /// In their order.
    clusters: Vec<Order>,
    end: bool,
}

/// What is to be done about a cluster.
enum Order {
    /// It is new, or its settings have changed.
    Watch(Weak<Cluster>),
    Forget(Weak<Cluster>),
}

impl Resolver {
    /// A resolver that has nothing to do yet.
    pub fn new(settings: ResolverSettings) -> Resolver {
        Resolver { settings, running: Mutex::new(None) }
    }

    /// Keeps the addresses of the cluster's names up to date for as long as the cluster lives, or until
    /// it is [forgotten](Self::forget). Call it again after the cluster's settings have changed. A cluster without names costs nothing.
    ///
    /// # Errors
    /// The thread could not be started: the system refuses a thread or a descriptor.
    pub fn watch(&self, cluster: &Arc<Cluster>) -> io::Result<()> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_none() {
            if !cluster.has_names() {
                return Ok(());
            }
            *running = Some(Running::start(&self.settings)?);
        }
        if let Some(Running { orders, .. }) = &*running {
            let order = Order::Watch(Arc::downgrade(cluster));
            orders.give(|incoming| incoming.clusters.push(order));
        }
        Ok(())
    }

    /// Looks the names of the cluster up no more, however long it still lives: it was removed, and
    /// who still has it goes on with the addresses that it has.
    pub fn forget(&self, cluster: &Arc<Cluster>) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Running { orders, .. }) = &*running {
            let order = Order::Forget(Arc::downgrade(cluster));
            orders.give(|incoming| incoming.clusters.push(order));
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Running {
    fn start(settings: &ResolverSettings) -> io::Result<Running> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let orders = Arc::new(Orders { incoming: Mutex::default(), bell });
        let worker = Worker::new(settings.clone(), Arc::clone(&orders));
        let thread =
            thread::Builder::new().name("evenkeel-names".to_owned()).spawn(move || worker.run())?;
        Ok(Running { orders, thread: Some(thread) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.orders.give(|incoming| incoming.end = true);
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by its hook.
            let _ = thread.join();
        }
    }
}

impl Orders {
    fn give(&self, order: impl FnOnce(&mut Incoming)) {
        order(&mut self.incoming.lock().unwrap_or_else(PoisonError::into_inner));
        // It fails only where the counter is full, and then it rings already.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    /// Everything since the last time.
    fn take(&self) -> Incoming {
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        std::mem::take(&mut *self.incoming.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
