//! A reset on one side of a relay becomes a reset on the other, behind the bytes before it.

use std::{future::poll_fn, io, task::Poll};

use super::{
    MILLISECOND, Path, milliseconds, path, patient,
    peer::{Ends, Peer, Plan, bytes},
    simulate, simulate_with,
};
use crate::{
    net::Stream,
    relay::Why,
    ring::simulated::{Behaviour, Random, World},
    runtime::{JoinHandle, sleep, spawn, timeout},
};

/// Fast enough that what the relay may hold is gone before it gives up on it.
fn swift(_: &mut Random, behaviour: &mut Behaviour) {
    behaviour.latency = behaviour.latency.min(10_000);
}

/// The two ends of a path, that which resets first; and the reason that the relay then has.
fn sides(world: &World, client: Stream, origin: Stream) -> (Stream, Stream, Why) {
    if world.random().chance(50) {
        (client, origin, Why::DownstreamReset)
    } else {
        (origin, client, Why::UpstreamReset)
    }
}

fn reset(mut stream: Stream) {
    stream.reset_on_drop();
}

fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

fn plan(world: &World, (key, sends): (u64, u64), expects: u64) -> Plan {
    let mut random = world.random();
    Plan {
        key,
        sends,
        expects,
        pauses: random.pick(&[0, 0, 10]),
        pause_ms: 3,
        piece: random.scale(16 << 10),
        ends: Ends::Freely,
    }
}

#[test]
fn what_was_sent_before_a_reset_arrives_before_it() {
    simulate_with(swift, |world| async move {
        let Path { client, origin, relay } = path(&world, patient()).await;
        let (mut resets, reads, why) = sides(&world, client, origin);
        let mut random = world.random();
        let count = random.scale((world.stride() * 50).min(60 << 10));
        let reader = Plan { pauses: 0, ..plan(&world, (2, 0), 1) };
        let mut reader = Peer::new(reads, world.random(), reader);
        let reader = spawn(async move {
            let error = poll_fn(|cx| reader.poll_receiving(cx)).await.unwrap_err();
            (reader.received, error)
        });
        resets.send(bytes(1, 0, count as usize)).await.unwrap();
        resets.flush().await.unwrap();
        sleep(milliseconds(random.below(3))).await;
        reset(resets);
        let (received, error) = reader.await.unwrap();
        assert_eq!(received, count);
        assert!(is_reset(&error), "{error:?}");
        assert_eq!(relay.await.unwrap().why, why);
    });
}

#[test]
fn a_reset_is_passed_on_after_the_end_of_a_direction() {
    simulate(|world| async move {
        let Path { mut client, mut origin, relay } = path(&world, patient()).await;
        let mut random = world.random();
        if random.chance(50) {
            client.finish();
            assert!(origin.receive().await.unwrap().is_none());
        } else {
            origin.finish();
            assert!(client.receive().await.unwrap().is_none());
        }
        let (resets, mut stays, why) = sides(&world, client, origin);
        sleep(milliseconds(random.below(3))).await;
        let reset_at = world.now();
        reset(resets);
        poll_fn(|cx| stays.poll_broken(cx)).await;
        assert_eq!(relay.await.unwrap().why, why);
        assert!(world.now() - reset_at < 100_000_000, "it took {}", world.now() - reset_at);
    });
}

#[test]
fn a_reset_in_the_midst_of_traffic_ends_both_sides() {
    simulate(|world| async move {
        let Path { client, origin, relay } = path(&world, patient()).await;
        let (resets, stays, why) = sides(&world, client, origin);
        let mut random = world.random();
        let most = world.stride() * 200;
        let (out, back) = (random.scale(most), random.scale(most));
        let mut resets = Peer::new(resets, world.random(), plan(&world, (1, out), 2));
        let mut stays = Peer::new(stays, world.random(), plan(&world, (2, back), 1));
        let moment = milliseconds(random.scale(200));
        let other = spawn(async move {
            let result = stays.run().await;
            (result, stays.received)
        });
        let done = timeout(moment, resets.run()).await;
        reset(resets.stream);
        let ended = relay.await.unwrap();
        match done {
            Ok(result) => {
                result.unwrap();
                assert_eq!(ended.why, Why::Done);
                other.cancel().await;
            }
            Err(_) if ended.why == Why::Done => {
                other.cancel().await;
            }
            Err(_) => {
                assert_eq!(ended.why, why);
                match other.await.unwrap() {
                    // It had its end of both directions already.
                    (Ok(()), received) => assert_eq!(received, out),
                    (Err(error), received) => {
                        assert!(received <= out);
                        assert!(is_reset(&error), "{error:?}");
                    }
                }
            }
        }
    });
}

#[test]
fn failures_of_any_operation_end_the_connection_and_nothing_else() {
    simulate(|world| async move {
        let Path { client, origin, relay } = path(&world, patient()).await;
        let most = world.stride() * 200;
        let (up, down) = (world.random().scale(most), world.random().scale(most));
        let mut client = Peer::new(client, world.random(), plan(&world, (1, up), 2));
        let mut origin = Peer::new(origin, world.random(), plan(&world, (2, down), 1));
        world.behave(|behaviour| behaviour.fails = 3);
        let origin = spawn(async move { (origin.run().await.is_ok(), origin.received) });
        let client = spawn(async move { (client.run().await.is_ok(), client.received) });
        let (all_up, received) = origin.await.unwrap();
        let (all_down, answered) = client.await.unwrap();
        let ended = relay.await.unwrap();
        assert!(received <= up && answered <= down);
        if all_up && all_down && ended.why == Why::Done {
            assert_eq!((received, answered), (up, down));
            assert_eq!((ended.received, ended.sent), (up, down));
        }
    });
}

