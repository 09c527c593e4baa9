//! Whole exchanges of HTTP on the simulated driver: clients, the proxy as a shard runs it, and an origin.
//!
//! What the origin sees is a sequence of complete and unambiguous requests on each connection, and at
//! most the beginning of one more. What a client sees is a sequence of complete answers in the order of
//! its requests, and then the end, or a reset. Nothing is left when they are gone.

mod client;
mod origin;
mod raw;
mod reader;
mod stage;

#[cfg(fuzzing)]
pub use self::raw::http_proxy;
use self::{
    client::{Ask, Client},
    stage::{Stage, cluster},
};
use super::{PROXY, milliseconds, simulate, simulate_with, wire::Wire};
use crate::{
    http::Timeouts,
    net::Stream,
    ring::simulated::World,
    runtime::{spawn, timeout},
    upstream::retry::RetryPolicy,
};

/// Connects clients, each with some requests, and waits until they are done.
async fn run_clients(world: &World, fair: bool) {
    let mut random = world.random();
    let most = (world.stride() * 10).min(10_000);
    let mut clients = Vec::new();
    for number in 0..1 + random.below(3) {
        let asks = (0..1 + random.below(4)).map(|ask| Ask::new(&mut random, number, ask, most));
        let asks: Vec<_> = asks.collect();
        let world = world.clone();
        clients.push(spawn(async move {
            let Ok(stream) = Stream::connect(PROXY.into()).await else { return };
            let wire = Wire::new(stream, world.random());
            let client = if fair { Client::fair(wire, asks) } else { Client::wild(wire, asks) };
            client.run(fair).await;
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
}

#[test]
fn every_request_gets_its_own_answer() {
    simulate(|world| async move {
        let stage = Stage::new(&world, cluster(), |proxy| proxy);
        let seen = origin::serve(&world, true);
        run_clients(&world, true).await;
        stage.is_quiet().await;
        assert!(seen.borrow().values().all(|times| *times == 1), "{seen:?}");
    });
}

#[test]
fn whatever_peers_do_messages_stay_whole_and_nothing_is_left() {
    simulate_with(
        |random, behaviour| behaviour.fails = random.pick(&[0, 0, 1]),
        |world| async move {
            let mut random = world.random();
            let mut cluster = cluster();
            if random.chance(30) {
                cluster = cluster.retry(Some(RetryPolicy::default()));
            }
            let limit = |most: u64| Some(milliseconds(50 + most));
            let timeouts = Timeouts {
                idle: limit(random.below(500)),
                head: limit(random.below(500)),
                request: if random.chance(50) { limit(random.below(1000)) } else { None },
                stream_idle: limit(random.below(500)),
                max_age: None,
                ..Timeouts::default()
            };
            let max_body = random.chance(30).then(|| random.scale(10_000));
            let stage =
                Stage::new(&world, cluster, |proxy| proxy.timeouts(timeouts).max_body(max_body));
            let seen = origin::serve(&world, false);
            let clients = run_clients(&world, false);
            if random.chance(20) {
                // Everything is dropped wherever it is.
                let _ = timeout(milliseconds(random.scale(500)), clients).await;
                return;
            }
            clients.await;
            stage.is_quiet().await;
            let twice = |(name, times): (&String, &u32)| *times > 1 && name.starts_with("POST");
            assert!(!seen.borrow().iter().any(twice), "retried without a proof: {seen:?}");
        },
    );
}
