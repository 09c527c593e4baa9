//! The HTTP proxy on the simulated driver, as a shard runs it.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use super::super::{ORIGIN, arrivals, milliseconds};
use crate::{
    http::{self, Routes},
    listener::Listener,
    ring::simulated::World,
    runtime::sleep,
    shard::Shared,
    telemetry::PoolState,
    upstream::{
        cluster::Cluster,
        settings::{ClusterBuilder, ClusterSettings},
    },
};

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
        Stage { shared: arrivals::serve(world, &listener) }
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
