//! What is to be seen of credentials from outside: when they expire, and what became of changes.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{Reloads, watch::Watched};
use crate::telemetry::{ReloadResult, Sink, Source, catalog};

/// The metrics of all credentials that a [`Watch`](super::Watch) looks after.
pub(super) struct Metrics(pub(super) Arc<Watched>);

impl Source for Metrics {
    fn collect(&self, sink: &mut dyn Sink) {
        let (credentials, reloads) = self.0.in_use();
        // A reload of the proxy's configuration may have made new ones while connections of before
        // still use the old ones, under the same name.
        let expiry: BTreeMap<&str, Option<SystemTime>> =
            credentials.iter().map(|it| (it.name(), it.expires_at())).collect();
        for (name, at) in expiry {
            let Some(at) = at else { continue };
            let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
            sink.gauge(&catalog::TLS_CERTIFICATE_EXPIRATION, &[("name", name)], seconds);
        }
        for (result, count) in
            [(ReloadResult::Accepted, reloads.replaced), (ReloadResult::Refused, reloads.failed)]
        {
            sink.counter(&catalog::TLS_RELOADS, &[("result", result.as_str())], count);
        }
    }
}

impl Reloads {
    pub(super) fn add(&mut self, other: Reloads) {
        self.replaced += other.replaced;
        self.failed += other.failed;
    }
}
