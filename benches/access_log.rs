//! What a line of the access log costs a shard: formatting it, the copy into the queue, and the look
//! at whether the writer sleeps. `format` is the first of these alone, into fresh memory; `filtered`
//! is an entry that gets no line; `count` is the metrics of an exchange without a log.
//!
//! The writer runs beside it and throws everything away. Lines that it does not keep up with are
//! dropped, which saves the copy: how many is printed, and many of them make a measurement void.

use std::{
    hint::black_box,
    time::{Duration, SystemTime},
};

use criterion::{Criterion, criterion_group, criterion_main};
use evenkeel::telemetry::{
    Exchanges, Outcome, Registry, VIA_UPSTREAM,
    access_log::{AccessLog, Entry, Filter, Format, Request},
};

/// The fields of a browser-like request, in the order in which they come.
const FIELDS: &[(&str, &[u8])] = &[
    ("accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-encoding", b"gzip, deflate, br"),
    ("accept-language", b"en-GB,en;q=0.5"),
    ("cookie", b"session=0123456789abcdef0123456789abcdef"),
    ("user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    ("x-forwarded-for", b"203.0.113.7"),
    ("x-forwarded-proto", b"https"),
    ("x-request-id", b"84961386-6d84-929d-98bd-c5aee93b5c88"),
];

fn outcome() -> Outcome<'static> {
    let mut outcome = Outcome::new(SystemTime::now());
    outcome.status = 200;
    outcome.details = Some(VIA_UPSTREAM);
    (outcome.received, outcome.sent) = (0, 24_576);
    outcome.duration = Duration::from_millis(4);
    outcome.upstream_time = Some(Duration::from_millis(3));
    outcome.upstream = "10.44.1.27:80".parse().ok();
    outcome.upstream_local = "10.44.1.23:37652".parse().ok();
    outcome.cluster = Some("outbound|8000||httpbin.foo.svc.cluster.local");
    outcome.route = Some("default");
    outcome
}

fn entry<'a>(outcome: &'a Outcome<'a>) -> Entry<'a> {
    let mut entry = Entry::new(outcome);
    entry.request = Some(Request {
        method: "GET",
        path: b"/catalogue/items?page=3&size=20",
        original_path: None,
        authority: b"shop.example:8000",
        protocol: "HTTP/1.1",
        fields: &FIELDS,
    });
    entry.downstream_local = "10.0.45.184:8000".parse().ok();
    entry.downstream_remote = "10.44.1.23:46520".parse().ok();
    entry
}

fn lines(c: &mut Criterion) {
    let registry = Registry::new(1);
    let outcome = outcome();
    let entry = entry(&outcome);
    let Ok(log) = AccessLog::to(|_: &[u8]| Ok(())) else { return };
    let log = log.queue_bytes(16 << 20);
    let mut group = c.benchmark_group("access_log");
    for (name, format) in [("istio", Format::istio()), ("json", Format::json())] {
        group.bench_function(format!("format/{name}"), |b| {
            b.iter(|| format.line(black_box(&entry)));
        });
        let on_shard = log.clone().format(format).on_shard(registry.shard(0));
        group.bench_function(format!("log/{name}"), |b| {
            b.iter(|| on_shard.log(black_box(&entry)));
        });
    }
    println!("dropped: {} lines", registry.shard(0).access_log_dropped.value());
    let filtered = log.filter(Filter::all().errors()).on_shard(registry.shard(0));
    group.bench_function("filtered", |b| b.iter(|| filtered.log(black_box(&entry))));
    let exchanges = Exchanges::new(registry.http_listener("web", 0), None);
    group.bench_function("count", |b| b.iter(|| exchanges.begin().end(black_box(&entry))));
    group.finish();
}

criterion_group!(benches, lines);
criterion_main!(benches);
