//! Drains and reloads under load: no request is lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use evenkeel::{
    Drain,
    http::{self, Fallback, Routes, route::RouteTable},
    telemetry::{CodeClass, ResponseFlag},
};

use crate::{
    stage::{Origin, Stage, cluster, get, ok, route},
    wire::Wire,
};

/// What came of a client's requests.
#[derive(Default)]
struct Tally {
    answered: u32,
    lost: u32,
    told_to_close: bool,
}

/// Asks again and again over one connection until it is told to close.
fn keep_asking(mut client: Wire, stop: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    while !stop.load(Relaxed) {
        client.send(get("/"));
        match client.answer_to("GET") {
            Some(answer) if answer.status() == 200 => {
                tally.answered += 1;
                if answer.closes() {
                    tally.told_to_close = true;
                    return tally;
                }
            }
            _ => {
                tally.lost += 1;
                return tally;
            }
        }
        thread::sleep(Duration::from_millis(3));
    }
    tally
}

#[test]
fn a_drain_loses_no_request_and_tells_every_client_to_close() {
    needs_io_uring!();
    let origin = Origin::answering(ok("answer"));
    let stage = Stage::on(2, http::proxy(Routes::to(cluster("origin", origin.address))));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..16)
            .map(|_| {
                let client = stage.client();
                scope.spawn(|| keep_asking(client, &stop))
            })
            .collect();
        let mut idle = stage.client();
        assert!(!idle.ask(get("/")).closes());
        let mut silent = stage.client();
        thread::sleep(Duration::from_millis(300));
        let began = Instant::now();
        let drained = stage.proxy.drain(Drain::within(Duration::from_secs(15)));
        assert_eq!(drained.cut, 0);
        assert!(began.elapsed() < Duration::from_secs(12), "it waits for nobody in vain");
        assert!(idle.is_over() && silent.is_over());
        for client in clients {
            let tally = client.join().unwrap();
            assert_eq!((tally.lost, tally.told_to_close), (0, true));
            assert!(tally.answered > 1);
        }
    });
}

#[test]
fn a_request_under_way_is_answered_in_a_drain() {
    needs_io_uring!();
    let origin = Origin::new(|wire, _| {
        wire.request();
        thread::sleep(Duration::from_millis(400));
        wire.send(ok("late"));
        wire.rest();
    });
    let stage = Stage::to(origin.address);
    let mut client = stage.client();
    client.send(get("/"));
    thread::sleep(Duration::from_millis(100));
    thread::scope(|scope| {
        scope.spawn(|| stage.proxy.drain(Drain::within(Duration::from_secs(10))));
        let answer = client.answer();
        assert_eq!(answer.text(), "late");
        assert!(answer.closes() && client.is_over());
    });
}

#[test]
fn routes_are_replaced_under_load_and_no_request_is_lost() {
    needs_io_uring!();
    let origins = ["one", "two"].map(|name| Origin::answering(ok(name)));
    let clusters =
        [0, 1].map(|index: usize| cluster(["one", "two"][index], origins[index].address));
    let table = |name: &str| RouteTable::build(vec![route("/", name)]).unwrap();
    let routes = Routes::new(table("one"), clusters.clone(), Fallback::NotFound);
    let stage = Stage::on(2, http::proxy(routes.clone()));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (client, stop) = (stage.client(), Arc::clone(&stop));
            thread::spawn(move || keep_asking(client, &stop))
        })
        .collect();
    for turn in 0..60 {
        let name = ["two", "one"][turn % 2];
        routes.replace(table(name), clusters.clone(), Fallback::NotFound);
        thread::sleep(Duration::from_millis(10));
        assert_eq!(stage.ask(get("/")).text(), name, "for the next request");
    }
    stop.store(true, Relaxed);
    let tallies: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    assert!(tallies.iter().all(|tally| tally.lost == 0 && tally.answered > 10));
    let answered: u32 = tallies.iter().map(|tally| tally.answered).sum();
    stage.counted(CodeClass::Success, ResponseFlag::None, u64::from(answered) + 60);
    stage.is_quiet();
}
