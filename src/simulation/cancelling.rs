//! Futures and streams dropped at any state of their operations: before the operation was handed
//! over, while it waits, with its completion there and not taken, and after it. What is left over
//! is counted at the end of every run (`mod.rs`).

use std::{net::SocketAddr, os::fd::OwnedFd};

use super::{
    ORIGIN, PROXY, milliseconds,
    peer::{byte, bytes},
    simulate, simulate_with,
};
use crate::{
    net::{Accepting, Stream},
    relay::{self, Timeouts},
    ring::simulated::{Behaviour, Random, World},
    runtime::{JoinHandle, sleep, spawn, timeout, yield_now},
};

const SILENT: ([u8; 4], u16) = ([127, 0, 0, 1], 9);

/// Everything goes wrong at times.
fn failing(random: &mut Random, behaviour: &mut Behaviour) {
    behaviour.fails = random.pick(&[0, 2, 20]);
    behaviour.accept_fails = random.pick(&[0, 20]);
    behaviour.holds = random.pick(&[20, 70, 95]);
}

/// Lets a random time pass: none, some turns, or some milliseconds.
async fn a_while(random: &mut Random) {
    match random.below(3) {
        0 => {}
        1 => {
            for _ in 0..random.scale(8) {
                yield_now().await;
            }
        }
        _ => sleep(milliseconds(random.below(4))).await,
    }
}

/// One step of a peer that cannot make up its mind.
async fn fumble(stream: &mut Stream, random: &mut Random) -> std::io::Result<()> {
    let time = milliseconds(random.below(3));
    match random.below(5) {
        0 | 1 => match timeout(time, stream.receive()).await {
            Ok(Ok(None)) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(received) => drop(received?),
            Err(_) => {}
        },
        2 => {
            let piece = vec![0; random.scale(20_000) as usize];
            if let Ok(sent) = timeout(time, stream.send(piece)).await {
                sent?;
            }
        }
        3 => {
            if let Ok(flushed) = timeout(time, stream.flush()).await {
                flushed?;
            }
        }
        _ => {
            let broken = timeout(time, std::future::poll_fn(|cx| stream.poll_broken(cx)));
            if broken.await.is_ok() {
                return Err(std::io::ErrorKind::ConnectionReset.into());
            }
        }
    }
    if random.chance(3) {
        stream.finish();
    }
    Ok(())
}

async fn fumbling(mut stream: Stream, mut random: Random) {
    for _ in 0..random.scale(60) {
        if fumble(&mut stream, &mut random).await.is_err() {
            break;
        }
        a_while(&mut random).await;
    }
    if random.chance(30) {
        stream.reset_on_drop();
    }
}

/// A proxy and an origin that accept, with doubts, for ever.
fn servers(world: &World) -> Vec<JoinHandle<()>> {
    let serve = |address: SocketAddr, relays: bool| {
        let listener = Accepting::adopt(world.listen(address));
        let world = world.clone();
        let mut random = world.random();
        spawn(async move {
            loop {
                let accepted = timeout(milliseconds(random.below(5) + 1), listener.accept()).await;
                let Ok(Ok(fd)) = accepted else { continue };
                let task = serve_one(world.random(), fd, relays);
                match random.chance(10) {
                    true => drop(spawn(task)),
                    false => spawn(task).detach(),
                }
            }
        })
    };
    vec![serve(PROXY.into(), true), serve(ORIGIN.into(), false)]
}

async fn serve_one(mut random: Random, fd: OwnedFd, relays: bool) {
    if random.chance(5) {
        return;
    }
    let mut stream = Stream::adopt(fd);
    if !relays {
        return fumbling(stream, random).await;
    }
    let connecting = timeout(milliseconds(random.below(6)), Stream::connect(ORIGIN.into()));
    let Ok(Ok(mut upstream)) = connecting.await else { return };
    let timeouts = Timeouts::default();
    let relay = relay::pipe(&mut stream, &mut upstream, &timeouts, &());
    let _ = timeout(milliseconds(random.scale(2000)), relay).await;
}

async fn client(mut random: Random) {
    let address = random.pick(&[PROXY, PROXY, PROXY, ORIGIN, SILENT, ([127, 0, 0, 1], 1)]);
    let connecting = timeout(milliseconds(random.below(6)), Stream::connect(address.into()));
    if let Ok(Ok(stream)) = connecting.await {
        fumbling(stream, random).await;
    }
}

