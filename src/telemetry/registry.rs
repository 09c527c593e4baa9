//! The registry of a proxy: hands out groups of cells, and reads them all.
//!
//! A lock is taken to hand out and to list groups, never to update one and never while a sink or
//! source runs.

mod http;
mod tls;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::catalog::{self, Metric};
use super::cell::seconds;
use super::groups::{
    AcceptCells, AcceptorCells, ClusterCells, ListenerCells, ProxyCells, ShardCells,
};
use super::http::{ClusterState, HttpClusterCells, HttpListenerCells};
use super::label::{CounterBy, LabelValue, RejectReason, ReloadResult};
use super::sink::{Sink, Source};
use super::tls::TlsCells;

/// Groups of one kind by the shard or acceptor that writes them.
type ByOwner<T> = BTreeMap<usize, Arc<T>>;
type ByName<T> = BTreeMap<Arc<str>, ByOwner<T>>;

#[derive(Default, Clone)]
struct Groups {
    shards: ByOwner<ShardCells>,
    listeners: ByName<ListenerCells>,
    clusters: ByName<ClusterCells>,
    accepts: ByName<AcceptCells>,
    acceptors: ByOwner<AcceptorCells>,
    http_listeners: ByName<HttpListenerCells>,
    http_clusters: ByName<HttpClusterCells>,
    tls_listeners: ByName<TlsCells>,
    tls_clusters: ByName<TlsCells>,
    cluster_states: BTreeMap<Arc<str>, Weak<dyn ClusterState>>,
    sources: Vec<Arc<dyn Source>>,
}

/// The cells of one proxy.
///
/// Groups are made when they are first asked for and stay: who asks again, after a reload for
/// instance, gets the same cells with their counts. So the registry grows with the number of
/// different listeners and clusters that the configuration has ever named, by 128 to 512 bytes
/// each and shard, and 1,280 more for a listener that serves HTTP.
pub struct Registry {
    shards: usize,
    proxy: ProxyCells,
    groups: Mutex<Groups>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("shards", &self.shards).finish_non_exhaustive()
    }
}

/// One shard's part of a listener, for overviews.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerShard {
    /// The shard's index.
    pub shard: usize,
    /// Connections that it is serving.
    pub active: i64,
    /// Connections that it began to serve.
    pub total: u64,
}

