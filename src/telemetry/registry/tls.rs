//! Reading the cells of TLS.

use super::super::label::LabelValue;
use super::super::tls::{HandshakeResult, TlsCells};
use super::{ByOwner, Groups, Metric, Registry, Sink, by_value, catalog, total};

impl Registry {
    pub(super) fn collect_tls(&self, groups: &Groups, sink: &mut dyn Sink) {
        for (name, cells) in &groups.tls_listeners {
            let listener = ("listener", &**name);
            self.collect_results(&catalog::DOWNSTREAM_TLS_HANDSHAKES, listener, cells, sink);
            let failures = total(cells.values().map(|cells| &cells.failures));
            let metric = &catalog::DOWNSTREAM_TLS_HANDSHAKE_FAILURES;
            by_value(sink, metric, listener, "reason", &failures);
            let mut duration = TlsCells::default().duration.snapshot();
            cells.values().for_each(|cells| duration.add(&cells.duration.snapshot()));
            sink.histogram(&catalog::DOWNSTREAM_TLS_HANDSHAKE_DURATION, &[listener], &duration);
        }
        for (name, cells) in &groups.tls_clusters {
            let cluster = ("cluster", &**name);
            self.collect_results(&catalog::UPSTREAM_TLS_HANDSHAKES, cluster, cells, sink);
            let failures = total(cells.values().map(|cells| &cells.failures));
            let metric = &catalog::UPSTREAM_TLS_HANDSHAKE_FAILURES;
            by_value(sink, metric, cluster, "reason", &failures);
        }
    }

    fn collect_results(
        &self,
        metric: &Metric,
        owner: (&'static str, &str),
        cells: &ByOwner<TlsCells>,
        sink: &mut dyn Sink,
    ) {
        self.each_shard(cells, |shard, cells| {
            let shard = shard.to_string();
            for result in HandshakeResult::ALL {
                let labels = [owner, ("shard", shard.as_str()), ("result", result.as_str())];
                sink.counter(metric, &labels, cells.results.value(*result));
            }
        });
    }
}
