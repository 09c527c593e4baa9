//! Upstreams that fail: retries, time limits, circuit breakers, ejection, and what the client is told.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

use ::http::StatusCode;
use evenkeel::{
    http::{
        self, Routes, Timeouts,
        route::{RetryOn, RetryPolicy, TimeLimit},
    },
    telemetry::{CodeClass, ResponseFlag, access_log::AccessLog},
    upstream::{
        limits::Limits,
        outlier::Outlier,
        retry::{self, RetryBudget},
        settings::Policy,
    },
};

use crate::{
    stage::{Origin, Stage, build, cluster, eventually, get, nowhere, ok, route, routes, settings},
    wire::Wire,
};

const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";

/// Fails so many times, then answers.
fn failing(times: usize) -> (Origin, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let origin = Origin::new(move |wire, _| {
        while let Some(request) = wire.request() {
            match count.fetch_add(1, Relaxed) < times {
                true => wire.send(UNAVAILABLE),
                false => wire.send(ok(&request.body)),
            }
        }
    });
    (origin, asked)
}

/// Serves everything by one route with this policy.
fn retrying(origin: &Origin, policy: RetryPolicy) -> Stage {
    let mut spec = route("/", "origin");
    spec.route.retry = Some(policy);
    Stage::serving(http::proxy(routes(vec![spec], [cluster("origin", origin.address)])))
}

fn on_503(attempts: u32) -> RetryPolicy {
    RetryPolicy {
        attempts,
        statuses: vec![StatusCode::SERVICE_UNAVAILABLE],
        on: RetryOn::default(),
    }
}

