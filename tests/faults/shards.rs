//! Shards that die and services that panic.

use std::{
    io::Read,
    net::TcpStream,
    sync::{Arc, Mutex, mpsc},
    thread,
};

use evenkeel::{Connection, accept::Balance, shard::Shard};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::stage::{
    NAME, assert_quiet, builder, client, echo_origin, eventually, exchange, listen, loads, start,
    to, try_exchange,
};

#[test]
fn a_dying_shard_loses_only_what_it_was_serving() {
    const DYING: usize = 1;
    let (proxy, address) = start(4, to(&[echo_origin()]));
    let proxy = &proxy;
    let failed: usize = thread::scope(|scope| {
        let burst: Vec<_> = (0..20)
            .map(|thread| {
                scope.spawn(move || {
                    if thread == 10 {
                        proxy.kill_shard(DYING);
                    }
                    let mut clients: Vec<TcpStream> = (0..10).map(|_| client(address)).collect();
                    let serve = |client: &mut TcpStream| try_exchange(client, b"x").is_err();
                    clients.iter_mut().map(serve).filter(|failed| *failed).count()
                })
            })
            .collect();
        burst.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let begun = proxy.registry().listener(NAME, DYING).connections.value() as usize;
    assert!(failed <= begun, "{failed} failed, of which the dead shard had begun {begun}");
    let served: u64 =
        (0..4).map(|shard| proxy.registry().listener(NAME, shard).connections.value()).sum();
    assert_eq!(served, 200, "each was begun once");
    eventually("the shard is gone", || proxy.registry().proxy().shards_failed.value() == 1);
    assert_quiet(proxy);
    assert!(proxy.ready().unwrap_err().contains("shard 1"));
    exchange(&mut client(address), b"still serving");
}

#[test]
fn a_service_that_panics_ends_its_own_connection_only() {
    let service = |_: &Shard| {
        async |mut connection: Connection| {
            while let Ok(Some(chunk)) = connection.receive().await {
                assert!(!chunk.starts_with(b"panic"), "as asked");
                if connection.send(chunk).await.is_err() {
                    return;
                }
            }
        }
    };
    let proxy = builder().shards(1).listener(listen().serve(service)).start().unwrap();
    let address = proxy.local_addr(NAME).unwrap();
    let mut bystander = client(address);
    exchange(&mut bystander, b"before");
    let mut victim = client(address);
    exchange(&mut victim, b"hello");
    std::io::Write::write_all(&mut victim, b"panic").unwrap();
    assert!(matches!(victim.read(&mut [0]), Ok(0) | Err(_)), "closed");
    exchange(&mut bystander, b"after");
    eventually("only the bystander counts", || loads(&proxy) == [1]);
    let cells = proxy.registry().shard(0);
    eventually("it is counted", || cells.tasks_panicked.value() == 1);
    proxy.ready().unwrap();
    drop(bystander);
    assert_quiet(&proxy);
}

#[test]
fn connections_for_a_shard_that_is_full_go_to_the_next_and_are_counted_once() {
    const INBOX: usize = 1024;
    const BEYOND: usize = 50;
    let connections = 2 * INBOX + BEYOND;
    raise_open_files(3 * connections as u64);
    let (release, held) = mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    let (says_held, is_held) = mpsc::channel();
    // Each connection of shard 0 keeps it from taking another until it is told.
    let service = move |shard: &Shard| {
        let (held, says_held) = (Arc::clone(&held), says_held.clone());
        let holds = shard.index() == 0;
        async move |mut connection: Connection| {
            if holds {
                let _ = says_held.send(());
                let _ = held.lock().unwrap().recv();
            }
            while let Ok(Some(_)) = connection.receive().await {}
        }
    };
    let proxy = builder().shards(2).balance(Balance::RoundRobin);
    let proxy = proxy.listener(listen().serve(service)).start().unwrap();
    // Let go before the proxy, which waits for its shards.
    let release = release;
    let address = proxy.local_addr(NAME).unwrap();
    // One for each shard, whichever is the first.
    let mut clients = vec![client(address), client(address)];
    is_held.recv().unwrap();
    clients.extend((2..connections).map(|_| client(address)));
    let accepts = proxy.registry().accept(NAME, 0);
    eventually("all are accepted", || accepts.accepts.value() as usize == connections);
    eventually("all are with a shard", || {
        loads(&proxy).iter().sum::<u32>() as usize == connections
    });
    // Taken by turns until one had no room; what came then is all with the other.
    let [full, other] = loads(&proxy)[..] else { panic!("two shards") };
    let redealt = proxy.registry().acceptor(0).handoffs_redealt.value();
    assert!(redealt > 0, "{full} and {other}");
    assert!(redealt.abs_diff(u64::from(other - full)) <= 1, "{redealt}: {full} and {other}");
    drop(release);
    drop(clients);
    assert_quiet(&proxy);
}

fn raise_open_files(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }).unwrap();
    }
}
