//! Shards that die and services that panic.

use std::{io::Read, net::TcpStream, thread};

use evenkeel::{Connection, shard::Shard};

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
