//! The HTTP proxy on the simulated driver, as a shard runs it: connections arrive by a table, and the
//! listener's service gets them.

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock},
    time::Instant,
};

use arc_swap::ArcSwap;

use super::super::{ORIGIN, PROXY, milliseconds};
use crate::{
    accept::Balance,
    http::{self, Routes},
    listener::{
        Listener, NamedLimits, Table,
        table::{ListenerEntry, ListenerId},
    },
    net::Accepting,
    original_dst::{Loops, WatchedAddresses},
    ring::simulated::World,
    runtime::{sleep, spawn},
    shard::{Accepted, Arrivals, Loads, Shard, Shared},
    telemetry::{PoolState, Registry},
    upstream::{
        cluster::Cluster,
        settings::{ClusterBuilder, ClusterSettings},
    },
};

/// This host's addresses, which no test cares about.
static OWN: LazyLock<Arc<WatchedAddresses>> =
    LazyLock::new(|| Arc::new(WatchedAddresses::start().expect("this host has addresses")));

/// The name of the listener.
const WEB: &str = "web";
/// The name of the cluster.
const CLUSTER: &str = "origin";

/// A proxy with one listener and one cluster, whose one endpoint is [`ORIGIN`].
pub(super) struct Stage {
    shared: Arc<Shared>,
}

/// The origin's cluster. Idle connections are kept: how long one may be idle is told by a real clock.
pub(super) fn cluster() -> ClusterBuilder {
    let origin = SocketAddr::from(ORIGIN).to_string();
    ClusterSettings::builder(CLUSTER).endpoint(&origin).pool_idle(None)
}

impl Stage {
    pub(super) fn new(
        world: &World,
        cluster: ClusterBuilder,
        shape: impl FnOnce(http::Proxy) -> http::Proxy,
    ) -> Stage {
        // Pauses between retries and ids of requests are random, and the same in every run.
        fastrand::seed(world.random().next());
        let cluster = cluster.build().expect("the settings of a cluster");
        let web = shape(http::proxy(Routes::to(Cluster::new(cluster, Instant::now(), 1))));
        let listener = Listener::bind("127.0.0.1:0").expect("an address").named(WEB).serve(web);
        let id = ListenerId(0);
        let entry = ListenerEntry::new(&listener, &mut NamedLimits::default());
        let table = Table {
            listeners: [(id, entry)].into(),
            loops: Loops::watching([PROXY.into()], Arc::clone(&OWN)),
            own: Arc::clone(&OWN),
            limits: Default::default(),
            balance: Arc::new(Balance::default()),
        };
        let shared = Arc::new(Shared {
            table: ArcSwap::from_pointee(table),
            loads: Loads::new(1),
            registry: Arc::new(Registry::new(1)),
            starved_acceptors: Default::default(),
            acceptors_ahead: Default::default(),
        });
        let shard = Shard::new(0, None, Arc::clone(&shared));
        let arrivals = Arrivals::new(shard);
        let accepting = Accepting::adopt(world.listen(PROXY.into()));
        let loads = shared.loads.clone();
        spawn(async move {
            while let Ok(socket) = accepting.accept().await {
                let guard = loads.claim(0).expect("a shard that is there");
                arrivals.arrive(Accepted { socket, listener: id, guard, limit: None });
            }
        })
        .detach();
        Stage { shared }
    }

    /// Waits until nothing is carried or under way any more.
    pub(super) async fn is_quiet(&self) {
        let web = self.shared.registry.http_listener(WEB, 0);
        let pool = &self.shared.registry.http_cluster(CLUSTER, 0).pool;
        let mut waited = 0;
        let left = || {
            let active = [PoolState::Active, PoolState::Connecting].map(|state| pool.value(state));
            (self.shared.loads.total(), web.active.value(), active)
        };
        while left() != (0, 0, [0, 0]) {
            sleep(milliseconds(20)).await;
            waited += 20;
            assert!(waited < 20_000, "after 20 s there is still {:?}", left());
        }
        let load = self.shared.loads.read(0).expect("a shard that is there");
        assert_eq!(load.weight, 0, "requests are still counted");
    }
}
