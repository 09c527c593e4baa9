//! Upstream connections that wait for another request.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

use evenkeel::{
    http::{self, Routes},
    telemetry::{CodeClass, PoolState, ResponseFlag},
    upstream::{
        limits::Limits,
        settings::{ClusterBuilder, Policy},
    },
};

use crate::{
    alone::{is_alone, run_alone},
    stage::{Origin, Stage, build, eventually, get, ok, settings},
    wire::Wire,
};

fn number(wire: &mut Wire, number: usize) {
    while wire.request().is_some() {
        wire.send(ok(number.to_string()));
    }
}

fn pooled(stage: &Stage) -> i64 {
    stage.proxy.registry().http_cluster("origin", 0).pool.value(PoolState::Idle)
}

#[test]
fn a_connection_is_used_again_by_whoever_comes() {
    needs_io_uring!();
    let origin = Origin::new(number);
    let stage = Stage::to(origin.address);
    for _ in 0..10 {
        assert_eq!(stage.ask(get("/")).text(), "0");
    }
    assert_eq!(origin.connections(), 1);
    eventually("it is in the pool", || pooled(&stage) == 1);
}

#[test]
fn the_one_that_was_used_last_is_used_first() {
    needs_io_uring!();
    // Answers when both requests are there, the first connection before the second.
    let origin = Origin::new(|wire, index| {
        while let Some(request) = wire.request() {
            if request.target() == "/both" {
                thread::sleep(Duration::from_millis(if index == 0 { 100 } else { 200 }));
            }
            wire.send(ok(index.to_string()));
        }
    });
    let stage = Stage::to(origin.address);
    let mut clients = [stage.client(), stage.client()];
    for client in &mut clients {
        client.send(get("/both"));
    }
    for client in &mut clients {
        client.answer();
    }
    eventually("both are in the pool", || pooled(&stage) == 2);
    for _ in 0..5 {
        assert_eq!(stage.ask(get("/one")).text(), "1");
    }
}

/// What happens to an idle connection behind the first answer.
fn after_the_first_answer(then: impl Fn(&mut Wire) + Clone + Send + 'static) -> Origin {
    Origin::new(move |wire, index| {
        if index == 0 {
            wire.request();
            wire.send(ok("0"));
            thread::sleep(Duration::from_millis(50));
            return then(wire);
        }
        number(wire, index);
    })
}

