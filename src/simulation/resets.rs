//! A reset on one side of a relay becomes a reset on the other, behind the bytes before it.

use std::{future::poll_fn, io};

use super::{
    Path, milliseconds, path, patient,
    peer::{Ends, Peer, Plan},
    simulate, simulate_with,
};
use crate::{
    net::Stream,
    relay::Why,
    ring::simulated::{Behaviour, Random, World},
    runtime::{sleep, spawn, timeout},
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
        resets.send(super::peer::bytes(1, 0, count as usize)).await.unwrap();
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
