//! Which clusters a listener's requests go to: routes and clusters, as one value for all shards.

use std::{cell::RefCell, collections::HashMap, fmt, rc::Rc, sync::Arc};

use arc_swap::ArcSwap;

use super::upstream::{ClusterOnShard, Connections};
use crate::{http::route::RouteTable, shard::Shard, upstream::cluster::Cluster};

/// Where a request goes that no route matches.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Fallback {
    /// Nowhere: 404.
    #[default]
    NotFound,
    /// To a cluster.
    Cluster(Arc<Cluster>),
    /// To where its client was connecting when the connection was redirected here, as a cluster that
    /// is made by [`ClusterSettings::original_destination`] says.
    ///
    /// [`ClusterSettings::original_destination`]: crate::upstream::settings::ClusterSettings::original_destination
    OriginalDestination(Arc<Cluster>),
    /// Nowhere: 502, as a destination that is not allowed.
    Blackhole,
}

/// Routes, with the clusters that they name. Clones are the same routes: what is
/// [replaced](Self::replace) in one is replaced in all.
#[derive(Clone)]
pub struct Routes {
    current: Arc<ArcSwap<Value>>,
}

/// What is replaced at once.
struct Value {
    table: RouteTable,
    /// By their positions in the table.
    clusters: Vec<Option<Arc<Cluster>>>,
    by_name: HashMap<Arc<str>, Arc<Cluster>>,
    fallback: Fallback,
}

impl Value {
    fn new(
        table: RouteTable,
        clusters: impl IntoIterator<Item = Arc<Cluster>>,
        fallback: Fallback,
    ) -> Value {
        let by_name: HashMap<_, _> =
            clusters.into_iter().map(|cluster| (Arc::clone(cluster.name()), cluster)).collect();
        let clusters = table.clusters().iter().map(|name| by_name.get(name).cloned()).collect();
        Value { table, clusters, by_name, fallback }
    }
}

impl Routes {
    /// Routes to these clusters. A route to a cluster that is not among them is answered with 503
    /// and the flag NC.
    pub fn new(
        table: RouteTable,
        clusters: impl IntoIterator<Item = Arc<Cluster>>,
        fallback: Fallback,
    ) -> Routes {
        Routes { current: Arc::new(ArcSwap::from_pointee(Value::new(table, clusters, fallback))) }
    }

    /// Every request to one cluster.
    pub fn to(cluster: Arc<Cluster>) -> Routes {
        let fallback = Fallback::Cluster(Arc::clone(&cluster));
        Routes::new(RouteTable::default(), [cluster], fallback)
    }

    /// Puts others in their place, for the next request on every connection.
    pub fn replace(
        &self,
        table: RouteTable,
        clusters: impl IntoIterator<Item = Arc<Cluster>>,
        fallback: Fallback,
    ) {
        self.current.store(Arc::new(Value::new(table, clusters, fallback)));
    }

    /// Whether requests may go on to where their connections were going.
    pub(super) fn need_original_destination(&self) -> bool {
        matches!(self.current.load().fallback, Fallback::OriginalDestination(_))
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.current.load();
        f.debug_struct("Routes")
            .field("routes", &current.table.len())
            .field("clusters", &current.by_name.keys())
            .finish_non_exhaustive()
    }
}

/// Routes on one shard, with the shard's views of their clusters.
pub(super) struct RoutesOnShard {
    shared: Routes,
    shard: Shard,
    connections: Rc<Connections>,
    current: RefCell<Rc<Snapshot>>,
}

/// The routes as they were when a request came.
pub(super) struct Snapshot {
    value: Arc<Value>,
    clusters: Vec<Option<Rc<ClusterOnShard>>>,
    fallback: FallbackOnShard,
    shard: Shard,
    connections: Rc<Connections>,
}

/// A [`Fallback`] on one shard.
#[derive(Clone)]
pub(super) enum FallbackOnShard {
    NotFound,
    Cluster(Rc<ClusterOnShard>),
    OriginalDestination(Rc<ClusterOnShard>),
    Blackhole,
}

impl RoutesOnShard {
    pub(super) fn new(shared: Routes, shard: &Shard) -> RoutesOnShard {
        let connections = shard.local::<Connections>();
        let value = shared.current.load_full();
        let current = RefCell::new(Rc::new(Snapshot::new(value, shard, &connections)));
        RoutesOnShard { shared, shard: shard.clone(), connections, current }
    }

    /// The routes at the moment. Nothing that other shards write is touched unless they have changed.
    pub(super) fn current(&self) -> Rc<Snapshot> {
        let mut current = self.current.borrow_mut();
        let newest = self.shared.current.load();
        if !Arc::ptr_eq(&newest, &current.value) {
            let value = Arc::clone(&newest);
            *current = Rc::new(Snapshot::new(value, &self.shard, &self.connections));
        }
        Rc::clone(&current)
    }
}

impl Snapshot {
    fn new(value: Arc<Value>, shard: &Shard, connections: &Rc<Connections>) -> Snapshot {
        let on_shard = |cluster: &Arc<Cluster>| connections.cluster(cluster, shard);
        let clusters =
            value.clusters.iter().map(|cluster| cluster.as_ref().map(on_shard)).collect();
        let fallback = match &value.fallback {
            Fallback::NotFound => FallbackOnShard::NotFound,
            Fallback::Cluster(cluster) => FallbackOnShard::Cluster(on_shard(cluster)),
            Fallback::OriginalDestination(cluster) => {
                FallbackOnShard::OriginalDestination(on_shard(cluster))
            }
            Fallback::Blackhole => FallbackOnShard::Blackhole,
        };
        let (shard, connections) = (shard.clone(), Rc::clone(connections));
        Snapshot { value, clusters, fallback, shard, connections }
    }

    pub(super) fn table(&self) -> &RouteTable {
        &self.value.table
    }

    /// The cluster at a position of the table.
    pub(super) fn cluster(&self, index: usize) -> Option<&Rc<ClusterOnShard>> {
        self.clusters.get(index)?.as_ref()
    }

    /// The cluster of a name.
    pub(super) fn cluster_named(&self, name: &str) -> Option<Rc<ClusterOnShard>> {
        let cluster = self.value.by_name.get(name)?;
        Some(self.connections.cluster(cluster, &self.shard))
    }

    pub(super) fn fallback(&self) -> &FallbackOnShard {
        &self.fallback
    }
}
