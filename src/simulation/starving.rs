//! Streams whose receive found no buffer go on by themselves, the one that waits longest first.

use std::{cell::RefCell, future::poll_fn, rc::Rc};

use super::{milliseconds, simulate_with};
use crate::{
    net::Stream,
    ring::simulated::{Behaviour, Random, World},
    runtime::{JoinHandle, sleep, spawn, yield_now},
};

/// One buffer a turn, so that of several receives in a turn all but one find none, those of idle
/// streams as well: a buffer is chosen before there is anything to put into it.
fn one_a_turn(random: &mut Random, behaviour: &mut Behaviour) {
    let size = 64 + random.below(64) as u32;
    *behaviour = Behaviour {
        limits_receives: behaviour.limits_receives,
        lent: 1,
        small: (1 + random.scale(8) as u16, size),
        ..Behaviour::plain()
    };
}

/// Pairs of streams that are connected.
fn pairs(world: &World, count: usize) -> (Vec<Stream>, Vec<Stream>) {
    let pair = |_| {
        let (sender, receiver) = world.pair();
        (Stream::adopt(sender), Stream::adopt(receiver))
    };
    (0..count).map(pair).unzip()
}

/// Receives one chunk from each stream, all at once, and notes in what order they come.
fn receive_each(streams: Vec<Stream>) -> (Rc<RefCell<Vec<usize>>>, Vec<JoinHandle<Stream>>) {
    let order = Rc::new(RefCell::new(Vec::new()));
    let receive = |(at, mut stream): (usize, Stream)| {
        let order = Rc::clone(&order);
        spawn(async move {
            assert_eq!(&*stream.receive().await.unwrap().unwrap(), [at as u8]);
            order.borrow_mut().push(at);
            stream
        })
    };
    let receiving = streams.into_iter().enumerate().map(receive).collect();
    (order, receiving)
}

/// Nothing else happens that could make the executor turn: one that sleeps while a stream could be
/// served is a deadlock, which the driver reports.
#[test]
fn a_starved_stream_needs_nobody_to_wake_it() {
    simulate_with(one_a_turn, |world| async move {
        let mut random = world.random();
        let count = 2 + random.below(40) as usize;
        let (mut senders, receivers) = pairs(&world, count);
        // Takes the only buffer of the turn in which all receives are started.
        senders[0].send(vec![0]).await.unwrap();
        senders[0].flush().await.unwrap();
        let (order, receiving) = receive_each(receivers);
        sleep(milliseconds(random.below(2))).await;
        // The rest is idle, but for one.
        let last = 1 + random.below(count as u64 - 1) as usize;
        senders[last].send(vec![last as u8]).await.unwrap();
        let mut receiving: Vec<_> = receiving.into_iter().map(Some).collect();
        for at in [0, last] {
            receiving[at].take().unwrap().await.unwrap();
        }
        assert_eq!(*order.borrow(), [0, last]);
    });
}

#[test]
fn starved_streams_are_served_in_the_order_in_which_they_starved() {
    simulate_with(one_a_turn, |world| async move {
        let count = 2 + world.random().below(40) as usize;
        let (mut senders, receivers) = pairs(&world, count);
        for (at, sender) in senders.iter_mut().enumerate() {
            sender.send(vec![at as u8]).await.unwrap();
            sender.flush().await.unwrap();
        }
        let (order, receiving) = receive_each(receivers);
        // One that comes later has no precedence, though its receive is armed when it gets a buffer.
        yield_now().await;
        for receiving in receiving {
            receiving.await.unwrap();
        }
        let expected: Vec<_> = (0..count).collect();
        assert_eq!(*order.borrow(), expected);
    });
}

/// A stream that waits for its turn has no receive that would report a failure, and has one later,
/// which takes the error before a poll sees it.
#[test]
fn who_waits_for_a_failure_while_starved_hears_of_it() {
    let timely = |random: &mut Random, behaviour: &mut Behaviour| {
        one_a_turn(random, behaviour);
        behaviour.latency = random.pick(&[0, 0, 1_000_000]);
    };
    simulate_with(timely, |world| async move {
        let mut random = world.random();
        let (mut senders, receivers) = pairs(&world, 2 + random.below(20) as usize);
        senders[0].send(vec![0]).await.unwrap();
        senders[0].flush().await.unwrap();
        let wait = |mut stream: Stream| {
            let mut armed = false;
            spawn(poll_fn(move |cx| {
                if std::mem::replace(&mut armed, true) {
                    return stream.poll_broken(cx);
                }
                // Woken when the receive has found no buffer.
                stream.poll_receive(cx).map(drop)
            }))
        };
        let waiting: Vec<_> = receivers.into_iter().map(wait).collect();
        sleep(milliseconds(random.below(4))).await;
        for mut sender in senders {
            sender.reset_on_drop();
        }
        for waiting in waiting {
            waiting.await.unwrap();
        }
    });
}
