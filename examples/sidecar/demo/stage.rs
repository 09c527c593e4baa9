//! The two proxies of the demonstration: outbound forwards requests to inbound, inbound to the origin.
//!
//! In: a balance, which both use. Out: where clients connect, and what each shard carries. There are
//! two because a proxy takes a connection to a listener of its own for a loop, and refuses it.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use evenkeel::{
    Drained, DriverInUse, Error, Listener, Proxy,
    accept::Balance,
    http::{self, Routes},
    upstream::{cluster::Cluster, settings::ClusterSettings},
};

use super::picture::Carried;

/// Where the admin server is to be, as in the configurations of the sidecar.
const ADMIN: &str = "127.0.0.1:15000";
/// Where it is instead if that is taken.
const ANY_PORT: &str = "127.0.0.1:0";

pub(super) struct Stage {
    balance: Balance,
    outbound: Proxy,
    inbound: Proxy,
    /// Where outbound listens.
    address: SocketAddr,
}

impl Stage {
    pub(super) fn start(
        balance: Balance,
        shards: usize,
        origin: SocketAddr,
    ) -> Result<Stage, Error> {
        let start = |name: &str, upstream: SocketAddr, admin: Option<&str>| {
            let next = next(upstream)?;
            let listener =
                Listener::bind(ANY_PORT)?.named(name).serve(http::proxy(Routes::to(next)));
            let mut builder =
                Proxy::builder().shards(shards).balance(balance.clone()).listener(listener);
            if let Some(admin) = admin {
                builder = builder.admin(admin);
            }
            let proxy = builder.start()?;
            let address = proxy
                .local_addr(name)
                .ok_or_else(|| Error::Invalid(format!("{name} listens on no address")))?;
            Ok::<_, Error>((proxy, address))
        };
        let (inbound, inbound_address) = start("inbound", origin, None)?;
        let (outbound, address) = match start("outbound", inbound_address, Some(ADMIN)) {
            Err(Error::Admin(_)) => start("outbound", inbound_address, Some(ANY_PORT))?,
            started => started?,
        };
        Ok(Stage { balance, outbound, inbound, address })
    }

    /// What both run on.
    pub(super) fn driver(&self) -> &DriverInUse {
        self.outbound.driver()
    }

    pub(super) fn balance(&self) -> &Balance {
        &self.balance
    }

    /// Where clients connect.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The addresses of outbound's admin server.
    pub(super) fn admin(&self) -> &[SocketAddr] {
        self.outbound.admin_addrs()
    }

    /// The connections of each shard, now.
    pub(super) fn carried(&self) -> Carried {
        let of = |proxy: &Proxy| proxy.shards().iter().map(|load| load.connections).collect();
        Carried { outbound: of(&self.outbound), inbound: of(&self.inbound) }
    }

    /// Drains both, the one that clients connect to first. Gives what became of its connections.
    pub(super) fn drain(&self, within: Duration) -> Drained {
        let deadline = Instant::now() + within;
        let drained = self.outbound.drain(within);
        // Every connection of inbound comes from outbound, so what is open here is ending.
        let _ = self.inbound.drain(deadline.saturating_duration_since(Instant::now()));
        drained
    }
}

/// A cluster of one. Its connections stay open, so that there are as many to see as were needed at a
/// time.
fn next(upstream: SocketAddr) -> Result<Arc<Cluster>, Error> {
    let settings = ClusterSettings::builder("next")
        .endpoint(&upstream.to_string())
        .pool_idle(None)
        .build()
        .map_err(|error| Error::Invalid(error.to_string()))?;
    Ok(Cluster::new(settings, Instant::now(), 0))
}
