//! What happens to a connection when it arrives on its shard: its original destination is looked
//! up, a route is found, and the route's service gets it.

use std::{
    cell::RefCell,
    collections::HashMap,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
};

use super::{Accepted, LoadGuard, Shard};
use crate::{
    listener::{
        LimitGuard, RouteOnShard, Table,
        table::{ListenerEntry, Route, Verdict},
    },
    telemetry::{ListenerCells, LookupResult, RejectReason},
};

/// The arrivals of one shard.
pub(crate) struct Arrivals {
    shard: Shard,
    known: RefCell<Known>,
}

/// A connection for which a route was found, on its way to the route's service.
pub(crate) struct Arrived {
    pub(crate) socket: OwnedFd,
    pub(crate) guard: LoadGuard,
    pub(crate) original_destination: Option<SocketAddr>,
    pub(crate) expects_proxy_header: bool,
    pub(crate) shard: Shard,
    pub(crate) route: Rc<RouteOnShard>,
    /// Its places under the listener's limit and under the destination's.
    pub(crate) limits: [Option<LimitGuard>; 2],
}

/// What was made for the table that is in force.
struct Known {
    table: Arc<Table>,
    routes: HashMap<u64, Rc<RouteOnShard>>,
    listeners: HashMap<Arc<str>, Arc<ListenerCells>>,
}

impl Arrivals {
    pub(crate) fn new(shard: Shard) -> Arrivals {
        let table = shard.shared().table.load_full();
        let known = Known { table, routes: HashMap::new(), listeners: HashMap::new() };
        Arrivals { shard, known: RefCell::new(known) }
    }

    /// Starts to serve a connection, or closes it. A lookup or a factory that panics, which is the
    /// embedder's code, closes this connection and harms no other.
    pub(crate) fn arrive(&self, accepted: Accepted) {
        // Nothing of ours is borrowed while that code runs, so nothing is left half done.
        if catch_unwind(AssertUnwindSafe(|| self.receive(accepted))).is_err() {
            self.shard.registry().shard(self.shard.index()).tasks_panicked.increment();
            tracing::error!(
                "a lookup or the factory of a service panicked; a connection is closed"
            );
        }
    }

    fn receive(&self, accepted: Accepted) {
        let table = self.current_table();
        // A listener that a reload took away while this connection was on its way.
        let Some(entry) = table.listeners.get(&accepted.listener) else { return };
        let lookup = entry.lookup().map(|lookup| lookup.lookup(accepted.socket.as_fd()));
        let found = match lookup.transpose() {
            Ok(found) => found,
            Err(error) => {
                self.shard.log_peer(|suppressed| {
                    tracing::warn!(
                        listener = %entry.name,
                        suppressed,
                        "cannot look up an original destination: {error}"
                    );
                });
                self.cells(&entry.name).lookups.increment(LookupResult::Missing);
                return self.refuse(entry, RejectReason::Missing);
            }
        };
        match entry.decide(found, &table) {
            Verdict::Refuse { reason, lookup } => {
                if let Some(result) = lookup {
                    self.cells(&entry.name).lookups.increment(result);
                }
                self.refuse(entry, reason);
            }
            Verdict::Serve { route, destination, lookup } => {
                if let Some(result) = lookup {
                    self.cells(&entry.name).lookups.increment(result);
                }
                let limit = match route.limit.as_ref().map(|limit| limit.try_enter()) {
                    Some(None) => {
                        let route = self.route(route);
                        return route.cells.rejected.increment(RejectReason::ListenerLimit);
                    }
                    Some(entered) => entered,
                    None => None,
                };
                let limits = [accepted.limit, limit];
                let route = self.route(route);
                let service = Rc::clone(&route.service);
                service.start(Arrived {
                    socket: accepted.socket,
                    guard: accepted.guard,
                    original_destination: destination,
                    expects_proxy_header: entry.proxy_protocol,
                    shard: self.shard.clone(),
                    route,
                    limits,
                });
            }
        }
    }

    /// The table in force. What was made for routes that are gone from it goes with the old one.
    fn current_table(&self) -> Arc<Table> {
        let known = &mut *self.known.borrow_mut();
        let current = self.shard.shared().table.load();
        if !Arc::ptr_eq(&current, &known.table) {
            known.table = Arc::clone(&current);
            known.routes.clear();
        }
        Arc::clone(&known.table)
    }

    fn route(&self, route: &Route) -> Rc<RouteOnShard> {
        if let Some(known) = self.known.borrow().routes.get(&route.id) {
            return Rc::clone(known);
        }
        // The factory is the embedder's code: nothing is borrowed while it runs.
        let made = Rc::new(RouteOnShard {
            // A name of the shard's own: connections count references to it.
            name: Arc::from(&*route.name),
            cells: self.cells(&route.name),
            service: route.factory.make_any(&self.shard),
        });
        self.known.borrow_mut().routes.insert(route.id, Rc::clone(&made));
        made
    }

    fn cells(&self, listener: &Arc<str>) -> Arc<ListenerCells> {
        let known = &mut *self.known.borrow_mut();
        let cells = known
            .listeners
            .entry(Arc::clone(listener))
            .or_insert_with(|| self.shard.registry().listener(listener, self.shard.index()));
        Arc::clone(cells)
    }

    fn refuse(&self, entry: &ListenerEntry, reason: RejectReason) {
        self.cells(&entry.name).rejected.increment(reason);
    }
}