#[test]
fn nothing_is_left_of_a_storm() {
    simulate_with(failing, |world| async move {
        world.silence(SILENT.into());
        let servers = servers(&world);
        let clients: Vec<_> = (0..12).map(|_| spawn(client(world.random()))).collect();
        let mut random = world.random();
        for client in clients {
            match random.chance(20) {
                true => drop(client.cancel().await),
                false => client.await.unwrap(),
            }
        }
        drop(servers);
    });
}

#[test]
fn nothing_is_left_when_an_executor_ends_amid_everything() {
    simulate_with(failing, |world| async move {
        world.silence(SILENT.into());
        for server in servers(&world) {
            server.detach();
        }
        for _ in 0..8 {
            spawn(client(world.random())).detach();
        }
        let mut random = world.random();
        for _ in 0..random.scale(200) {
            match random.chance(90) {
                true => yield_now().await,
                false => sleep(milliseconds(random.below(3))).await,
            }
        }
    });
}

#[test]
fn dropped_receives_and_flushes_lose_no_byte() {
    simulate(|world| async move {
        let (sender, receiver) = world.pair();
        let (mut sender, mut receiver) = (Stream::adopt(sender), Stream::adopt(receiver));
        let total = world.random().scale(world.stride() * 100);
        let mut random = world.random();
        let sending = spawn(async move {
            let mut sent = 0;
            while sent < total {
                let count = random.scale((total - sent).min(10_000));
                let piece = bytes(1, sent, count as usize);
                // Either all of the piece is handed over, or none of it.
                if timeout(milliseconds(random.below(2)), sender.send(piece)).await.is_ok() {
                    sent += count;
                }
                let _ = timeout(milliseconds(random.below(2)), sender.flush()).await;
            }
            sender.finish();
            sender.flush().await.unwrap();
        });
        let mut random = world.random();
        let mut received = 0;
        loop {
            let Ok(chunk) = timeout(milliseconds(random.below(2)), receiver.receive()).await else {
                a_while(&mut random).await;
                continue;
            };
            let Some(chunk) = chunk.unwrap() else { break };
            for got in &*chunk {
                assert_eq!(*got, byte(1, received));
                received += 1;
            }
        }
        assert_eq!(received, total);
        sending.await.unwrap();
    });
}

/// Holds completions back until there is one, then lets `drop_it` act, then lets them come.
async fn complete_unseen(world: &World, drop_it: impl FnOnce()) {
    world.hold_back(true);
    while world.untaken() == 0 {
        sleep(milliseconds(1)).await;
    }
    drop_it();
    world.hold_back(false);
    sleep(milliseconds(5)).await;
}

#[test]
fn streams_are_dropped_with_completions_there_and_not_taken() {
    simulate(|world| async move {
        // A receive.
        let (near, far) = world.pair();
        let (mut near, mut far) = (Stream::adopt(near), Stream::adopt(far));
        let waited = timeout(milliseconds(1), near.receive()).await;
        assert!(waited.is_err());
        far.send("late").await.unwrap();
        complete_unseen(&world, || drop(near)).await;
        // The peer hears of it: its bytes were not taken.
        let _ = far.receive().await;
        drop(far);

        // A send, of memory that nobody else keeps.
        let (near, far) = world.pair();
        let (mut near, far) = (Stream::adopt(near), Stream::adopt(far));
        near.send(vec![1; 3000]).await.unwrap();
        near.send(vec![2; 3000]).await.unwrap();
        // The window may be smaller than that; then the send is cancelled.
        world.hold_back(true);
        sleep(milliseconds(3)).await;
        drop(near);
        world.hold_back(false);
        sleep(milliseconds(5)).await;
        drop(far);

        // A connect that succeeds.
        let listener = Accepting::adopt(world.listen(PROXY.into()));
        let connecting = spawn(Stream::connect(PROXY.into()));
        complete_unseen(&world, || drop(connecting)).await;
        let mut accepted = Stream::adopt(listener.accept().await.unwrap());
        assert!(!matches!(accepted.receive().await, Ok(Some(_))), "it was given up");

        // A watch for errors.
        let (near, far) = world.pair();
        let (mut near, mut far) = (Stream::adopt(near), Stream::adopt(far));
        let broken = spawn(async move { std::future::poll_fn(|cx| near.poll_broken(cx)).await });
        yield_now().await;
        yield_now().await;
        far.reset_on_drop();
        drop(far);
        complete_unseen(&world, || drop(broken)).await;
    });
}

#[test]
fn a_connect_is_refused_or_given_up() {
    simulate(|world| async move {
        world.silence(SILENT.into());
        let refused = Stream::connect(PROXY.into()).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        let connecting = timeout(milliseconds(30), Stream::connect(SILENT.into()));
        assert!(connecting.await.is_err());
    });
}