fn put(body: &str) -> String {
    format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn answers_are_retried_by_policy_and_the_last_one_stands() {
    needs_io_uring!();
    let (origin, asked) = failing(2);
    let stage = retrying(&origin, on_503(2));
    assert_eq!(stage.ask(put("hello")).text(), "hello");
    assert_eq!(asked.load(Relaxed), 3);
    assert_eq!(stage.proxy.registry().http_cluster("origin", 0).retries.value(), 2);

    let (origin, asked) = failing(9);
    let stage = retrying(&origin, on_503(2));
    let last = stage.ask(put("hello"));
    assert_eq!((last.status(), last.text()), (503, "busy"), "the origin's own answer");
    assert_eq!(asked.load(Relaxed), 3);
    stage.counted(CodeClass::ServerError, ResponseFlag::UpstreamRetryLimitExceeded, 1);
    // POST is not idempotent, and a route may say never.
    let before = asked.load(Relaxed);
    assert_eq!(stage.ask(put("").replace("PUT", "POST")).status(), 503);
    let never = retrying(&origin, on_503(0));
    assert_eq!(never.ask(get("/")).status(), 503);
    assert_eq!(asked.load(Relaxed), before + 2);
}

#[test]
fn a_body_that_is_too_long_to_be_kept_is_sent_once() {
    needs_io_uring!();
    let (origin, asked) = failing(1);
    let stage = retrying(&origin, on_503(2));
    let answer = stage.ask(put(&"x".repeat(20_000)));
    assert_eq!((answer.status(), answer.text()), (503, "busy"));
    assert_eq!(asked.load(Relaxed), 1);
    assert_eq!(stage.ask(put(&"x".repeat(10_000))).body.len(), 10_000);
}

#[test]
fn a_failed_connection_is_retried_at_another_endpoint() {
    needs_io_uring!();
    let origin = Origin::echo();
    let builder = settings("origin", &[nowhere(), origin.address])
        .policy(Policy::RoundRobin)
        .retry(Some(retry::RetryPolicy::default()));
    let stage = Stage::of_cluster(builder);
    for _ in 0..6 {
        // Nothing of it was sent, so it may be any method.
        let post = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(stage.ask(post).text(), "/xhi");
    }
    stage.counted(CodeClass::Success, ResponseFlag::None, 6);
}

#[test]
fn a_reset_is_retried_by_policy() {
    needs_io_uring!();
    let origin = Origin::new(|wire, index| {
        if index > 0 {
            while wire.request().is_some() {
                wire.send(ok("second"));
            }
        }
        wire.head();
    });
    let stage = retrying(&origin, RetryPolicy::default());
    assert_eq!(stage.ask(get("/")).text(), "second");
    stage.counted(CodeClass::Success, ResponseFlag::None, 1);
}

#[test]
fn retries_keep_to_the_budget() {
    needs_io_uring!();
    let (origin, asked) = failing(usize::MAX);
    let builder = settings("origin", &[origin.address])
        .retry_budget(Some(RetryBudget { percent: 0, least: 0 }));
    let mut spec = route("/", "origin");
    spec.route.retry = Some(on_503(5));
    let stage = Stage::serving(http::proxy(routes(vec![spec], [build(builder)])));
    let answer = stage.ask(get("/"));
    assert_eq!((answer.status(), answer.text()), (503, "busy"), "the answer is not thrown away");
    assert_eq!(asked.load(Relaxed), 1);
    stage.counted(CodeClass::ServerError, ResponseFlag::UpstreamRetryLimitExceeded, 1);
}

/// Answers requests after a time, but the first ones so many.
fn slow(time: Duration, slow_ones: usize) -> Origin {
    let asked = Arc::new(AtomicUsize::new(0));
    Origin::new(move |wire: &mut Wire, _| {
        while wire.request().is_some() {
            if asked.fetch_add(1, Relaxed) < slow_ones {
                thread::sleep(time);
            }
            wire.send(ok("late"));
        }
    })
}

#[test]
fn a_request_that_takes_too_long_is_504_and_its_upstream_connection_is_of_no_use() {
    needs_io_uring!();
    let origin = slow(Duration::from_millis(600), 1);
    let mut timeouts = Timeouts::default();
    timeouts.request = Some(Duration::from_millis(150));
    let to_origin = Routes::to(cluster("origin", origin.address));
    let stage = Stage::serving(http::proxy(to_origin).timeouts(timeouts));
    let mut client = stage.client();
    let answer = client.ask(get("/"));
    assert_eq!(answer.status(), 504);
    assert!(answer.text().starts_with("504 Gateway Timeout: response_timeout\nrequest id: "));
    stage.counted(CodeClass::ServerError, ResponseFlag::UpstreamRequestTimeout, 1);
    assert_eq!(client.ask(get("/")).text(), "late", "the client's connection is kept");
    assert_eq!(origin.connections(), 2);
    // With half a body it is not.
    let mut half = stage.client();
    let answer = half.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    assert_eq!(answer.status(), 504);
    assert!(answer.closes() && half.is_over());
    drop(client);
    stage.is_quiet();
}

#[test]
fn a_try_that_takes_too_long_is_tried_again() {
    needs_io_uring!();
    let origin = slow(Duration::from_millis(600), 1);
    let mut spec = route("/", "origin");
    spec.route.try_timeout = TimeLimit::After(Duration::from_millis(150));
    let on = RetryOn { timeout: true, ..RetryOn::default() };
    spec.route.retry = Some(RetryPolicy { attempts: 1, statuses: Vec::new(), on });
    let again = routes(vec![spec.clone()], [cluster("origin", origin.address)]);
    assert_eq!(Stage::serving(http::proxy(again)).ask(get("/")).text(), "late");
    spec.route.retry = None;
    let origin = slow(Duration::from_millis(600), 1);
    let once = routes(vec![spec], [cluster("origin", origin.address)]);
    let stage = Stage::serving(http::proxy(once));
    assert_eq!(stage.ask(get("/")).status(), 504);
    stage.counted(CodeClass::ServerError, ResponseFlag::UpstreamRequestTimeout, 1);
}

#[test]
fn nothing_that_moves_is_noticed() {
    needs_io_uring!();
    let origin = Origin::new(|wire, _| {
        wire.head();
        wire.rest();
    });
    let mut timeouts = Timeouts::default();
    timeouts.stream_idle = Some(Duration::from_millis(200));
    let to_origin = Routes::to(cluster("origin", origin.address));
    let stage = Stage::serving(http::proxy(to_origin).timeouts(timeouts));
    assert_eq!(stage.ask(get("/")).status(), 504);
    let mut client = stage.client();
    let answer = client.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhello");
    assert_eq!(answer.status(), 408);
    assert!(answer.closes() && client.is_over());
    stage.counted(CodeClass::ServerError, ResponseFlag::StreamIdleTimeout, 1);
    stage.counted(CodeClass::ClientError, ResponseFlag::StreamIdleTimeout, 1);
    stage.is_quiet();
}

#[test]
fn requests_at_a_time_are_limited_over_all_shards() {
    needs_io_uring!();
    let origin = Origin::new(|wire, _| {
        while wire.request().is_some() {
            thread::sleep(Duration::from_millis(500));
            wire.send(ok("served"));
        }
    });
    let limits = Limits { requests: Some(3), ..Limits::default() };
    let limited = Routes::to(build(settings("origin", &[origin.address]).limits(limits)));
    let stage = Stage::on(3, http::proxy(limited));
    let mut clients: Vec<_> = (0..9).map(|_| stage.client()).collect();
    clients.iter_mut().for_each(|client| client.send(get("/")));
    let mut statuses: Vec<_> = clients.iter_mut().map(|client| client.answer().status()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 503, 503, 503, 503, 503, 503]);
    stage.counted(CodeClass::ServerError, ResponseFlag::UpstreamOverflow, 6);
    assert_eq!(stage.ask(get("/")).text(), "served");
    drop(clients);
    stage.is_quiet();
}

