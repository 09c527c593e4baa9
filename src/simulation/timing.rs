//! Timers against completions, and the relay's timeouts to the tick.

use std::{cell::RefCell, rc::Rc, time::Duration};

use super::{
    MILLISECOND, Path, milliseconds, path,
    peer::{byte, bytes},
    simulate, simulate_with,
};
use crate::{
    net::Stream,
    relay::{Ended, Timeouts, Why},
    ring::simulated::{Behaviour, Random, World},
    runtime::{JoinHandle, sleep, spawn, timeout},
};

/// The tick at which a timer for `after` that was set at `set` fires.
fn tick(set: u64, after: Duration) -> u64 {
    (set + after.as_nanos() as u64).div_ceil(MILLISECOND) * MILLISECOND
}

/// A kernel that takes no time, so that every time is known exactly.
fn exact(_: &mut Random, behaviour: &mut Behaviour) {
    *behaviour = Behaviour { limits_receives: behaviour.limits_receives, ..Behaviour::plain() };
}

/// When a relay ended, and why.
async fn ended(world: World, relay: JoinHandle<Ended>) -> (Why, u64) {
    let why = relay.await.unwrap().why;
    (why, world.now())
}

#[test]
fn what_arrives_at_the_very_deadline_is_not_lost() {
    simulate(|world| async move {
        let (sender, receiver) = world.pair();
        let (mut sender, mut receiver) = (Stream::adopt(sender), Stream::adopt(receiver));
        let mut random = world.random();
        const SENT: u64 = 200;
        let sending = spawn(async move {
            for at in 0..SENT {
                sleep(milliseconds(random.below(3))).await;
                sender.send(bytes(1, at, 1)).await.unwrap();
            }
            sender.flush().await.unwrap();
            sender
        });
        let mut random = world.random();
        let mut received = 0;
        while received < SENT {
            let waiting = timeout(milliseconds(random.below(3)), receiver.receive());
            let Ok(chunk) = waiting.await else { continue };
            for got in &*chunk.unwrap().expect("the sender lives") {
                assert_eq!(*got, byte(1, received));
                received += 1;
            }
        }
        drop(sending.await.unwrap());
    });
}

#[test]
fn an_idle_relay_ends_at_the_tick() {
    simulate_with(exact, |world| async move {
        let mut random = world.random();
        let idle = milliseconds(random.scale(1 << 22));
        let timeouts = Timeouts { idle: Some(idle), half_close: None };
        let Path { mut client, mut origin, relay } = path(&world, timeouts).await;
        let relay = spawn(ended(world.clone(), relay));
        let mut moved_at = world.now();
        for _ in 0..random.below(6) {
            sleep(Duration::from_nanos(random.below(idle.as_nanos() as u64))).await;
            if world.now() >= tick(moved_at, idle) {
                break;
            }
            moved_at = world.now();
            let (from, to) = match random.chance(50) {
                true => (&mut client, &mut origin),
                false => (&mut origin, &mut client),
            };
            from.send(vec![7]).await.unwrap();
            assert_eq!(&*to.receive().await.unwrap().unwrap(), [7]);
        }
        assert_eq!(relay.await.unwrap(), (Why::IdleTimeout, tick(moved_at, idle)));
    });
}

/// A network that takes few bytes at a time, and a kernel with a large buffer before it, or none, so
/// that one operation is in flight for long.
fn buffered(random: &mut Random, behaviour: &mut Behaviour) {
    exact(random, behaviour);
    behaviour.window = 8 << 10;
    behaviour.send_buffer = random.pick(&[0, 1, 64, 1024]) << 10;
    // So that the reader reads no more ahead than its credit.
    behaviour.limits_receives = true;
}

/// Sends, from either side of a path, more than is taken at once. Gives the other side.
fn flood(world: &World, client: Stream, origin: Stream) -> (JoinHandle<Stream>, Stream) {
    let (mut from, to) = match world.random().chance(50) {
        true => (client, origin),
        false => (origin, client),
    };
    let sending = spawn(async move {
        from.send(bytes(1, 0, FLOOD as usize)).await.unwrap();
        from.flush().await.unwrap();
        from
    });
    (sending, to)
}

const FLOOD: u64 = 400 << 10;
const IDLE: u64 = 1000;

