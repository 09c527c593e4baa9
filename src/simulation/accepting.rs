//! Accepted connections are taken, left in the socket's queue, or closed; never lost.

use std::{cell::Cell, collections::BTreeSet, rc::Rc};

use super::{PROXY, milliseconds, simulate, simulate_with};
use crate::{
    net::{Accepting, Stream},
    ring::simulated::World,
    runtime::{JoinHandle, sleep, spawn, timeout, yield_now},
};

/// Clients that connect at random times, send who they are, and wait for the end.
fn clients(world: &World, count: u8) -> Vec<JoinHandle<()>> {
    let mut random = world.random();
    let client = |id| {
        let after = milliseconds(random.below(20));
        spawn(async move {
            sleep(after).await;
            let mut stream = Stream::connect(PROXY.into()).await.unwrap();
            // It fails where the connection was aborted.
            if stream.send(vec![id]).await.is_ok() {
                let _ = stream.receive().await;
            }
        })
    };
    (0..count).map(client).collect()
}

/// Who is at the other end; `None` where the connection is broken.
async fn identify(fd: std::os::fd::OwnedFd) -> Option<u8> {
    let chunk = Stream::adopt(fd).receive().await.ok()??;
    chunk.first().copied()
}

#[test]
fn a_dropped_accept_loses_no_connection() {
    let failing = |random: &mut crate::ring::simulated::Random,
                   behaviour: &mut crate::ring::simulated::Behaviour| {
        behaviour.accept_fails = random.pick(&[0, 20]);
    };
    simulate_with(failing, |world| async move {
        const CLIENTS: u8 = 40;
        let listener = Accepting::adopt(world.listen(PROXY.into()));
        let clients = clients(&world, CLIENTS);
        let mut random = world.random();
        let (mut accepted, mut aborted) = (BTreeSet::new(), 0);
        let mut connections = Vec::new();
        while connections.len() + aborted < usize::from(CLIENTS) {
            let Ok(result) = timeout(milliseconds(random.below(3)), listener.accept()).await else {
                continue;
            };
            match result {
                Ok(fd) => connections.push(fd),
                Err(error) if error.raw_os_error() == Some(libc::ECONNABORTED) => aborted += 1,
                // Out of descriptors: whoever is in the queue stays there.
                Err(_) => sleep(milliseconds(1)).await,
            }
        }
        for fd in connections {
            let id = identify(fd).await.expect("a whole connection");
            assert!(accepted.insert(id), "{id} was accepted twice");
        }
        assert_eq!(accepted.len() + aborted, usize::from(CLIENTS));
        for client in clients {
            client.await.unwrap();
        }
    });
}

#[test]
fn stopping_leaves_every_connection_taken_or_queued() {
    simulate(|world| async move {
        const CLIENTS: u8 = 12;
        let listener = Rc::new(Accepting::adopt(world.listen(PROXY.into())));
        let clients = clients(&world, CLIENTS);
        let mut random = world.random();
        let mut connections = Vec::new();
        let until = world.now() + random.below(25_000_000);
        while world.now() < until {
            if let Ok(accepted) = timeout(milliseconds(1), listener.accept()).await {
                connections.push(accepted.unwrap());
            }
        }
        listener.stop().await;
        connections.extend(std::iter::from_fn(|| listener.take()).map(Result::unwrap));
        sleep(milliseconds(60)).await;
        assert!(listener.take().is_none(), "nothing is accepted after a stop");
        // The rest waits in the socket's queue.
        while connections.len() < usize::from(CLIENTS) {
            connections.push(listener.accept().await.unwrap());
        }
        let mut ids = BTreeSet::new();
        for fd in connections {
            ids.insert(identify(fd).await.expect("a whole connection"));
        }
        assert_eq!(ids.len(), usize::from(CLIENTS));
        for client in clients {
            client.await.unwrap();
        }
    });
}

#[test]
fn a_connection_accepted_too_late_is_closed() {
    simulate(|world| async move {
        let listener = Accepting::adopt(world.listen(PROXY.into()));
        // Arms the accept.
        assert!(timeout(milliseconds(1), listener.accept()).await.is_err());
        let ended = Rc::new(Cell::new(false));
        let client = spawn({
            let ended = Rc::clone(&ended);
            async move {
                if let Ok(mut stream) = Stream::connect(PROXY.into()).await {
                    let received = stream.receive().await;
                    assert!(!matches!(received, Ok(Some(_))));
                }
                ended.set(true);
            }
        });
        yield_now().await;
        world.hold_back(true);
        // The accept completes, perhaps with the connect, and is not seen to.
        sleep(milliseconds(10)).await;
        drop(listener);
        world.hold_back(false);
        client.await.unwrap();
        assert!(ended.get());
    });
}