#[test]
fn connections_and_pending_ones_are_limited() {
    needs_io_uring!();
    let origin = Origin::new(|wire, _| {
        while wire.request().is_some() {
            thread::sleep(Duration::from_millis(500));
            wire.send(ok("served"));
        }
    });
    let limits = Limits { connections: Some(1), ..Limits::default() };
    let stage = Stage::of_cluster(settings("origin", &[origin.address]).limits(limits));
    let mut first = stage.client();
    first.send(get("/"));
    eventually("it is on its way", || origin.connections() == 1);
    assert_eq!(stage.ask(get("/")).status(), 503);
    assert_eq!(first.answer().text(), "served");
    assert_eq!(stage.ask(get("/")).text(), "served", "over the same connection");
    stage.counted(CodeClass::ServerError, ResponseFlag::UpstreamOverflow, 1);
    let none = Limits { pending: Some(0), ..Limits::default() };
    let stage = Stage::of_cluster(settings("origin", &[origin.address]).limits(none));
    assert_eq!(stage.ask(get("/")).status(), 503);
    stage.counted(CodeClass::ServerError, ResponseFlag::UpstreamOverflow, 1);
}

#[test]
fn a_failing_endpoint_is_ejected_and_the_last_one_never() {
    needs_io_uring!();
    let (failing, asked) = failing(usize::MAX);
    let well = Origin::echo();
    let outlier = Outlier { consecutive_failures: 3, ..Outlier::default() };
    let both = settings("origin", &[failing.address, well.address])
        .policy(Policy::RoundRobin)
        .outlier(Some(outlier.clone()));
    let stage = Stage::of_cluster(both);
    let mut statuses = (0..40).map(|_| stage.ask(get("/")).status());
    assert_eq!(statuses.by_ref().filter(|status| *status == 503).count(), 3);
    assert_eq!(asked.load(Relaxed), 3);
    let alone = settings("origin", &[failing.address]).outlier(Some(outlier));
    let stage = Stage::of_cluster(alone);
    for _ in 0..10 {
        let answer = stage.ask(get("/"));
        assert_eq!((answer.status(), answer.text()), (503, "busy"));
    }
    assert_eq!(asked.load(Relaxed), 13);
}

#[test]
fn an_endpoint_that_never_answers_in_time_is_ejected() {
    needs_io_uring!();
    let silent = Origin::new(|wire, _| drop(wire.rest()));
    let well = Origin::echo();
    let outlier = Outlier { consecutive_failures: 2, ..Outlier::default() };
    let both = settings("origin", &[silent.address, well.address])
        .policy(Policy::RoundRobin)
        .outlier(Some(outlier));
    let mut timeouts = Timeouts::default();
    timeouts.request = Some(Duration::from_millis(100));
    let stage = Stage::serving(http::proxy(Routes::to(build(both))).timeouts(timeouts));
    let late = (0..12).filter(|_| stage.ask(get("/")).status() == 504).count();
    assert_eq!(late, 2);
}

