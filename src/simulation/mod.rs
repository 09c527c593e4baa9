//! Whole connections on the simulated driver: clients, relays and origins as tasks of one executor,
//! over a network in memory (`ring/simulated`), on a virtual clock.
//!
//! Every test runs for many seeds. After each run nothing may be left: no task, slot, descriptor,
//! buffer or operation, and nothing may have been done that a driver must not be asked for.
//!
//! `EVENKEEL_SEEDS=n` runs n seeds a test instead of the default; a seed that fails is printed as
//! `EVENKEEL_SEED=n`, and with that in the environment it alone is run again, the same in
//! everything. Thousands of seeds are quicker in `cargo test --profile simulation --lib simulation::`,
//! which is optimized and checks as much.

mod accepting;
#[cfg(any(feature = "http", feature = "__tls"))]
mod arrivals;
mod cancelling;
mod custom;
#[cfg(feature = "http")]
pub(crate) mod http;
mod pausing;
mod peer;
#[cfg(feature = "__tls")]
pub(crate) mod permissive;
#[cfg(all(test, feature = "futures-io"))]
mod polling;
mod pressure;
mod relaying;
mod resets;
mod starving;
mod timing;
mod waking;
#[cfg(any(feature = "http", feature = "__tls"))]
mod wire;

use std::{
    fmt::Write as _,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    rc::Rc,
    time::Duration,
};

use crate::{
    net::{Accepting, Stream},
    relay::{self, Ended, Timeouts},
    ring::{
        Pool, Reactor,
        simulated::{Behaviour, Random, World},
    },
    runtime::{Executor, JoinHandle, spawn},
};

/// Seeds a test runs by default.
const SEEDS: u64 = 100;

const MILLISECOND: u64 = 1_000_000;

/// The number in a variable of the environment.
fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable}={value} is not a number")))
}

/// Runs a scenario once for each seed, on a kernel that behaves as the seed says.
#[track_caller]
fn simulate<F: Future<Output = ()> + 'static>(scenario: impl Fn(World) -> F) {
    simulate_with(|_, _| {}, scenario);
}

/// The same with changes to the behaviour.
fn simulate_with<F: Future<Output = ()> + 'static>(
    change: impl Fn(&mut Random, &mut Behaviour),
    scenario: impl Fn(World) -> F,
) {
    let seeds = match number("EVENKEEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("EVENKEEL_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let mut random = Random::new(seed);
        let mut behaviour = Behaviour::random(&mut random);
        change(&mut random, &mut behaviour);
        let ran = catch_unwind(AssertUnwindSafe(|| run(random, behaviour, &scenario)));
        if let Err(panic) = ran {
            eprintln!("this was EVENKEEL_SEED={seed}");
            resume_unwind(panic);
        }
    }
}

/// Runs a scenario on a kernel that is the same whenever `kernel` is, and fast enough for many runs.
#[cfg(any(feature = "http", feature = "__tls"))]
fn run_on<F: Future<Output = ()> + 'static>(kernel: u8, scenario: impl Fn(World) -> F) {
    let random = || Random::new(kernel.into());
    let mut behaviour = Behaviour::plain();
    if kernel > 0 {
        behaviour = Behaviour::random(&mut random());
        behaviour.window = behaviour.window.max(64);
        behaviour.small.1 = behaviour.small.1.max(64);
        behaviour.latency = behaviour.latency.min(10_000);
    }
    run(random(), behaviour, scenario);
}

/// Runs a scenario on such a kernel, and fails if anything is left.
fn run<F: Future<Output = ()> + 'static>(
    random: Random,
    behaviour: Behaviour,
    scenario: impl Fn(World) -> F,
) {
    let pools = [behaviour.small, behaviour.large]
        .map(|(buffers, size)| Pool::new(buffers, size).unwrap())
        .to_vec();
    let world = World::new(random, behaviour, pools.clone());
    let executor = Executor::new(Reactor::new(Box::new(world.driver()), pools.clone()));
    let started = world.now();
    let main = scenario(world.clone());
    let result = executor.run(main);
    let mut wrong = String::new();
    if let Err(error) = result {
        let _ = writeln!(wrong, "the executor ended: {error}");
    }
    let mut expect = |what: &str, left: usize| {
        if left > 0 {
            let _ = writeln!(wrong, "{left} {what} left");
        }
    };
    expect("tasks", executor.tasks());
    expect("slots", executor.reactor().occupied());
    expect("operations", world.in_flight());
    for pool in &pools {
        expect("buffers", usize::from(pool.buffers()) - pool.available());
    }
    expect("references to the executor", Rc::strong_count(&executor) - 1);
    let panics = executor.panics();
    expect("panics", panics as usize);
    drop(executor);
    expect("descriptors", world.open());
    for pool in &pools {
        expect("lent buffers", usize::from(pool.lent()));
    }
    for violation in world.violations() {
        let _ = writeln!(wrong, "{violation}");
    }
    assert!(world.now() >= started, "the clock went back");
    assert!(wrong.is_empty(), "{wrong}{:?}", world.behaviour());
}

const PROXY: ([u8; 4], u16) = ([127, 0, 0, 1], 15001);
const ORIGIN: ([u8; 4], u16) = ([127, 0, 0, 1], 80);

/// A connection through a relay.
struct Path {
    client: Stream,
    origin: Stream,
    relay: JoinHandle<Ended>,
}

/// Connects a client through a proxy to an origin.
async fn path(world: &World, timeouts: Timeouts) -> Path {
    let proxy = Accepting::adopt(world.listen(PROXY.into()));
    let origins = Accepting::adopt(world.listen(ORIGIN.into()));
    let relay = spawn(async move {
        let mut downstream = Stream::adopt(proxy.accept().await.unwrap());
        let mut upstream = Stream::connect(ORIGIN.into()).await.unwrap();
        relay::pipe(&mut downstream, &mut upstream, &timeouts, &()).await
    });
    let client = Stream::connect(PROXY.into()).await.unwrap();
    let origin = Stream::adopt(origins.accept().await.unwrap());
    Path { client, origin, relay }
}

/// Timeouts that no test reaches by accident.
fn patient() -> Timeouts {
    Timeouts::default()
}

fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}
