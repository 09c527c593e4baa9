//! Connections that arrive on the simulated driver as they do on a shard: by a table, at a listener's
//! service.

use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;

use super::PROXY;
use crate::{
    accept::Balance,
    listener::{
        Listener, NamedLimits, Table,
        table::{ListenerEntry, ListenerId},
    },
    net::Accepting,
    original_dst::{Loops, WatchedAddresses},
    ring::simulated::World,
    runtime::spawn,
    shard::{Accepted, Arrivals, Loads, Shard, Shared},
    telemetry::Registry,
};

/// This host's addresses, which no test cares about.
static OWN: LazyLock<Arc<WatchedAddresses>> =
    LazyLock::new(|| Arc::new(WatchedAddresses::start().expect("this host has addresses")));

/// Gives what connects to [`PROXY`] to the service of a listener, on a proxy's only shard.
pub(super) fn serve(world: &World, listener: &Listener) -> Arc<Shared> {
    let id = ListenerId(0);
    let entry = ListenerEntry::new(listener, &mut NamedLimits::default());
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
    shared
}
