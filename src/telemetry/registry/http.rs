//! Reading the cells of HTTP.

use super::super::http::{
    CircuitLimit, ClusterState, HttpClusterCells, HttpListenerCells, PoolState, RequestCounts,
};
use super::super::label::LabelValue;
use super::super::outcome::{CodeClass, ResponseFlag};
use super::{ByOwner, Groups, Registry, Sink, by_value, catalog, total, whole};

impl Registry {
    pub(super) fn collect_http(&self, groups: &Groups, sink: &mut dyn Sink) {
        for (name, cells) in &groups.http_listeners {
            self.collect_http_listener(name, cells, sink);
        }
        for (name, cells) in &groups.http_clusters {
            self.collect_http_cluster(name, cells, sink);
        }
        for (name, state) in &groups.cluster_states {
            collect_state(name, state.upgrade().as_deref(), sink);
        }
    }

    fn collect_http_listener(
        &self,
        name: &str,
        cells: &ByOwner<HttpListenerCells>,
        sink: &mut dyn Sink,
    ) {
        let listener = ("listener", name);
        self.each_shard(cells, |shard, cells| {
            let shard = shard.to_string();
            let labels = [listener, ("shard", shard.as_str())];
            collect_requests(&cells.requests, labels, sink);
            sink.gauge(&catalog::REQUESTS_ACTIVE, &labels, whole(cells.active.value()));
        });
        let mut duration = HttpListenerCells::default().duration.snapshot();
        cells.values().for_each(|cells| duration.add(&cells.duration.snapshot()));
        sink.histogram(&catalog::REQUEST_DURATION, &[listener], &duration);
        let rejected = total(cells.values().map(|cells| &cells.rejected));
        by_value(sink, &catalog::HTTP_REJECTED, listener, "reason", &rejected);
    }

    fn collect_http_cluster(
        &self,
        name: &str,
        cells: &ByOwner<HttpClusterCells>,
        sink: &mut dyn Sink,
    ) {
        self.each_shard(cells, |shard, cells| {
            let shard = shard.to_string();
            let [cluster, shard] = [("cluster", name), ("shard", shard.as_str())];
            for code in CodeClass::ALL {
                let labels = [cluster, shard, ("code", code.as_str())];
                sink.counter(&catalog::UPSTREAM_REQUESTS, &labels, cells.requests.value(*code));
            }
            sink.counter(&catalog::UPSTREAM_RETRIES, &[cluster, shard], cells.retries.value());
            for state in PoolState::ALL {
                let labels = [cluster, shard, ("state", state.as_str())];
                let connections = whole(cells.pool.value(*state));
                sink.gauge(&catalog::UPSTREAM_POOL_CONNECTIONS, &labels, connections);
            }
        });
    }
}

/// Gives each combination that has occurred, and the ordinary ones always: all of them would be a
/// hundred series for each listener and shard, nearly all of them zero for ever.
fn collect_requests(
    requests: &RequestCounts,
    [listener, shard]: [(&'static str, &str); 2],
    sink: &mut dyn Sink,
) {
    for code in CodeClass::ALL {
        for flag in ResponseFlag::ALL {
            let count = requests.value(*code, *flag);
            let ordinary = *flag == ResponseFlag::None && *code != CodeClass::None;
            if count > 0 || ordinary {
                let labels = [listener, shard, ("code", code.as_str()), ("flag", flag.as_str())];
                sink.counter(&catalog::REQUESTS, &labels, count);
            }
        }
    }
}

/// Of a cluster that is gone all is 0: recorders go on with the last value of a gauge for ever.
fn collect_state(name: &str, state: Option<&dyn ClusterState>, sink: &mut dyn Sink) {
    let cluster = ("cluster", name);
    for limit in CircuitLimit::ALL {
        let open = state.is_some_and(|state| state.is_open(*limit));
        let labels = [cluster, ("limit", limit.as_str())];
        sink.gauge(&catalog::CIRCUIT_BREAKER_OPEN, &labels, f64::from(u8::from(open)));
    }
    let ejected = state.map_or(0, |state| state.ejected_endpoints());
    sink.gauge(&catalog::UPSTREAM_EJECTED_ENDPOINTS, &[cluster], ejected as f64);
}
