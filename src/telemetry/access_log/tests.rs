//! Lines, field by field, and how they reach a sink.

mod lines;
mod writing;

use super::super::outcome::{Outcome, VIA_UPSTREAM};
use super::{Entry, Fields, Request};
use std::time::{Duration, UNIX_EPOCH};

/// 2020-11-25T21:26:18.409Z
const START: Duration = Duration::from_millis(1_606_339_578_409);

type List<'a> = &'a [(&'a str, &'a [u8])];

/// The fields of the request in Istio's documentation.
const CURL: List<'static> = &[
    ("user-agent", b"curl/7.73.0-DEV"),
    ("x-request-id", b"84961386-6d84-929d-98bd-c5aee93b5c88"),
    ("x-envoy-original-path", b"/forged"),
];

/// That request, as the client's sidecar sees it.
fn teapot() -> Outcome<'static> {
    let mut outcome = Outcome::new(UNIX_EPOCH + START);
    outcome.status = 418;
    outcome.details = Some(VIA_UPSTREAM);
    outcome.sent = 135;
    outcome.duration = Duration::from_micros(4_999);
    outcome.upstream_time = Some(Duration::from_millis(4));
    outcome.upstream = Some("10.44.1.27:80".parse().unwrap());
    outcome.cluster = Some("outbound|8000||httpbin.foo.svc.cluster.local");
    outcome.upstream_local = Some("10.44.1.23:37652".parse().unwrap());
    outcome.route = Some("default");
    outcome
}

/// Its entry.
fn entry<'a>(outcome: &'a Outcome<'a>, fields: &'a dyn Fields) -> Entry<'a> {
    let mut entry = Entry::new(outcome);
    entry.request = Some(Request {
        method: "GET",
        path: b"/status/418",
        original_path: None,
        authority: b"httpbin:8000",
        protocol: "HTTP/1.1",
        fields,
    });
    entry.downstream_local = Some("10.0.45.184:8000".parse().unwrap());
    entry.downstream_remote = Some("10.44.1.23:46520".parse().unwrap());
    entry
}
