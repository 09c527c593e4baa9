//! Doorbells that do not ring at the first attempt.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use crate::ring::{
    Doorbell, Pool, Reactor, Wait,
    simulated::{Behaviour, Random, World},
};

/// Rings after some attempts in vain.
#[derive(Default)]
struct Bell {
    stuck: AtomicU32,
    attempts: AtomicU32,
    rang: AtomicU32,
}

impl Doorbell for Bell {
    fn ring(&self) -> io::Result<()> {
        self.attempts.fetch_add(1, Relaxed);
        if self.stuck.load(Relaxed) > 0 {
            self.stuck.fetch_sub(1, Relaxed);
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        self.rang.fetch_add(1, Relaxed);
        Ok(())
    }
}

fn bell(stuck: u32) -> (Arc<Bell>, Arc<dyn Doorbell>) {
    let bell = Arc::new(Bell { stuck: AtomicU32::new(stuck), ..Bell::default() });
    (Arc::clone(&bell), bell)
}

/// A kernel that sends no message to another ring.
fn reactor() -> (World, Reactor) {
    let behaviour = Behaviour { ring_fails: 100, ..Behaviour::plain() };
    let pools = vec![Pool::new(4, 4096).unwrap(), Pool::new(1, 4096).unwrap()];
    let world = World::new(Random::new(1), behaviour, pools.clone());
    let reactor = Reactor::new(Box::new(world.driver()), pools);
    (world, reactor)
}

#[test]
fn a_message_that_fails_is_made_up_for_by_a_call() {
    let (_world, reactor) = reactor();
    let (bell, doorbell) = bell(0);
    reactor.ring(&doorbell);
    assert_eq!(bell.rang.load(Relaxed), 0, "the kernel was to send a message");
    // What is left to do, and so the sleep, is nothing else.
    reactor.turn(Wait::Forever).unwrap();
    assert_eq!(bell.rang.load(Relaxed), 1);
    reactor.turn(Wait::No).unwrap();
    assert_eq!(bell.attempts.load(Relaxed), 1, "it rings once");
}

#[test]
fn a_bell_is_rung_until_it_rings_and_nobody_sleeps_meanwhile() {
    let (world, reactor) = reactor();
    let (bell, doorbell) = bell(5);
    let (other, other_doorbell) = self::bell(0);
    reactor.ring(&doorbell);
    reactor.ring(&doorbell);
    reactor.ring(&other_doorbell);
    let started = world.now();
    while bell.attempts.load(Relaxed) < 5 {
        // With nothing to come, a wait without an end is a deadlock, which the driver reports.
        reactor.turn(Wait::Forever).unwrap();
    }
    assert_eq!(bell.rang.load(Relaxed), 0);
    reactor.turn(Wait::No).unwrap();
    assert_eq!(bell.rang.load(Relaxed), 1);
    assert_eq!(other.rang.load(Relaxed), 1, "the others ring meanwhile");
    assert!(world.now() - started >= 3_000_000, "with pauses");
}

#[test]
fn a_doorbell_is_let_go_when_another_comes_after_its_end() {
    let (world, reactor) = reactor();
    world.behave(|behaviour| behaviour.ring_fails = 0);
    let bells: Vec<_> = (0..10)
        .map(|_| {
            let (bell, doorbell) = bell(0);
            reactor.ring(&doorbell);
            assert_eq!(bell.rang.load(Relaxed), 1);
            reactor.turn(Wait::No).unwrap();
            Arc::downgrade(&bell)
        })
        .collect();
    let kept = bells.iter().filter(|bell| bell.strong_count() > 0).count();
    assert_eq!(kept, 1, "the last");
}
