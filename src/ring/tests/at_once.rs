//! Sends that the socket takes at once, and what they make a turn do.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use super::has_io_uring;
use crate::ring::{
    CREDIT, Capabilities, Key, Pool, Reactor, Restrictions, RingDriver, Wait, nanoseconds,
    simulated::{Behaviour, Random, World},
};

fn simulated() -> (World, Reactor, Key, Key) {
    let pools = vec![Pool::new(4, 64).unwrap(), Pool::new(1, 64).unwrap()];
    let world = World::new(Random::new(1), Behaviour::plain(), pools.clone());
    let reactor = Reactor::new(Box::new(world.driver()), pools);
    let (near, far) = world.pair();
    let (near, far) = (reactor.adopt_stream(near, 64), reactor.adopt_stream(far, 64));
    (world, reactor, near, far)
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

#[test]
fn nobody_waits_for_a_send_and_the_turn_waits_for_what_comes_of_it() {
    let (_world, reactor, near, far) = simulated();
    assert!(reactor.poll_receive(far, &mut context()).is_pending());
    reactor.turn(Wait::No).unwrap();
    reactor.send(near, vec![7; 9].into()).unwrap();
    reactor.turn(Wait::Forever).unwrap();
    let Poll::Ready(Ok(Some(chunk))) = reactor.poll_receive(far, &mut context()) else {
        panic!("the turn ended before anything came");
    };
    assert_eq!(*chunk, [7; 9]);
    assert!(matches!(reactor.poll_flushed(near, &mut context()), Poll::Ready(Ok(()))));
    drop(chunk);
    assert_eq!(reactor.wind_down(Duration::from_secs(1)), 0);
}

/// Without an end of the wait these were deadlocks, which the simulated driver reports.
#[test]
fn a_turn_ends_with_a_send_that_something_waits_for() {
    type Waiting = fn(&Reactor, Key);
    let waiting: [(&str, Waiting); 4] = [
        ("who flushes", |reactor, near| {
            assert!(reactor.poll_flushed(near, &mut context()).is_pending());
        }),
        ("more to send", |reactor, near| reactor.send(near, vec![2].into()).unwrap()),
        ("the end of the direction", |reactor, near| reactor.finish(near)),
        ("the end of the slot", |reactor, near| reactor.release(near)),
    ];
    for (what, wait) in waiting {
        let (_world, reactor, near, _far) = simulated();
        reactor.send(near, vec![1].into()).unwrap();
        wait(&reactor, near);
        reactor.turn(Wait::Forever).expect(what);
        assert_eq!(reactor.wind_down(Duration::from_secs(1)), 0);
    }
}

fn on_a_ring(test: &str) -> Option<(Reactor, Key, UnixStream)> {
    let pools = vec![Pool::new(4, 64).unwrap(), Pool::new(1, 64).unwrap()];
    if !has_io_uring(test) {
        return None;
    }
    let capabilities = Capabilities::probe().unwrap();
    assert!(capabilities.sends_at_once, "no kernel is known on which small sends behave otherwise");
    let driver = RingDriver::new(capabilities, &Restrictions::default(), &pools).unwrap();
    let reactor = Reactor::new(Box::new(driver), pools);
    let (near, far) = UnixStream::pair().unwrap();
    let near = reactor.adopt_stream(near.into(), CREDIT);
    Some((reactor, near, far))
}

#[test]
fn one_turn_of_a_ring_sends_and_brings_the_answer() {
    let Some((reactor, near, mut far)) =
        on_a_ring("one_turn_of_a_ring_sends_and_brings_the_answer")
    else {
        return;
    };
    let peer = std::thread::spawn(move || {
        let mut request = [0; 4];
        for _ in 0..100 {
            far.read_exact(&mut request).unwrap();
            far.write_all(&request).unwrap();
        }
    });
    let began = Instant::now();
    let mut turns = 0;
    for number in 0..100_u32 {
        reactor.send(near, number.to_ne_bytes().to_vec().into()).unwrap();
        let answer = loop {
            match reactor.poll_receive(near, &mut context()) {
                Poll::Ready(answer) => break answer.unwrap().unwrap(),
                Poll::Pending => {
                    turns += 1;
                    reactor.turn(Wait::Forever).unwrap();
                }
            }
        };
        assert_eq!(*answer, number.to_ne_bytes());
    }
    // A turn that brings no answer has slept as long as such a sleep may last.
    let slept_in_vain = began.elapsed().as_millis() / 50;
    assert!(turns <= 100 + slept_in_vain, "{turns} turns");
    peer.join().unwrap();
    assert_eq!(reactor.wind_down(Duration::from_secs(1)), 0);
}

#[test]
fn what_a_full_socket_did_not_take_follows_in_order() {
    let Some((reactor, near, mut far)) =
        on_a_ring("what_a_full_socket_did_not_take_follows_in_order")
    else {
        return;
    };
    let piece = |number: u32| number.to_ne_bytes().repeat(1000);
    for number in 0..500 {
        reactor.send(near, piece(number).into()).unwrap();
        reactor.turn(Wait::No).unwrap();
    }
    assert!(reactor.poll_flushed(near, &mut context()).is_pending(), "the socket is to be full");
    let peer = std::thread::spawn(move || {
        let mut received = vec![0; 4000];
        for number in 0..500 {
            far.read_exact(&mut received).unwrap();
            assert!(received == piece(number), "piece {number}");
        }
    });
    let deadline = reactor.clock() + nanoseconds(Duration::from_secs(60));
    while reactor.poll_flushed(near, &mut context()).is_pending() {
        assert!(reactor.clock() < deadline, "it stands still");
        reactor.turn(Wait::Until(deadline)).unwrap();
    }
    peer.join().unwrap();
    assert_eq!(reactor.wind_down(Duration::from_secs(1)), 0);
}
