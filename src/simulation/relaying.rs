//! The relay carries every byte both ways, whatever the kernel does in between.

use super::{
    Path, path, patient,
    peer::{Ends, Peer, Plan},
    simulate,
};
use crate::{relay::Why, ring::simulated::World, runtime::spawn};

/// A plan for one side, out of the seed; volumes that take a fair time.
fn plan(world: &World, key: u64, expects: u64) -> Plan {
    let mut random = world.random();
    let most = world.stride() * 400;
    Plan {
        key,
        sends: if random.chance(10) { 0 } else { random.scale(most) },
        expects,
        pauses: random.pick(&[0, 0, 1, 10]),
        pause_ms: 50,
        piece: random.scale(64 << 10),
        ends: Ends::Freely,
    }
}

#[test]
fn every_byte_arrives_both_ways() {
    simulate(|world| async move {
        let Path { client, origin, relay } = path(&world, patient()).await;
        let (up, down) = (plan(&world, 1, 2), plan(&world, 2, 1));
        let (mut up, mut down) = (up, down);
        // At most one of them waits for the other.
        match world.random().below(3) {
            0 => up.ends = Ends::Last,
            1 => down.ends = Ends::Last,
            _ => {}
        }
        let (sent, answered) = (up.sends, down.sends);
        let mut client = Peer::new(client, world.random(), up);
        let mut origin = Peer::new(origin, world.random(), down);
        let origin = spawn(async move {
            origin.run().await.unwrap();
            origin.received
        });
        client.run().await.unwrap();
        assert_eq!(client.received, answered);
        assert_eq!(origin.await.unwrap(), sent);
        let ended = relay.await.unwrap();
        assert_eq!((ended.why, ended.received, ended.sent), (Why::Done, sent, answered));
    });
}