/// How the side that resets goes about it.
#[derive(Clone, Copy, Debug)]
struct Manner {
    sends: u64,
    /// Waits until what it sent has left.
    flushes: bool,
    /// Ends its direction first.
    ends_first: bool,
    /// Receives once before, so that some of the other side's bytes are taken.
    receives: bool,
    pause_ms: u64,
}

/// Sends, then resets. Gives how much it had sent, and when it reset.
async fn send_and_reset(world: World, mut stream: Stream, manner: Manner) -> (u64, u64) {
    let mut random = world.random();
    let mut sent = 0;
    while sent < manner.sends {
        let count = random.scale((manner.sends - sent).min(32 << 10));
        stream.send(bytes(1, sent, count as usize)).await.unwrap();
        sent += count;
    }
    if manner.ends_first {
        stream.finish();
    }
    if manner.flushes {
        stream.flush().await.unwrap();
    }
    if manner.receives {
        let _ = timeout(milliseconds(3), stream.receive()).await;
    }
    sleep(milliseconds(manner.pause_ms)).await;
    stream.reset_on_drop();
    (sent, world.now())
}

/// What the other side got to see.
struct Seen {
    received: u64,
    ended: bool,
    error: Option<io::Error>,
    at: u64,
}

/// Sends and receives until the connection is broken, and to the end of what can be received.
async fn observe(world: World, mut peer: Peer) -> Seen {
    let broken = poll_fn(|cx| match peer.poll(cx) {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending if peer.ended => peer.stream.poll_broken(cx).map(Ok),
        Poll::Pending => Poll::Pending,
    });
    let mut error = broken.await.err();
    while !peer.ended {
        match peer.stream.receive().await {
            Ok(Some(chunk)) => peer.check(&chunk),
            Ok(None) => peer.ended = true,
            Err(last) => {
                error = Some(last);
                break;
            }
        }
    }
    Seen { received: peer.received, ended: peer.ended, error, at: world.now() }
}

async fn resets_by(world: World, by_client: bool) {
    let Path { client, origin, relay } = path(&world, patient()).await;
    let (resets, other) = if by_client { (client, origin) } else { (origin, client) };
    let mut random = world.random();
    let most = world.stride() * 100;
    let manner = Manner {
        sends: if random.chance(10) { 0 } else { random.scale(most) },
        flushes: random.chance(70),
        ends_first: random.chance(30),
        receives: random.chance(50),
        pause_ms: random.below(5),
    };
    let plan = Plan {
        key: 2,
        sends: if random.chance(50) { 0 } else { random.scale(most) },
        expects: 1,
        pauses: 0,
        pause_ms: 1,
        piece: random.scale(64 << 10),
        ends: Ends::Never,
    };
    let observer: JoinHandle<Seen> =
        spawn(observe(world.clone(), Peer::new(other, world.random(), plan)));
    let (sent, reset_at) = send_and_reset(world.clone(), resets, manner).await;
    let seen = observer.await.unwrap();
    let why = relay.await.unwrap().why;
    let expected = if by_client { Why::DownstreamReset } else { Why::UpstreamReset };
    assert_eq!(why, expected, "{manner:?}");
    if seen.ended {
        assert!(manner.ends_first && seen.received == sent, "a reset became an end: {manner:?}");
    } else {
        let error = seen.error.unwrap();
        assert!(is_reset(&error), "{error}");
    }
    assert!(seen.received <= sent);
    if manner.flushes && seen.at - reset_at < 900 * MILLISECOND {
        assert_eq!(seen.received, sent, "bytes from before the reset are lost: {manner:?}");
    }
}

#[test]
fn a_reset_by_the_client_reaches_the_origin() {
    simulate(|world| resets_by(world, true));
}

#[test]
fn a_reset_by_the_origin_reaches_the_client() {
    simulate(|world| resets_by(world, false));
}

#[test]
fn a_reset_is_seen_while_the_other_side_takes_nothing() {
    let filled_soon = |random: &mut Random, behaviour: &mut Behaviour| {
        behaviour.small.1 = 4096;
        behaviour.window = random.pick(&[1, 8, 64]) << 10;
    };
    simulate_with(filled_soon, |world| async move {
        let Path { mut client, origin, relay } = path(&world, patient()).await;
        let relay = spawn({
            let world = world.clone();
            async move { (relay.await.unwrap().why, world.now()) }
        });
        // Fills everything on the way.
        let piece = || vec![0; 8 << 10];
        while timeout(milliseconds(500), client.send(piece())).await.is_ok_and(|sent| sent.is_ok())
        {
        }
        client.reset_on_drop();
        drop(client);
        let reset_at = world.now();
        let (why, ended_at) = relay.await.unwrap();
        assert_eq!(why, Why::DownstreamReset);
        // What waits for the origin has one second to leave.
        let took = ended_at - reset_at;
        assert!(took <= 1_050 * MILLISECOND, "{took} ns to pass on a reset");
        drop(origin);
    });
}