/// Reads so many bytes or a few more, 80 KiB a second: FLOOD takes several times IDLE, and the
/// credit's worth that a stream reads ahead, and acknowledges, most of IDLE.
async fn read_slowly(reader: &mut Stream, count: u64) {
    let mut received = 0;
    while received < count {
        let chunk = reader.receive().await.unwrap().expect("it was not cut");
        received += chunk.len() as u64;
        sleep(milliseconds(chunk.len() as u64 / 80)).await;
    }
}

#[test]
fn a_slow_reader_is_not_idle() {
    simulate_with(buffered, |world| async move {
        let timeouts = Timeouts { idle: Some(milliseconds(IDLE)), half_close: None };
        let Path { client, origin, relay } = path(&world, timeouts).await;
        // At any time between two looks.
        sleep(milliseconds(world.random().scale(IDLE / 2))).await;
        let (sending, mut reader) = flood(&world, client, origin);
        let started = world.now();
        read_slowly(&mut reader, FLOOD).await;
        assert!(world.now() - started >= 4 * IDLE * MILLISECOND, "not slow");
        drop(sending.await.unwrap());
        assert!(reader.receive().await.unwrap().is_none());
        drop(reader);
        assert_eq!(relay.await.unwrap().why, Why::Done);
    });
}

#[test]
fn a_reader_that_stops_is_idle_by_twice_the_time() {
    simulate_with(buffered, |world| async move {
        let timeouts = Timeouts { idle: Some(milliseconds(IDLE)), half_close: None };
        let Path { client, origin, relay } = path(&world, timeouts).await;
        let relay = spawn(ended(world.clone(), relay));
        sleep(milliseconds(world.random().scale(IDLE / 2))).await;
        let (sending, mut reader) = flood(&world, client, origin);
        let reads = world.random().below(300 << 10) * world.random().below(2);
        read_slowly(&mut reader, reads).await;
        let last = world.now();
        let (why, ended_at) = relay.await.unwrap();
        assert_eq!(why, Why::IdleTimeout);
        let took = (ended_at - last).div_ceil(MILLISECOND);
        let read_ahead = if reads > 0 { IDLE * 9 / 10 } else { 0 };
        assert!((IDLE - read_ahead..=2 * IDLE + 2).contains(&took), "after {took} ms");
        sending.cancel().await;
    });
}

#[test]
fn a_half_closed_relay_ends_at_the_tick() {
    simulate_with(exact, |world| async move {
        let mut random = world.random();
        let half_close = milliseconds(random.scale(1 << 16));
        let timeouts = Timeouts { idle: None, half_close: Some(half_close) };
        let Path { mut client, mut origin, relay } = path(&world, timeouts).await;
        let relay = spawn(ended(world.clone(), relay));
        client.send(vec![7]).await.unwrap();
        assert!(origin.receive().await.unwrap().is_some());
        // However long it was quiet before: the time runs from the end of the direction.
        sleep(milliseconds(random.scale(1 << 18))).await;
        let mut moved_at = world.now();
        client.finish();
        assert!(origin.receive().await.unwrap().is_none());
        for _ in 0..random.below(4) {
            sleep(Duration::from_nanos(random.below(half_close.as_nanos() as u64))).await;
            if world.now() >= tick(moved_at, half_close) {
                break;
            }
            moved_at = world.now();
            origin.send(vec![7]).await.unwrap();
            assert!(client.receive().await.unwrap().is_some());
        }
        assert_eq!(relay.await.unwrap(), (Why::HalfCloseTimeout, tick(moved_at, half_close)));
    });
}

#[test]
fn timers_fire_in_order_and_never_early() {
    simulate(|world| async move {
        let fired = Rc::new(RefCell::new(Vec::new()));
        let mut random = world.random();
        let sleeps: Vec<_> = (0..random.scale(100))
            .map(|_| {
                let after = Duration::from_nanos(random.scale(1 << 45));
                let (fired, world) = (Rc::clone(&fired), world.clone());
                spawn(async move {
                    let due = tick(world.now(), after);
                    sleep(after).await;
                    assert!(world.now() >= due, "early");
                    fired.borrow_mut().push(due);
                })
            })
            .collect();
        for sleep in sleeps {
            sleep.await.unwrap();
        }
        assert!(fired.borrow().is_sorted(), "{fired:?}");
    });
}
