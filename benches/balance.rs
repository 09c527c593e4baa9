//! What the shared kernel costs: choosing a shard, handing a connection over, a timer.
//!
//! A choice is a look at all loads, the policy, and the claim; it is dropped at once, so every shard
//! stays empty and every choice is a tie over all of them, the longest search. A hand-off is what
//! acceptor and shard each pay for the queue on one core; the cache misses between two cores come on
//! top of it.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use evenkeel::{
    accept::{Balance, Balancer},
    benchable::{Inbox, TimerWheel},
    shard::Loads,
};
use std::{collections::VecDeque, hint::black_box};

fn choosing_a_shard(c: &mut Criterion) {
    for balance in [Balance::LeastConnections, Balance::LeastBusy, Balance::RoundRobin] {
        let mut group = c.benchmark_group(format!("choose/{balance}"));
        for shards in [1, 8, 64, 256] {
            let Some(policy) = balance.policy() else { continue };
            let mut balancer = Balancer::new(Loads::new(shards), policy);
            group.bench_function(BenchmarkId::from_parameter(shards), |b| {
                b.iter(|| balancer.assign());
            });
        }
    }
}

fn handing_over(c: &mut Criterion) {
    let loads = Loads::new(8);
    let mut group = c.benchmark_group("handoff");
    for batch in [1, 16, 256] {
        let inbox = Inbox::new(1024);
        let mut arrived = VecDeque::new();
        group.throughput(Throughput::Elements(batch));
        group.bench_function(BenchmarkId::new("push_each_drain", batch), |b| {
            b.iter(|| {
                for fd in 0..batch {
                    let accepted = (fd as i32, 0_u32, loads.claim(0));
                    assert!(inbox.push(black_box(accepted)).is_ok());
                }
                inbox.drain(&mut arrived);
                arrived.clear();
            });
        });
        let mut leaving = VecDeque::new();
        group.bench_function(BenchmarkId::new("push_batch_drain", batch), |b| {
            b.iter(|| {
                leaving.extend((0..batch).map(|fd| (fd as i32, 0_u32, loads.claim(0))));
                assert!(inbox.push_batch(black_box(&mut leaving)).is_ok());
                inbox.drain(&mut arrived);
                arrived.clear();
            });
        });
    }
}

fn timers(c: &mut Criterion) {
    let mut group = c.benchmark_group("timer");
    for pending in [0_u64, 10_000] {
        let mut wheel = TimerWheel::new();
        for timer in 0..pending {
            wheel.insert(3_600_000 + timer, timer);
        }
        group.bench_function(BenchmarkId::new("insert_cancel", pending), |b| {
            let mut deadline = 0;
            b.iter(|| {
                deadline = (deadline + 997) % 60_000;
                let key = wheel.insert(black_box(deadline), 0);
                wheel.cancel(key)
            });
        });
    }
    // From being set to being given out, on the way down all levels that 10 s take.
    group.throughput(Throughput::Elements(1000));
    group.bench_function("insert_expire_1000", |b| {
        let (mut wheel, mut now) = (TimerWheel::new(), 0);
        b.iter(|| {
            for timer in 0..1000_u64 {
                wheel.insert(now + timer * 10, timer);
            }
            now += 10_000;
            while let Some(timer) = wheel.expire(now) {
                black_box(timer);
            }
        });
    });
}

criterion_group!(benches, choosing_a_shard, handing_over, timers);
criterion_main!(benches);
