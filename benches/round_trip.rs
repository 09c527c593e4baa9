//! What a connection meets on its way, over real sockets: a message through the relay, being accepted
//! and served, a task, a timer.
//!
//! Client, proxy and origin share the machine's cores, so a round trip holds the scheduler's wake-ups
//! of all three. The direct one has the same client and the same origin without the proxy: their
//! difference is what a relay adds.

use std::{
    future::{Future, poll_fn},
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use evenkeel::{
    Connection, Driver, Listener, Proxy, Relay,
    runtime::{block_on, sleep, spawn},
    shard::Shard,
};

use origin::echo_origin;

#[path = "../tests/stage/origin.rs"]
mod origin;

const MESSAGE: [u8; 64] = [7; 64];

/// Each driver, and what it adds to the name of a benchmark. The first is io_uring where that may be
/// used.
const DRIVERS: [(Driver, &str); 2] = [(Driver::Auto, ""), (Driver::Epoll, "_epoll")];

/// A proxy of one shard with one listener.
fn proxy(listener: Listener, driver: Driver) -> (Proxy, SocketAddr) {
    let proxy = Proxy::builder().shards(1).driver(driver).listener(listener).start().unwrap();
    let address = proxy.local_addrs()[0].address.parse().unwrap();
    (proxy, address)
}

fn exchange(stream: &mut TcpStream) {
    stream.write_all(&MESSAGE).unwrap();
    stream.read_exact(&mut [0; MESSAGE.len()]).unwrap();
}

/// One connection, one message at a time.
fn a_round_trip(c: &mut Criterion) {
    let origin = echo_origin();
    let mut group = c.benchmark_group("round_trip");
    let mut measure = |name: &str, address: SocketAddr| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        group.bench_function(name, |b| b.iter(|| exchange(&mut stream)));
    };
    measure("direct", origin);
    for (driver, suffix) in DRIVERS {
        let relay = Relay::to([origin.to_string()]);
        let listener = Listener::bind("127.0.0.1:0").unwrap().serve(relay);
        let (_proxy, relayed) = proxy(listener, driver);
        measure(&format!("relayed{suffix}"), relayed);
    }
}

/// From connecting to the close of the served connection: the acceptor, the queue to the shard, the
/// new task, one message and its echo.
fn a_hand_off(c: &mut Criterion) {
    let echo = |_: &Shard| {
        async |mut connection: Connection| {
            if let Ok(Some(chunk)) = connection.receive().await {
                let _ = connection.send(chunk).await;
                let _ = connection.flush().await;
            }
        }
    };
    for (driver, suffix) in DRIVERS {
        let listener = Listener::bind("127.0.0.1:0").unwrap().serve(echo);
        let (_proxy, address) = proxy(listener, driver);
        c.bench_function(&format!("hand_off{suffix}"), |b| {
            b.iter(|| {
                let mut stream = TcpStream::connect(address).unwrap();
                exchange(&mut stream);
                // The server closes first, so that no port of the client's is left in TIME_WAIT.
                assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            });
        });
    }
}

/// Runs `each` so often on an executor and gives the time, without that of the executor itself.
fn on_an_executor(times: u64, each: impl AsyncFn() + 'static) -> Duration {
    let timed = block_on(async move {
        let started = Instant::now();
        for _ in 0..times {
            each().await;
        }
        started.elapsed()
    });
    timed.unwrap()
}

fn the_runtime(c: &mut Criterion) {
    let mut group = c.benchmark_group("runtime");
    group.bench_function("spawn_and_join", |b| {
        b.iter_custom(|times| on_an_executor(times, async || spawn(async {}).await.unwrap()));
    });
    group.bench_function("sleep_insert_cancel", |b| {
        b.iter_custom(|times| {
            on_an_executor(times, async || {
                let mut sleep = pin!(sleep(Duration::from_secs(60)));
                // The first poll is what sets the timer, dropping what cancels it.
                poll_fn(|cx| {
                    assert!(sleep.as_mut().poll(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
            })
        });
    });
}

criterion_group!(benches, a_round_trip, a_hand_off, the_runtime);
criterion_main!(benches);