#[test]
fn clients_are_told_what_is_wrong() {
    needs_io_uring!();
    let refused = Stage::to(nowhere());
    let answer = refused.ask(get("/"));
    assert_eq!((answer.status(), answer.closes()), (503, false));
    assert!(answer.text().starts_with("503 Service Unavailable: upstream_connection_failure\n"));
    refused.counted(CodeClass::ServerError, ResponseFlag::UpstreamConnectionFailure, 1);

    let unresolved = Stage::of_cluster(settings("origin", &[]).endpoint("name.invalid:80"));
    assert_eq!(unresolved.ask(get("/")).status(), 503);
    unresolved.counted(CodeClass::ServerError, ResponseFlag::NoHealthyUpstream, 1);

    let origin = Origin::echo();
    let table = vec![route("/known", "origin"), route("/lost", "lost")];
    let stage = Stage::serving(http::proxy(routes(table, [cluster("origin", origin.address)])));
    assert_eq!(stage.ask(get("/known")).status(), 200);
    assert_eq!(stage.ask(get("/unknown")).status(), 404);
    assert_eq!(stage.ask(get("/lost")).status(), 503);
    stage.counted(CodeClass::ClientError, ResponseFlag::NoRoute, 1);
    stage.counted(CodeClass::ServerError, ResponseFlag::NoCluster, 1);
    #[cfg(feature = "prometheus")]
    {
        let text = evenkeel::telemetry::PrometheusRenderer::new().render(stage.proxy.registry());
        let line =
            "evenkeel_requests_total{listener=\"web\",shard=\"0\",code=\"4xx\",flag=\"NR\"} 1";
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn a_connection_that_cannot_be_made_in_time_is_given_up() {
    needs_io_uring!();
    // A queue that is full answers no handshake.
    let full = TcpListener::bind("127.0.0.1:0").unwrap();
    socket2::SockRef::from(&full).listen(0).unwrap();
    let address = full.local_addr().unwrap();
    let _fills: Vec<_> = (0..4)
        .filter_map(|_| {
            let patience = Duration::from_millis(100);
            std::net::TcpStream::connect_timeout(&address, patience).ok()
        })
        .collect();
    let builder = settings("origin", &[address]).connect_timeout(Some(Duration::from_millis(150)));
    let stage = Stage::of_cluster(builder);
    assert_eq!(stage.ask(get("/")).status(), 503);
    stage.counted(CodeClass::ServerError, ResponseFlag::UpstreamConnectionFailure, 1);
    stage.is_quiet();
}

#[test]
fn the_log_of_a_request_without_an_answer_has_nothing_of_the_one_before() {
    needs_io_uring!();
    let answer = "HTTP/1.1 200 OK\r\nX-From: first\r\nContent-Length: 0\r\n\r\n";
    let origin = Origin::answering(answer);
    let (sender, lines) = mpsc::channel();
    let log = AccessLog::to(move |lines: &[u8]| {
        sender.send(lines.to_vec()).map_err(std::io::Error::other)
    });
    let log = log.unwrap().format("%RESPONSE_CODE% %RESP(X-FROM)%".parse().unwrap());
    let specs = vec![route("/up", "up"), route("/down", "down")];
    let clusters = [cluster("up", origin.address), cluster("down", nowhere())];
    let stage = Stage::serving(http::proxy(routes(specs, clusters)).access_log(log));
    let mut client = stage.client();
    assert_eq!(client.ask(get("/up")).status(), 200);
    assert_eq!(client.ask(get("/down")).status(), 503);
    let mut written = Vec::new();
    while written.iter().filter(|byte| **byte == b'\n').count() < 2 {
        written.extend(lines.recv_timeout(Duration::from_secs(20)).unwrap());
    }
    assert_eq!(String::from_utf8(written).unwrap(), "200 first\n503 -\n");
}
