//! Runs the health checks of a cluster: connects to its endpoints, or asks them for a page.
//!
//! *In:* a cluster. *Out:* the results, to its [`Checks`]. *Owns:* the connections that it probes over.
//! *Never:* uses a connection of a pool, or asks an endpoint twice at a time.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use super::{
    cluster::Cluster,
    connect::connect_uncounted,
    endpoint::Endpoint,
    health::{Checks, Probe},
};
use crate::{
    net::Stream,
    runtime::{sleep, spawn, timeout},
};

/// How soon a change of the cluster is noticed where no check is due.
const NOTICED_WITHIN: Duration = Duration::from_secs(1);

/// The most of an answer that is looked at for its status.
const LONGEST_STATUS_LINE: usize = 4 << 10;

/// Runs the health checks of a cluster on this shard, as its settings say at each moment, for as long
/// as `alive` lives. One shard does it for all.
pub async fn watch_health(cluster: Arc<Cluster>, alive: Weak<()>) {
    let checks = Checks::new(Arc::clone(&cluster), Instant::now(), fastrand::u64(..));
    let checks = Rc::new(RefCell::new(checks));
    while alive.strong_count() > 0 {
        let now = Instant::now();
        checks.borrow_mut().follow(now);
        loop {
            let due = checks.borrow_mut().due(now);
            let Some(endpoint) = due else { break };
            let (checks, cluster) = (Rc::clone(&checks), Arc::clone(&cluster));
            spawn(async move {
                let well = is_well(&cluster, &endpoint).await;
                let changed = checks.borrow_mut().report(endpoint.id(), well, Instant::now());
                if let Some(healthy) = changed {
                    let (cluster, endpoint) = (cluster.name(), endpoint.address());
                    tracing::info!(%cluster, %endpoint, healthy, "an endpoint's health has changed");
                }
            })
            .detach();
        }
        let next = checks.borrow().next_due();
        let wait = next.map_or(NOTICED_WITHIN, |next| next.saturating_duration_since(now));
        sleep(wait.min(NOTICED_WITHIN)).await;
    }
}

async fn is_well(cluster: &Cluster, endpoint: &Endpoint) -> bool {
    let snapshot = cluster.snapshot();
    let settings = snapshot.settings();
    let Some(check) = settings.health() else { return true };
    let probe = async {
        let connected = connect_uncounted(endpoint.address(), settings.connect_options()).await;
        let Ok(mut stream) = connected else { return false };
        let is_well = match &check.probe {
            Probe::Connect => true,
            Probe::Get { path, host } => {
                let host = host.as_deref().unwrap_or(endpoint.authority());
                let request = format!(
                    "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: evenkeel-health\r\n\
                     Connection: close\r\n\r\n"
                );
                stream.send(request.into_bytes()).await.is_ok()
                    && matches!(read_status(&mut stream).await, Some(200..300))
            }
        };
        stream.announce_end();
        is_well
    };
    timeout(check.timeout, probe).await.unwrap_or(false)
}

/// The status of an answer; `None` if it is none.
async fn read_status(stream: &mut Stream) -> Option<u16> {
    let mut head = Vec::new();
    while head.len() < LONGEST_STATUS_LINE {
        let chunk = stream.receive().await.ok()??;
        head.extend_from_slice(&chunk);
        let mut fields = [];
        let mut response = httparse::Response::new(&mut fields);
        match response.parse(&head) {
            // There is no room for fields: the status line was read.
            Ok(_) | Err(httparse::Error::TooManyHeaders) if response.code.is_some() => {
                return response.code;
            }
            Ok(_) => {}
            Err(_) => return None,
        }
    }
    None
}
