//! What finding a route costs: a path made fit to be looked up, and the lookup itself, among few
//! and many routes.
//!
//! Each table of `hosts` has that many exact names, each with a prefix, and as many suffixes; each
//! of `paths` has one host with that many exact paths and as many prefixes. Requests go round over
//! 1,024 of the routes, so that neither caches nor branch predictors have only one to learn.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use evenkeel::http::route::{
    Action, Clusters, Match, PathPolicy, PathRule, Route, RouteSpec, RouteTable, normalize,
};
use http::Method;
use std::hint::black_box;

const SIZES: [usize; 2] = [10, 10_000];
const REQUESTS: usize = 1024;

fn route(host: String, path: PathRule) -> RouteSpec {
    RouteSpec {
        matches: Match { hosts: vec![host], path, ..Match::default() },
        route: Route::new("route", Action::Forward(Clusters::one("cluster"))),
    }
}

/// Looks up one request after the other, from its path as it came.
fn look_up(c: &mut Criterion, group: &str, size: usize, table: &RouteTable, requests: Requests) {
    let Requests { name, hit, request } = requests;
    let requests: Vec<_> = (0..REQUESTS).map(|at| request(at * 7919 % size)).collect();
    c.benchmark_group(group).bench_function(BenchmarkId::new(name, size), |b| {
        let mut round = requests.iter().cycle();
        b.iter(|| {
            let Some((host, path)) = black_box(round.next()) else { return };
            let Ok(path) = normalize(path, PathPolicy::Refuse) else { return };
            let found = table.lookup(&Method::GET, host, &path, |_: &str| None);
            assert_eq!(black_box(found).is_some(), hit);
        });
    });
}

/// What to look up for the route at a position.
struct Requests {
    name: &'static str,
    hit: bool,
    request: fn(usize) -> (String, String),
}

fn hosts(c: &mut Criterion) {
    for size in SIZES {
        let exact = (0..size)
            .map(|at| route(format!("service-{at}.default.svc"), PathRule::Prefix("/v1".into())));
        let suffixes =
            (0..size).map(|at| route(format!("*.tenant-{at}.example"), PathRule::default()));
        let table = RouteTable::build(exact.chain(suffixes).collect()).unwrap();
        let cases = [
            Requests {
                name: "exact",
                hit: true,
                request: |at| (format!("service-{at}.default.svc"), format!("/v1/books/{at}")),
            },
            Requests {
                name: "suffix",
                hit: true,
                request: |at| (format!("www.tenant-{at}.example:8080"), format!("/v1/books/{at}")),
            },
            Requests {
                name: "miss",
                hit: false,
                request: |at| (format!("service-{at}.other.svc"), format!("/v1/books/{at}")),
            },
        ];
        for requests in cases {
            look_up(c, "hosts", size, &table, requests);
        }
    }
}

fn paths(c: &mut Criterion) {
    const HOST: &str = "reviews.default.svc";
    for size in SIZES {
        let exact = (0..size)
            .map(|at| route(HOST.to_owned(), PathRule::Exact(format!("/v1/books/{at}/reviews"))));
        let prefixes = (0..size)
            .map(|at| route(HOST.to_owned(), PathRule::Prefix(format!("/v2/shelves/{at}"))));
        let table = RouteTable::build(exact.chain(prefixes).collect()).unwrap();
        let cases = [
            Requests {
                name: "exact",
                hit: true,
                request: |at| (HOST.to_owned(), format!("/v1/books/{at}/reviews")),
            },
            Requests {
                name: "prefix",
                hit: true,
                request: |at| (HOST.to_owned(), format!("/v2/shelves/{at}/books/1/a")),
            },
            Requests {
                name: "miss",
                hit: false,
                request: |at| (HOST.to_owned(), format!("/v3/books/{at}/a")),
            },
        ];
        for requests in cases {
            look_up(c, "paths", size, &table, requests);
        }
    }
}

/// Making a path fit, apart.
fn normalizing(c: &mut Criterion) {
    let mut group = c.benchmark_group("normalize");
    for (name, path) in [
        ("plain", "/v1/books/1234/reviews"),
        ("well_known", "/.well-known/openid-configuration"),
        ("escape_kept", "/v1/books/a%20b/reviews"),
        ("escape_decoded", "/v1/books/a%2Fb/reviews"),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| normalize(black_box(path), PathPolicy::Refuse));
        });
    }
}

criterion_group!(benches, hosts, paths, normalizing);
criterion_main!(benches);
