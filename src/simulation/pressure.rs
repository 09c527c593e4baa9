//! Slow readers and senders of single bytes take the buffers from nobody.

use std::{cell::Cell, rc::Rc};

use super::{
    Path, milliseconds, path, patient,
    peer::{byte, bytes},
    simulate_with,
};
use crate::{
    net::Stream,
    ring::simulated::{Behaviour, Random, World},
    runtime::{sleep, spawn, timeout},
};

/// Few small buffers and large windows, so that what waits in user space is what counts.
fn scarce(random: &mut Random, behaviour: &mut Behaviour) {
    behaviour.latency = behaviour.latency.min(10_000);
    behaviour.window = 8 << 10;
    behaviour.small = (8 + random.below(24) as u16, random.pick(&[256, 2048]));
    behaviour.lent = behaviour.lent.max(2);
}

/// A stream whose receive is armed and whose bytes nobody takes, and the one that feeds it.
async fn hoarder(
    world: &World,
    piece: usize,
    count: usize,
) -> (Stream, crate::runtime::JoinHandle<Stream>) {
    let (sender, receiver) = world.pair();
    let (mut sender, mut receiver) = (Stream::adopt(sender), Stream::adopt(receiver));
    let feeding = spawn(async move {
        for at in 0..count {
            sender.send(bytes(3, (at * piece) as u64, piece)).await.unwrap();
            if piece == 1 {
                sender.flush().await.unwrap();
            }
        }
        sender
    });
    // It takes one chunk, so that the receive is armed, and then no more.
    let first = receiver.receive().await.unwrap().expect("the sender lives");
    receiver.unreceive(first);
    (receiver, feeding)
}

async fn take_all(stream: &mut Stream, count: u64) {
    let mut received = 0;
    while received < count {
        for got in &*stream.receive().await.unwrap().expect("the sender lives") {
            assert_eq!(*got, byte(3, received));
            received += 1;
        }
    }
}

/// Hoarders with all they hold, while others exchange messages; then everything is taken.
async fn others_go_on(world: World, hoarders: u64, piece: usize, count: usize) {
    let mut held = Vec::new();
    for _ in 0..hoarders {
        held.push(hoarder(&world, piece, count).await);
    }
    sleep(milliseconds(50)).await;
    let answered = Rc::new(Cell::new(0));
    let mut others = Vec::new();
    for _ in 0..8 {
        let (client, server) = world.pair();
        let (mut client, mut server) = (Stream::adopt(client), Stream::adopt(server));
        let answered = Rc::clone(&answered);
        others.push(spawn(async move {
            for _ in 0..10 {
                client.send("?").await.unwrap();
                assert_eq!(&*server.receive().await.unwrap().unwrap(), b"?");
                server.send("!").await.unwrap();
                assert_eq!(&*client.receive().await.unwrap().unwrap(), b"!");
                answered.set(answered.get() + 1);
            }
        }));
    }
    let all = async {
        for other in others {
            other.await.unwrap();
        }
    };
    let in_time = timeout(milliseconds(10_000), all).await.is_ok();
    assert!(in_time, "{} of 80 messages were answered", answered.get());
    for (mut receiver, feeding) in held {
        take_all(&mut receiver, (piece * count) as u64).await;
        drop(feeding.await.unwrap());
    }
}

#[test]
fn slow_readers_leave_buffers_to_others() {
    simulate_with(scarce, |world| async move {
        let hoarders = 1 + world.random().below(5);
        others_go_on(world, hoarders, 2048, 40).await;
    });
}

#[test]
fn senders_of_single_bytes_leave_buffers_to_others() {
    simulate_with(scarce, |world| async move {
        let hoarders = 1 + world.random().below(5);
        others_go_on(world, hoarders, 1, 200).await;
    });
}

/// What a relay holds for a side that takes nothing is bounded by its credits.
#[test]
fn a_relay_takes_no_more_than_its_credits() {
    const CREDIT: u64 = 64 << 10;
    const PIECE: u64 = 8 << 10;
    // Small enough that the relay does not change to its bulk gear.
    const BUFFER: u64 = 2048;
    let bounded = |random: &mut Random, behaviour: &mut Behaviour| {
        behaviour.small = (4 + random.below(40) as u16, BUFFER as u32);
        behaviour.window = random.pick(&[1, 4, 32]) << 10;
    };
    simulate_with(bounded, |world| async move {
        let Path { mut client, mut origin, relay } = path(&world, patient()).await;
        let mut sent = 0;
        let mut sends = async || {
            let piece = bytes(3, sent, PIECE as usize);
            let sends = timeout(milliseconds(500), client.send(piece)).await.is_ok();
            sent += if sends { PIECE } else { 0 };
            sends
        };
        while sends().await {}
        let behaviour = world.behaviour();
        // In the client's queue, in the relay's two, and in both sockets.
        let mut most = 3 * CREDIT + PIECE + BUFFER;
        most += 2 * (behaviour.window + behaviour.send_buffer) as u64;
        if !behaviour.limits_receives {
            // What one turn brings before the receive is cancelled, and one result after that.
            most += (u64::from(behaviour.small.0) + 1) * BUFFER;
        }
        assert!(sent <= most, "{sent} bytes were taken, {most} may be");
        take_all(&mut origin, sent).await;
        drop((client, origin));
        relay.await.unwrap();
    });
}
