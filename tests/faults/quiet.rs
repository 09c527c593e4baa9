//! What a proxy says of shards that have gone quiet: the truth, without their turning for it.

use std::{
    thread,
    time::{Duration, Instant},
};

use evenkeel::{Connection, Proxy, accept::Balance, shard::Shard};

use super::stage::{
    NAME, assert_quiet, builder, client, deaf_origin, eventually, exchange, listen, reset, to,
};

/// Echoes, and keeps its shard busy for a moment for each chunk.
fn hard_working(_: &Shard) -> impl AsyncFn(Connection) + use<> {
    async |mut connection: Connection| {
        while let Ok(Some(chunk)) = connection.receive().await {
            let started = Instant::now();
            while started.elapsed() < Duration::from_millis(10) {}
            if connection.send(chunk).await.is_err() {
                return;
            }
        }
    }
}

fn turns(proxy: &Proxy) -> Vec<u64> {
    let shards = 0..proxy.shards().len();
    shards.map(|shard| proxy.registry().shard(shard).turn_duration.snapshot().count()).collect()
}

fn busy_shares(proxy: &Proxy) -> Vec<u32> {
    proxy.shards().iter().map(|load| load.busy_permille).collect()
}

#[test]
fn a_shard_that_was_busy_comes_to_rest_and_is_chosen_again() {
    let proxy = builder().shards(2).balance(Balance::LeastBusy);
    let proxy = proxy.listener(listen().serve(hard_working)).start().unwrap();
    let address = proxy.local_addr(NAME).unwrap();
    let mut worker = client(address);
    eventually("its shard counts as busy", || {
        exchange(&mut worker, b"work");
        busy_shares(&proxy).iter().any(|share| *share > 300)
    });
    // The connection stays, and says no more.
    eventually("no shard counts as busy", || busy_shares(&proxy) == [0, 0]);
    let more: Vec<_> = (0..3).map(|_| client(address)).collect();
    eventually("connections are even again", || {
        proxy.shards().iter().all(|load| load.connections == 2)
    });
    drop((worker, more));
    assert_quiet(&proxy);
}

#[test]
fn a_quiet_shard_does_not_turn() {
    let proxy = builder().shards(2).listener(listen().serve(hard_working)).start().unwrap();
    let mut worker = client(proxy.local_addr(NAME).unwrap());
    for _ in 0..20 {
        exchange(&mut worker, b"work");
    }
    eventually("no shard counts as busy", || busy_shares(&proxy) == [0, 0]);
    // The turn that told so has ended by then.
    thread::sleep(Duration::from_millis(20));
    let before = turns(&proxy);
    thread::sleep(Duration::from_millis(400));
    assert_eq!(turns(&proxy), before, "they sleep while nothing happens");
    exchange(&mut worker, b"work");
    let completions = proxy.registry().shard(0).completions.value()
        + proxy.registry().shard(1).completions.value();
    assert!(completions >= 40, "each message is at least two completions: {completions}");
}

#[test]
fn free_buffers_are_those_of_the_last_turn() {
    // Buffers that are too small for bulk, for which there are others that are not counted here.
    let proxy =
        builder().shards(1).buffers(256, 2048).listener(listen().serve(to(&[deaf_origin()])));
    let proxy = proxy.start().unwrap();
    let cells = proxy.registry().shard(0);
    assert_eq!(cells.free_buffers.value(), 256);
    let mut stuck = client(proxy.local_addr(NAME).unwrap());
    stuck.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    while std::io::Write::write_all(&mut stuck, &[1; 64 << 10]).is_ok() {}
    eventually("some are in use", || cells.free_buffers.value() < 256);
    reset(stuck);
    assert_quiet(&proxy);
    eventually("all are free, and the shard says so", || cells.free_buffers.value() == 256);
}