#[test]
fn one_that_the_origin_has_closed_or_written_to_is_not_used() {
    needs_io_uring!();
    let closes = after_the_first_answer(|_| {});
    let writes = after_the_first_answer(|wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        wire.rest();
    });
    let says_so = after_the_first_answer(|wire| {
        wire.send("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    });
    for origin in [closes, writes, says_so] {
        let stage = Stage::to(origin.address);
        assert_eq!(stage.ask(get("/")).text(), "0");
        thread::sleep(Duration::from_millis(300));
        // Not even a request that could not be sent again.
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(stage.ask(post).text(), "1");
        assert!(!origin.seen()[0].contains("POST"));
    }
}

/// Closes its first connection as soon as a second request comes over it, unanswered.
fn closes_on_the_second() -> Origin {
    Origin::new(|wire, index| {
        if index == 0 {
            wire.request();
            wire.send(ok("0"));
            wire.head();
            return;
        }
        number(wire, index);
    })
}

#[test]
fn what_meets_a_closing_connection_is_sent_again_once_if_it_may_be() {
    needs_io_uring!();
    for (request, again) in [
        (get("/"), true),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".to_owned(), true),
        ("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n".to_owned(), true),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".to_owned(), false),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".to_owned(), false),
        ("PATCH / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), false),
    ] {
        let origin = closes_on_the_second();
        let stage = Stage::to(origin.address);
        let mut client = stage.client();
        assert_eq!(client.ask(get("/")).text(), "0");
        let answer = client.ask(&request);
        let terminated = ResponseFlag::UpstreamConnectionTermination;
        if again {
            assert_eq!(answer.text(), "1", "{request}");
            stage.counted(CodeClass::Success, ResponseFlag::None, 2);
            let body = request.split_once("\r\n\r\n").unwrap().1;
            assert!(origin.seen()[1].ends_with(body), "{request}: {:?}", origin.seen());
        } else {
            assert_eq!(answer.status(), 503, "{request}");
            stage.counted(CodeClass::ServerError, terminated, 1);
            assert_eq!(origin.connections(), 1, "{request}");
        }
        drop(client);
        stage.is_quiet();
    }
}

#[test]
fn it_is_sent_again_once_and_not_for_ever() {
    needs_io_uring!();
    // Every connection closes without an answer once it has been used.
    let origin = Origin::new(|wire, index| {
        wire.request();
        if index == 0 {
            wire.send(ok("0"));
            wire.head();
        }
    });
    let stage = Stage::to(origin.address);
    assert_eq!(stage.ask(get("/")).text(), "0");
    assert_eq!(stage.ask(get("/")).status(), 503);
    assert_eq!(origin.connections(), 2);
    stage.counted(CodeClass::ServerError, ResponseFlag::UpstreamConnectionTermination, 1);
}

#[test]
fn idle_connections_are_closed_in_time_each_by_its_clusters() {
    needs_io_uring!();
    let stage_with = |origin: &Origin, idle: fn(ClusterBuilder) -> ClusterBuilder| {
        Stage::of_cluster(idle(settings("origin", &[origin.address])))
    };
    let origin = Origin::new(number);
    let stage = stage_with(&origin, |it| it.pool_idle(Some(Duration::from_millis(200))));
    assert_eq!(stage.ask(get("/")).text(), "0");
    eventually("it has been closed", || pooled(&stage) == 0);
    assert_eq!(stage.ask(get("/")).text(), "1");
    let kept = stage_with(&origin, |it| it.pool_idle(None));
    assert_eq!(kept.ask(get("/")).text(), "2");
    thread::sleep(Duration::from_millis(400));
    assert_eq!(kept.ask(get("/")).text(), "2");
}

fn one_connection(builder: ClusterBuilder) -> ClusterBuilder {
    let limits = Limits { connections: Some(1), ..Limits::default() };
    builder.limits(limits).policy(Policy::RoundRobin).pool_idle(None)
}

#[test]
fn an_idle_connection_gives_way_to_one_that_is_needed() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let origin = || {
        let count = Arc::clone(&count);
        Origin::new(move |wire, index| {
            number(wire, index);
            count.fetch_add(1, Relaxed);
        })
    };
    let (first, second) = (origin(), origin());
    let builder = settings("origin", &[first.address, second.address]);
    let stage = Stage::of_cluster(one_connection(builder));
    let mut client = stage.client();
    for asked in 1..=6 {
        assert_eq!(client.ask(get("/")).status(), 200, "{asked}");
        eventually("the other one is closed", || ended.load(Relaxed) == asked - 1);
        eventually("one is idle", || pooled(&stage) == 1);
    }
    assert_eq!((first.connections(), second.connections()), (3, 3));
}

#[test]
fn an_idle_connection_gives_way_to_another_shard() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let origin = Origin::new(move |wire, _| {
        while let Some(request) = wire.request() {
            if request.target() == "/slow" {
                thread::sleep(Duration::from_millis(300));
            }
            wire.send(ok(""));
        }
        count.fetch_add(1, Relaxed);
    });
    let builder = one_connection(settings("origin", &[origin.address]));
    let stage = Stage::on(2, http::proxy(Routes::to(build(builder))));
    // Each is on a shard of its own.
    let mut clients = [stage.client(), stage.client()];
    eventually("both are there", || stage.proxy.shards().iter().all(|it| it.connections == 1));
    let idle = || {
        let registry = stage.proxy.registry();
        let of = |shard| registry.http_cluster("origin", shard).pool.value(PoolState::Idle);
        of(0) + of(1)
    };
    let one_is_left = || {
        let open = || origin.connections() - ended.load(Relaxed);
        eventually("one is left, and it is idle", || (open(), idle()) == (1, 1));
    };
    for asked in 0..20 {
        assert_eq!(clients[asked % 2].ask(get("/")).status(), 200, "{asked}");
        one_is_left();
    }
    assert!(origin.connections() > 2, "a shard cannot use the connection of another");
    // One that is in use does not.
    clients[0].send(get("/slow"));
    thread::sleep(Duration::from_millis(100));
    assert_eq!(clients[1].ask(get("/")).status(), 503);
    assert_eq!(clients[0].answer().status(), 200);
    stage.counted(CodeClass::ServerError, ResponseFlag::UpstreamOverflow, 1);
    one_is_left();
    assert_eq!(clients[1].ask(get("/")).status(), 200);
}

#[test]
fn a_connection_that_carried_much_is_pooled_and_watched_like_any_other() {
    needs_io_uring!();
    let origin = Origin::new(|wire, index| {
        wire.request();
        wire.send(ok(vec![b'x'; 4 << 20]));
        thread::sleep(Duration::from_millis(100));
        if index > 0 {
            number(wire, index);
        }
    });
    let stage = Stage::to(origin.address);
    let mut client = stage.client();
    assert_eq!(client.ask(get("/")).body.len(), 4 << 20);
    thread::sleep(Duration::from_millis(400));
    // The origin has closed it meanwhile, so this needs a new one.
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(client.ask(post).body.len(), 4 << 20);
    assert_eq!(client.ask(get("/")).text(), "1");
}

/// The rings that this process has.
fn rings() -> usize {
    let files = fs::read_dir("/proc/self/fd").unwrap();
    let targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().contains("[io_uring]")).count()
}

#[test]
fn a_proxy_that_ends_takes_along_what_its_pools_hold() {
    needs_io_uring!();
    if !is_alone() {
        return run_alone("pool::a_proxy_that_ends_takes_along_what_its_pools_hold");
    }
    let (ended, end) = mpsc::channel();
    let origin = Origin::new(move |wire, _| {
        while wire.request().is_some() {
            wire.send(ok("once"));
        }
        ended.send(()).unwrap();
    });
    // It would be kept for ever.
    let stage = Stage::of_cluster(settings("origin", &[origin.address]).pool_idle(None));
    assert_eq!(stage.ask(get("/")).status(), 200);
    assert_ne!(rings(), 0);
    drop(stage);
    end.recv_timeout(Duration::from_secs(20)).expect("the end of the idle connection");
    assert_eq!(rings(), 0, "rings of shards that have ended");
}
