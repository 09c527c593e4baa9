//! The table by which acceptors and shards treat connections: caps, the policy that chooses the
//! shard, and for each listener the services.
//!
//! One writer makes a table, whole, and swaps it in for all threads at once; nobody changes one. They
//! notice at the next connection. A shard makes the services of a route when the route's first
//! connection comes, and keeps them while the route is in the table.

use std::{
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{Limit, Limits, Listener, NamedLimits, Pattern};
use crate::{
    accept::Balance,
    original_dst::{Destination as Found, Loops, OriginalDestination, WatchedAddresses},
    service::{AnyFactory, AnyService},
    telemetry::{ListenerCells, LookupResult, RejectReason},
};

/// Names an accepting listener for as long as the proxy has its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ListenerId(pub(crate) u32);

pub(crate) struct Table {
    pub(crate) listeners: HashMap<ListenerId, ListenerEntry>,
    pub(crate) loops: Loops,
    pub(crate) own: Arc<WatchedAddresses>,
    pub(crate) limits: Limits,
    /// Another one means that acceptors make their policies anew.
    pub(crate) balance: Arc<Balance>,
}

/// An accepting listener.
#[derive(Clone)]
pub(crate) struct ListenerEntry {
    pub(crate) name: Arc<str>,
    pub(crate) proxy_protocol: bool,
    lookup: Option<Arc<dyn OriginalDestination>>,
    inbound: bool,
    destinations: HashMap<Pattern, Route>,
    /// For redirected connections that no destination matches; `None` refuses them.
    unmatched: Option<Route>,
    /// Whether `unmatched` serves connections that were made to the listener itself.
    serves_direct: bool,
}

/// A service under its name.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) id: u64,
    pub(crate) name: Arc<str>,
    pub(crate) limit: Option<Limit>,
    pub(crate) factory: Arc<dyn AnyFactory>,
}

/// A route's part on one shard.
pub(crate) struct RouteOnShard {
    pub(crate) name: Arc<str>,
    pub(crate) cells: Arc<ListenerCells>,
    pub(crate) service: Rc<dyn AnyService>,
}

/// What is to become of a connection.
pub(crate) enum Verdict<'t> {
    Serve { route: &'t Route, destination: Option<SocketAddr>, lookup: Option<LookupResult> },
    Refuse { reason: RejectReason, lookup: Option<LookupResult> },
}

impl Route {
    fn new(name: &str, limit: Option<Limit>, factory: Arc<dyn AnyFactory>) -> Route {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Relaxed);
        Route { id, name: name.into(), limit, factory }
    }
}

impl ListenerEntry {
    pub(crate) fn new(listener: &Listener, limits: &mut NamedLimits) -> ListenerEntry {
        let name = listener.display_name();
        let serves_direct = listener.service.is_some();
        // The listener's own limit is counted where its connections are accepted.
        let unmatched = listener.service.as_ref().or(listener.fallback.as_ref());
        let unmatched = unmatched.map(|factory| Route::new(&name, None, Arc::clone(factory)));
        let destinations = listener.destinations.iter().map(|destination| {
            let factory = Arc::clone(&destination.service);
            let limit = limits.limit(&destination.name, destination.max_connections);
            (destination.pattern, Route::new(&destination.name, limit, factory))
        });
        ListenerEntry {
            proxy_protocol: listener.proxy_protocol,
            lookup: listener.lookup.clone(),
            inbound: listener.inbound,
            destinations: destinations.collect(),
            unmatched,
            serves_direct,
            name: name.into(),
        }
    }

    pub(crate) fn lookup(&self) -> Option<&dyn OriginalDestination> {
        self.lookup.as_deref()
    }

    /// Decides what a connection is for. `found` is what the lookup gave; `None` without a lookup.
    pub(crate) fn decide(&self, found: Option<Found>, table: &Table) -> Verdict<'_> {
        let Some(found) = found else { return self.decide_direct(None, RejectReason::Blackhole) };
        let (lookup, destination) = match found {
            Found::Redirected(destination) => (LookupResult::Redirected, destination),
            Found::Transparent(destination) => (LookupResult::Tproxy, destination),
            Found::Direct => {
                return self.decide_direct(Some(LookupResult::Direct), RejectReason::Direct);
            }
            Found::Missing => {
                return self.decide_direct(Some(LookupResult::Missing), RejectReason::Missing);
            }
        };
        let matched = Pattern::matching(destination)
            .iter()
            .find_map(|pattern| self.destinations.get(pattern))
            .or(self.unmatched.as_ref());
        let Some(route) = matched else {
            return Verdict::Refuse { reason: RejectReason::Blackhole, lookup: Some(lookup) };
        };
        if route.factory.may_forward() && table.loops.is_loop(destination) {
            let lookup = Some(LookupResult::Loop);
            return Verdict::Refuse { reason: RejectReason::Loop, lookup };
        }
        // Whatever serves it: a service that has its target from elsewhere now may not tomorrow.
        if self.inbound && table.own.contains(destination.ip()) != Some(true) {
            return Verdict::Refuse { reason: RejectReason::Blackhole, lookup: Some(lookup) };
        }
        Verdict::Serve { route, destination: Some(destination), lookup: Some(lookup) }
    }

    /// Decides about a connection that has no original destination.
    fn decide_direct(&self, lookup: Option<LookupResult>, reason: RejectReason) -> Verdict<'_> {
        match &self.unmatched {
            Some(route) if self.serves_direct && !route.factory.needs_original_destination() => {
                Verdict::Serve { route, destination: None, lookup }
            }
            _ => Verdict::Refuse { reason, lookup },
        }
    }
}
