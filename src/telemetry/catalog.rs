//! Every metric of the crate: name, unit and meaning.
//!
//! Names are part of the crate's outside, as are the labels that each doc lists.

use metrics::Unit;

/// A metric's name, unit and help text. Sources outside the crate may define their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// The full name, valid in Prometheus: `[a-zA-Z_:][a-zA-Z0-9_:]*`.
    pub name: &'static str,
    /// The unit of the values, where they have one.
    pub unit: Option<Unit>,
    /// One line of help.
    pub help: &'static str,
}

macro_rules! catalog {
    ($($id:ident = $name:literal, $unit:expr, $labels:literal, $help:literal;)+) => {
        $(
            #[doc = concat!("`", $name, "` (labels: ", $labels, "). ", $help)]
            pub const $id: Metric = Metric { name: $name, unit: $unit, help: $help };
        )+

        /// All of them.
        pub const ALL: &[Metric] = &[$($id,)+];
    };
}

catalog! {
    DOWNSTREAM_CONNECTIONS = "evenkeel_downstream_connections_total", None, "listener, shard",
        "Connections that a shard began to serve, by the listener that matched.";
    DOWNSTREAM_CONNECTIONS_ACTIVE = "evenkeel_downstream_connections_active", None, "listener, shard",
        "Connections that a shard is serving, by the listener that matched.";
    DOWNSTREAM_RECEIVED_BYTES = "evenkeel_downstream_received_bytes_total", Some(Unit::Bytes), "listener, shard",
        "Bytes received from clients.";
    DOWNSTREAM_SENT_BYTES = "evenkeel_downstream_sent_bytes_total", Some(Unit::Bytes), "listener, shard",
        "Bytes sent to clients.";
    DOWNSTREAM_CONNECTIONS_CLOSED = "evenkeel_downstream_connections_closed_total", None, "listener, reason",
        "Served connections that ended, by why.";
    CONNECTIONS_REJECTED = "evenkeel_connections_rejected_total", None, "listener, reason",
        "Connections closed before they were served, by why.";
    SHARD_CONNECTIONS_ACTIVE = "evenkeel_shard_connections_active", None, "shard",
        "Downstream connections on a shard over all listeners, those on their way to it included.";
    SHARD_BUSY_RATIO = "evenkeel_shard_busy_ratio", None, "shard",
        "Share of the recent time that a shard's loop spent working, 0 to 1.";
    SHARD_BUSY_SECONDS = "evenkeel_shard_busy_seconds_total", Some(Unit::Seconds), "shard",
        "Time that a shard's loop spent working.";
    SHARD_FREE_BUFFERS = "evenkeel_shard_free_buffers", None, "shard",
        "Receive buffers of a shard that are not in use.";
    COMPLETION_QUEUE_OVERFLOWS = "evenkeel_completion_queue_overflows_total", None, "shard",
        "How often the kernel had more completions than a shard's completion queue holds.";
    TASKS_PANICKED = "evenkeel_tasks_panicked_total", None, "shard",
        "Tasks that ended in a panic, each ending its own connection.";
    SHARD_TURN_DURATION = "evenkeel_shard_turn_duration_seconds", Some(Unit::Seconds), "shard",
        "How long the turns of a shard's loop took, without the wait for events.";
    SHARD_COMPLETIONS = "evenkeel_shard_completions_total", None, "shard",
        "Completions that a shard's turns took in: over the count of turn durations, completions a turn.";
    SHARDS_FAILED = "evenkeel_shards_failed_total", None, "none",
        "Shards whose thread died.";
    UPSTREAM_CONNECTIONS = "evenkeel_upstream_connections_total", None, "cluster, shard",
        "Connections made to endpoints of a cluster.";
    UPSTREAM_CONNECTIONS_ACTIVE = "evenkeel_upstream_connections_active", None, "cluster, shard",
        "Open connections to endpoints of a cluster.";
    UPSTREAM_RECEIVED_BYTES = "evenkeel_upstream_received_bytes_total", Some(Unit::Bytes), "cluster, shard",
        "Bytes received from a cluster.";
    UPSTREAM_SENT_BYTES = "evenkeel_upstream_sent_bytes_total", Some(Unit::Bytes), "cluster, shard",
        "Bytes sent to a cluster.";
    UPSTREAM_CONNECT_FAILURES = "evenkeel_upstream_connect_failures_total", None, "cluster, reason",
        "Connections to endpoints of a cluster that could not be made, by why.";
    ACCEPTS = "evenkeel_accepts_total", None, "listener",
        "Connections that the kernel handed to the acceptors.";
    ACCEPT_QUEUE_LENGTH = "evenkeel_accept_queue_length", None, "listener",
        "Connections in the kernel's accept queue of a listener.";
    ACCEPTING = "evenkeel_accepting", None, "listener",
        "1 while every acceptor of a listener accepts, 0 while one pauses or drains.";
    ACCEPT_ERRORS = "evenkeel_accept_errors_total", None, "listener, reason",
        "Accepts that failed, by error number.";
    ACCEPTOR_LAST_TURN = "evenkeel_acceptor_last_turn_timestamp_seconds", Some(Unit::Seconds), "none",
        "Unix time at which the acceptor that has been still for longest last turned.";
    HANDOFFS_REDEALT = "evenkeel_handoffs_redealt_total", None, "none",
        "Connections given to another shard than the one chosen first, which was full or gone.";
    ORIGINAL_DESTINATION_LOOKUPS = "evenkeel_original_destination_lookups_total", None, "listener, result",
        "Lookups of original destinations, by what they found.";
    REQUESTS = "evenkeel_requests_total", None, "listener, shard, code, flag",
        "HTTP requests that have ended, by the class of their status and what was out of the ordinary.";
    REQUESTS_ACTIVE = "evenkeel_requests_active", None, "listener, shard",
        "HTTP requests in flight.";
    REQUEST_DURATION = "evenkeel_request_duration_seconds", Some(Unit::Seconds), "listener",
        "From the first byte of a request to the last byte of its answer.";
    HTTP_REJECTED = "evenkeel_http_rejected_total", None, "listener, reason",
        "HTTP requests that the proxy itself refused, by why.";
    UPSTREAM_REQUESTS = "evenkeel_upstream_requests_total", None, "cluster, shard, code",
        "HTTP requests sent to a cluster, each retry for itself, by the class of the answer.";
    UPSTREAM_RETRIES = "evenkeel_upstream_retries_total", None, "cluster, shard",
        "HTTP requests that were sent to a cluster once more.";
    UPSTREAM_POOL_CONNECTIONS = "evenkeel_upstream_pool_connections", None, "cluster, shard, state",
        "HTTP connections to a cluster, by what they are doing.";
    CIRCUIT_BREAKER_OPEN = "evenkeel_circuit_breaker_open", None, "cluster, limit",
        "1 while a limit of a cluster is reached and more is refused.";
    UPSTREAM_EJECTED_ENDPOINTS = "evenkeel_upstream_ejected_endpoints", None, "cluster",
        "Endpoints of a cluster that are not used because of their failures.";
    DOWNSTREAM_TLS_HANDSHAKES = "evenkeel_downstream_tls_handshakes_total", None, "listener, shard, result",
        "TLS handshakes with clients that have ended, by how.";
    DOWNSTREAM_TLS_HANDSHAKE_FAILURES = "evenkeel_downstream_tls_handshake_failures_total", None, "listener, reason",
        "TLS handshakes with clients that failed, by why.";
    DOWNSTREAM_TLS_HANDSHAKE_DURATION = "evenkeel_downstream_tls_handshake_duration_seconds", Some(Unit::Seconds), "listener",
        "How long TLS handshakes with clients took, those that failed left out.";
    UPSTREAM_TLS_HANDSHAKES = "evenkeel_upstream_tls_handshakes_total", None, "cluster, shard, result",
        "TLS handshakes with servers that have ended, by how.";
    UPSTREAM_TLS_HANDSHAKE_FAILURES = "evenkeel_upstream_tls_handshake_failures_total", None, "cluster, reason",
        "TLS handshakes with servers that failed, by why.";
    TLS_CERTIFICATE_EXPIRATION = "evenkeel_tls_certificate_expiration_timestamp_seconds", Some(Unit::Seconds), "name",
        "When the first certificate of a set that is in use expires.";
    TLS_RELOADS = "evenkeel_tls_reloads_total", None, "result",
        "Changes of certificate files that were noticed, by whether the new set was taken.";
    ACCESS_LOG_DROPPED = "evenkeel_access_log_dropped_total", None, "shard",
        "Lines of access logs that found no room, because the log was written too slowly.";
    CONFIG_RELOADS = "evenkeel_config_reloads_total", None, "result",
        "Reloads of the configuration, by what became of them.";
    BUILD_INFO = "evenkeel_build_info", None, "version",
        "1, with the version of the crate as a label.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_counters_are_told_by_their_ending() {
        let names: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            assert!(metric.name.starts_with("evenkeel_"), "{}", metric.name);
            let bytes = metric.name.contains("bytes");
            assert_eq!(metric.unit == Some(Unit::Bytes), bytes, "{}", metric.name);
            let seconds = metric.name.contains("seconds");
            assert_eq!(metric.unit == Some(Unit::Seconds), seconds, "{}", metric.name);
        }
    }
}
