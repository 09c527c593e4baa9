//! The two proxies of the demonstration: outbound forwards requests to inbound, inbound to the origin.
//! Between them is mutual TLS.
//!
//! In: a balance, which both use. Out: where clients connect, and what each shard carries. There are
//! two because a proxy takes a connection to a listener of its own for a loop, and refuses it.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use evenkeel::{
    Builder, Drained, Error, Listener, Proxy,
    accept::Balance,
    http::{self, Routes},
    tls,
    upstream::{
        cluster::Cluster,
        settings::{ClusterBuilder, ClusterSettings},
    },
};

use super::{
    identities::{Authority, Seen},
    picture::Carried,
};

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
    /// By inbound.
    seen: Seen,
}

impl Stage {
    pub(super) fn start(
        balance: Balance,
        shards: usize,
        origin: SocketAddr,
    ) -> Result<Stage, Error> {
        let (authority, seen) = (Authority::new()?, Seen::default());
        let to_origin = http::proxy(Routes::to(cluster(origin)?));
        let secured = tls::terminate(authority.inbound()?, seen.before(to_origin));
        let inbound = Listener::bind(ANY_PORT)?.named("inbound").serve(secured);
        let inbound = proxy(&balance, shards).listener(inbound).start()?;

        let next = secured_cluster(address(&inbound, "inbound")?, &authority)?;
        let start = |admin: &str| {
            let to_inbound = http::proxy(Routes::to(Arc::clone(&next)));
            let listener = Listener::bind(ANY_PORT)?.named("outbound").serve(to_inbound);
            proxy(&balance, shards).listener(listener).admin(admin).start()
        };
        let outbound = match start(ADMIN) {
            Err(Error::Admin(_)) => start(ANY_PORT)?,
            started => started?,
        };
        let address = address(&outbound, "outbound")?;
        Ok(Stage { balance, outbound, inbound, address, seen })
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

    /// Whom inbound has verified, and how they talk.
    pub(super) fn peers(&self) -> Vec<String> {
        self.seen.peers()
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

fn proxy(balance: &Balance, shards: usize) -> Builder {
    Proxy::builder().shards(shards).balance(balance.clone())
}

fn address(proxy: &Proxy, listener: &str) -> Result<SocketAddr, Error> {
    let address = proxy.local_addr(listener);
    address.ok_or_else(|| Error::Invalid(format!("{listener} listens on no address")))
}

/// A cluster of one.
fn cluster(endpoint: SocketAddr) -> Result<Arc<Cluster>, Error> {
    made(settings(endpoint))
}

/// The same, over TLS.
fn secured_cluster(endpoint: SocketAddr, authority: &Authority) -> Result<Arc<Cluster>, Error> {
    made(settings(endpoint).tls(authority.outbound()?))
}

/// Its connections stay open, so that there are as many to see as were needed at a time.
fn settings(endpoint: SocketAddr) -> ClusterBuilder {
    ClusterSettings::builder("next").endpoint(&endpoint.to_string()).pool_idle(None)
}

fn made(settings: ClusterBuilder) -> Result<Arc<Cluster>, Error> {
    let settings = settings.build().map_err(|error| Error::Invalid(error.to_string()))?;
    Ok(Cluster::new(settings, Instant::now(), 0))
}