impl Registry {
    /// A registry for a proxy of `shards` shards: each of them is in every metric that has a shard
    /// label, at zero before it counts anything.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        Self { shards, proxy: ProxyCells::default(), groups: Mutex::default() }
    }

    /// The cells of the shard `shard`'s own loop.
    #[must_use]
    pub fn shard(&self, shard: usize) -> Arc<ShardCells> {
        self.lock().shards.entry(shard).or_default().clone()
    }

    /// The cells of the shard `shard` for the listener `name`.
    #[must_use]
    pub fn listener(&self, name: &str, shard: usize) -> Arc<ListenerCells> {
        get_or_create(&mut self.lock().listeners, name, shard)
    }

    /// The cells of the shard `shard` for the cluster `name`.
    #[must_use]
    pub fn cluster(&self, name: &str, shard: usize) -> Arc<ClusterCells> {
        get_or_create(&mut self.lock().clusters, name, shard)
    }

    /// The cells of the shard `shard` for the HTTP of the listener `name`.
    #[must_use]
    pub fn http_listener(&self, name: &str, shard: usize) -> Arc<HttpListenerCells> {
        get_or_create(&mut self.lock().http_listeners, name, shard)
    }

    /// The cells of the shard `shard` for the HTTP to the cluster `name`.
    #[must_use]
    pub fn http_cluster(&self, name: &str, shard: usize) -> Arc<HttpClusterCells> {
        get_or_create(&mut self.lock().http_clusters, name, shard)
    }

    /// The cells of the shard `shard` for the TLS of the listener `name`.
    #[must_use]
    pub fn tls_listener(&self, name: &str, shard: usize) -> Arc<TlsCells> {
        get_or_create(&mut self.lock().tls_listeners, name, shard)
    }

    /// The cells of the shard `shard` for the TLS to the cluster `name`.
    #[must_use]
    pub fn tls_cluster(&self, name: &str, shard: usize) -> Arc<TlsCells> {
        get_or_create(&mut self.lock().tls_clusters, name, shard)
    }

    /// Whom to ask what only the cluster `name` as a whole knows, instead of whom was asked before.
    /// Once it is gone its metrics are 0.
    pub fn set_cluster_state(&self, name: &str, state: Weak<dyn ClusterState>) {
        self.lock().cluster_states.insert(Arc::from(name), state);
    }

    /// The cells of the acceptor `acceptor` for the accepting listener `listener`.
    #[must_use]
    pub fn accept(&self, listener: &str, acceptor: usize) -> Arc<AcceptCells> {
        get_or_create(&mut self.lock().accepts, listener, acceptor)
    }

    /// The cells of the acceptor `acceptor`'s own loop.
    #[must_use]
    pub fn acceptor(&self, acceptor: usize) -> Arc<AcceptorCells> {
        self.lock().acceptors.entry(acceptor).or_default().clone()
    }

    /// The cells of the whole proxy.
    #[must_use]
    pub fn proxy(&self) -> &ProxyCells {
        &self.proxy
    }

    /// Adds values that live elsewhere, read at every collection from now on.
    pub fn add_source(&self, source: impl Source + 'static) {
        self.lock().sources.push(Arc::new(source));
    }

    /// How the connections of the listener `name` lie on the shards, every shard included.
    #[must_use]
    pub fn listener_shards(&self, name: &str) -> Vec<ListenerShard> {
        let groups = self.lock().listeners.get(name).cloned().unwrap_or_default();
        let mut shards = Vec::with_capacity(self.shards);
        self.each_shard(&groups, |shard, cells: &ListenerCells| {
            let (active, total) = (cells.active.value(), cells.connections.value());
            shards.push(ListenerShard { shard, active, total });
        });
        shards
    }

    /// Gives every series to `sink`, those of the sources last.
    pub fn collect(&self, sink: &mut dyn Sink) {
        let groups = self.lock().clone();
        self.collect_proxy(sink);
        self.collect_shards(&groups.shards, sink);
        for (name, cells) in &groups.listeners {
            self.collect_listener(name, cells, sink);
        }
        for (name, cells) in &groups.clusters {
            self.collect_cluster(name, cells, sink);
        }
        for (name, cells) in &groups.accepts {
            collect_accepts(name, cells, sink);
        }
        self.collect_http(&groups, sink);
        self.collect_tls(&groups, sink);
        collect_rejected(&groups, sink);
        collect_acceptors(&groups.acceptors, sink);
        for source in &groups.sources {
            source.collect(sink);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `visit` for every shard of the proxy, and with empty cells where there are none yet.
    fn each_shard<T: Default>(&self, cells: &ByOwner<T>, mut visit: impl FnMut(usize, &T)) {
        let nothing = T::default();
        for shard in 0..self.shards {
            visit(shard, cells.get(&shard).map_or(&nothing, |cells| cells));
        }
        for (shard, cells) in cells.range(self.shards..) {
            visit(*shard, cells);
        }
    }

    fn collect_proxy(&self, sink: &mut dyn Sink) {
        sink.gauge(&catalog::BUILD_INFO, &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        sink.counter(&catalog::SHARDS_FAILED, &[], self.proxy.shards_failed.value());
        for result in ReloadResult::ALL {
            let labels = [("result", result.as_str())];
            sink.counter(&catalog::CONFIG_RELOADS, &labels, self.proxy.reloads(*result));
        }
    }

    fn collect_shards(&self, shards: &ByOwner<ShardCells>, sink: &mut dyn Sink) {
        self.each_shard(shards, |shard, cells| {
            let shard = shard.to_string();
            let labels = [("shard", shard.as_str())];
            sink.seconds(&catalog::SHARD_BUSY_SECONDS, &labels, seconds(cells.busy_nanos.value()));
            sink.histogram(&catalog::SHARD_TURN_DURATION, &labels, &cells.turn_duration.snapshot());
            sink.counter(&catalog::SHARD_COMPLETIONS, &labels, cells.completions.value());
            sink.gauge(&catalog::SHARD_FREE_BUFFERS, &labels, whole(cells.free_buffers.value()));
            let overflows = cells.completion_queue_overflows.value();
            sink.counter(&catalog::COMPLETION_QUEUE_OVERFLOWS, &labels, overflows);
            sink.counter(&catalog::TASKS_PANICKED, &labels, cells.tasks_panicked.value());
            let dropped = cells.access_log_dropped.value();
            sink.counter(&catalog::ACCESS_LOG_DROPPED, &labels, dropped);
        });
    }

    fn collect_listener(&self, name: &str, cells: &ByOwner<ListenerCells>, sink: &mut dyn Sink) {
        self.each_shard(cells, |shard, cells| {
            let shard = shard.to_string();
            let labels = [("listener", name), ("shard", shard.as_str())];
            sink.counter(&catalog::DOWNSTREAM_CONNECTIONS, &labels, cells.connections.value());
            let active = whole(cells.active.value());
            sink.gauge(&catalog::DOWNSTREAM_CONNECTIONS_ACTIVE, &labels, active);
            let received = cells.received_bytes.value();
            sink.counter(&catalog::DOWNSTREAM_RECEIVED_BYTES, &labels, received);
            sink.counter(&catalog::DOWNSTREAM_SENT_BYTES, &labels, cells.sent_bytes.value());
        });
        let listener = ("listener", name);
        let closed = total(cells.values().map(|cells| &cells.closed));
        by_value(sink, &catalog::DOWNSTREAM_CONNECTIONS_CLOSED, listener, "reason", &closed);
        let lookups = total(cells.values().map(|cells| &cells.lookups));
        by_value(sink, &catalog::ORIGINAL_DESTINATION_LOOKUPS, listener, "result", &lookups);
    }

    fn collect_cluster(&self, name: &str, cells: &ByOwner<ClusterCells>, sink: &mut dyn Sink) {
        self.each_shard(cells, |shard, cells| {
            let shard = shard.to_string();
            let labels = [("cluster", name), ("shard", shard.as_str())];
            sink.counter(&catalog::UPSTREAM_CONNECTIONS, &labels, cells.connections.value());
            let active = whole(cells.active.value());
            sink.gauge(&catalog::UPSTREAM_CONNECTIONS_ACTIVE, &labels, active);
            let received = cells.received_bytes.value();
            sink.counter(&catalog::UPSTREAM_RECEIVED_BYTES, &labels, received);
            sink.counter(&catalog::UPSTREAM_SENT_BYTES, &labels, cells.sent_bytes.value());
        });
        let failures = total(cells.values().map(|cells| &cells.connect_failures));
        let cluster = ("cluster", name);
        by_value(sink, &catalog::UPSTREAM_CONNECT_FAILURES, cluster, "reason", &failures);
    }
}

fn get_or_create<T: Default>(groups: &mut ByName<T>, name: &str, owner: usize) -> Arc<T> {
    if let Some(owners) = groups.get_mut(name) {
        return owners.entry(owner).or_default().clone();
    }
    groups.entry(Arc::from(name)).or_default().entry(owner).or_default().clone()
}

fn collect_accepts(name: &str, cells: &ByOwner<AcceptCells>, sink: &mut dyn Sink) {
    let listener = ("listener", name);
    let accepts = cells.values().map(|cells| cells.accepts.value()).sum();
    sink.counter(&catalog::ACCEPTS, &[listener], accepts);
    let accepting = cells.values().map(|cells| cells.accepting.value()).min().unwrap_or(0);
    sink.gauge(&catalog::ACCEPTING, &[listener], whole(accepting));
    let errors = total(cells.values().map(|cells| &cells.errors));
    by_value(sink, &catalog::ACCEPT_ERRORS, listener, "reason", &errors);
}

/// Acceptors and shards both turn connections away, under the name of the same listener.
fn collect_rejected(groups: &Groups, sink: &mut dyn Sink) {
    let mut rejected = BTreeMap::<&str, Totals<RejectReason>>::new();
    for (name, cells) in &groups.listeners {
        let of_shards = total(cells.values().map(|cells| &cells.rejected));
        rejected.insert(name, of_shards);
    }
    for (name, cells) in &groups.accepts {
        let of_acceptors = total(cells.values().map(|cells| &cells.rejected));
        match rejected.get_mut(&**name) {
            Some(sum) => sum.iter_mut().zip(of_acceptors).for_each(|(sum, (_, n))| sum.1 += n),
            None => _ = rejected.insert(name, of_acceptors),
        }
    }
    for (name, reasons) in rejected {
        by_value(sink, &catalog::CONNECTIONS_REJECTED, ("listener", name), "reason", &reasons);
    }
}

fn collect_acceptors(acceptors: &ByOwner<AcceptorCells>, sink: &mut dyn Sink) {
    let last_turns = acceptors.values().map(|cells| cells.last_turn_unix_micros.value());
    if let Some(oldest) = last_turns.min() {
        let oldest = seconds(oldest.max(0) as u64 * 1_000);
        sink.gauge(&catalog::ACCEPTOR_LAST_TURN, &[], oldest);
    }
    let redealt = acceptors.values().map(|cells| cells.handoffs_redealt.value()).sum();
    sink.counter(&catalog::HANDOFFS_REDEALT, &[], redealt);
}

type Totals<L> = Vec<(L, u64)>;

/// The sums over all owners, for metrics without a shard label.
fn total<'a, L: LabelValue, const N: usize>(
    counters: impl Iterator<Item = &'a CounterBy<L, N>>,
) -> Totals<L> {
    let mut totals: Totals<L> = L::ALL.iter().map(|value| (*value, 0)).collect();
    for counter in counters {
        for (value, sum) in &mut totals {
            *sum += counter.value(*value);
        }
    }
    totals
}

fn by_value<L: LabelValue>(
    sink: &mut dyn Sink,
    metric: &Metric,
    owner: (&'static str, &str),
    label: &'static str,
    totals: &Totals<L>,
) {
    for (value, sum) in totals {
        sink.counter(metric, &[owner, (label, value.as_str())], *sum);
    }
}

fn whole(value: i64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests;
