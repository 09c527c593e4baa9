//! The reactor, without an executor.

use std::task::{Context, Waker};

use crate::ring::{
    Pool, Reactor, Wait,
    simulated::{Behaviour, Random, World},
};

fn world() -> (World, Reactor) {
    let pools = vec![Pool::new(4, 64).unwrap(), Pool::new(1, 64).unwrap()];
    let world = World::new(Random::new(1), Behaviour::plain(), pools.clone());
    let reactor = Reactor::new(Box::new(world.driver()), pools);
    (world, reactor)
}

/// Memory that the kernel may still write to is not freed, nor a descriptor closed under it, even
/// where nobody saw to the end of what is in flight.
#[test]
fn what_is_in_flight_at_the_end_is_leaked() {
    let (world, reactor) = world();
    let (near, far) = world.pair();
    let key = reactor.adopt_stream(near);
    assert!(reactor.poll_receive(key, &mut Context::from_waker(Waker::noop())).is_pending());
    reactor.turn(Wait::No).unwrap();
    drop(far);
    drop(reactor);
    assert_eq!(world.in_flight(), 1);
    assert_eq!(world.open(), 1, "the receive still has its descriptor");
    assert_eq!(world.violations(), Vec::<String>::new());
}

#[test]
fn what_was_wound_down_is_freed() {
    let (world, reactor) = world();
    let (near, far) = world.pair();
    let key = reactor.adopt_stream(near);
    assert!(reactor.poll_receive(key, &mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(reactor.wind_down(std::time::Duration::from_secs(1)), 0);
    drop(far);
    drop(reactor);
    assert_eq!((world.in_flight(), world.open()), (0, 0));
    assert_eq!(world.violations(), Vec::<String>::new());
}
