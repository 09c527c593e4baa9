//! tokio shards.

use std::{io::Write, thread, time::Duration};

use evenkeel::{
    Error, Proxy,
    shard::{Balanced, Shard},
    tokio::Shards,
};
use futures_lite::future::poll_once;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional, split},
    net::TcpStream,
    task::spawn_local,
};

use crate::stage::{
    Config, Counts, Running, eventually, every_guest, exchange, has_ended, run, whence,
};

every_guest!(start);

fn start(config: Config) -> Result<Proxy, Error> {
    config.builder(Shards::builder()).start(|_: &Shard| serve)
}

async fn serve(mut connection: Balanced<TcpStream>) -> std::io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        let length = connection.read(&mut buffer).await?;
        let answer = match &buffer[..length] {
            b"" => return Ok(()),
            b"panic" => panic!("asked for"),
            b"whence" => whence(&connection).into_bytes(),
            b"work" => {
                while poll_once(connection.read(&mut [0])).await.is_none() {
                    tokio::task::yield_now().await;
                }
                return Ok(());
            }
            other => other.to_vec(),
        };
        connection.write_all(&answer).await?;
    }
}

#[test]
fn a_connection_counts_wherever_it_goes() {
    let start = |config: Config| {
        config.builder(Shards::builder()).start(|_: &Shard| {
            async |mut connection: Balanced<TcpStream>| {
                let mut what = [0; 5];
                connection.read_exact(&mut what).await.unwrap();
                match &what {
                    // To a task of its own, which is cancelled.
                    b"abort" => {
                        let task = spawn_local(async move {
                            connection.write_all(b"begun").await.unwrap();
                            connection.read_u8().await
                        });
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        task.abort();
                    }
                    // To another thread, where it ends.
                    b"leave" => {
                        drop(tokio::task::spawn_blocking(move || {
                            thread::sleep(Duration::from_millis(100));
                            drop(connection);
                        }));
                    }
                    // Its halves end one after the other.
                    b"split" => {
                        let (from, to) = split(connection);
                        drop(from);
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        drop(to);
                    }
                    // Taken apart: what is carried counts.
                    b"parts" => {
                        let (stream, carried) = connection.into_parts();
                        drop(stream);
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        drop(carried);
                    }
                    // Given up at an await.
                    _ => {
                        let read = connection.read_u8();
                        let timeout = tokio::time::timeout(Duration::from_millis(100), read);
                        assert!(timeout.await.is_err());
                    }
                }
            }
        })
    };
    let running = run(start, Config::shards(1));
    for (ended, what) in (1..).zip(["abort", "leave", "split", "parts", "other"]) {
        let mut client = running.connect();
        client.write_all(what.as_bytes()).unwrap();
        eventually("it is read", || running.counts().bytes == ended * 5);
        assert_eq!(running.loads(), [1], "{what}");
        running.until_loads_are(&[0]);
        let Counts { active, done, .. } = running.counts();
        assert_eq!((active, done), (0, ended), "{what}");
        drop(client);
    }
    assert_eq!(running.panics(), 0);
}

#[test]
fn a_shard_tells_its_connections_to_finish() {
    let start = |config: Config| {
        config.builder(Shards::builder()).start(|shard: &Shard| {
            let shard = shard.clone();
            async move |mut connection: Balanced<TcpStream>| {
                connection.write_all(b"hello").await.unwrap();
                shard.draining().await;
                connection.write_all(b"goodbye").await.unwrap();
            }
        })
    };
    let running = run(start, Config::shards(2));
    let mut clients: Vec<_> = (0..4).map(|_| running.connect()).collect();
    assert!(clients.iter_mut().all(|client| exchange(client, "") == "hello"));
    let drained = running.proxy.drain(Duration::from_secs(20));
    assert_eq!(drained.cut, 0, "they have all finished");
    assert!(clients.iter_mut().all(|client| exchange(client, "") == "goodbye"));
    assert!(clients.iter_mut().all(has_ended));
}

#[test]
fn a_relay_carries_what_is_redirected_to_where_it_was_going() {
    let test = "on_tokio::a_relay_carries_what_is_redirected_to_where_it_was_going";
    crate::redirected::carries_it_there(test, |config| {
        config.builder(Shards::builder()).start(|_: &Shard| {
            async |mut client: Balanced<TcpStream>| {
                let Some(address) = client.original_destination() else { return Ok((0, 0)) };
                let mut upstream = TcpStream::connect(address).await?;
                copy_bidirectional(&mut client, &mut upstream).await
            }
        })
    });
}

#[test]
fn a_relay_is_copy_bidirectional() {
    let origin = run(start, Config::shards(1));
    let upstream = origin.address;
    let proxy = Config::shards(2).builder(Shards::builder()).start(move |_: &Shard| {
        async move |mut client: Balanced<TcpStream>| {
            let mut upstream = TcpStream::connect(upstream).await?;
            copy_bidirectional(&mut client, &mut upstream).await
        }
    });
    let relay = Running {
        address: proxy.as_ref().unwrap().local_addr("front").unwrap(),
        proxy: proxy.unwrap(),
    };
    let client = relay.connect_and_exchange();
    assert_eq!(relay.counts().bytes, 5);
    drop(client);
    relay.until_loads_are(&[0, 0]);
    origin.until_loads_are(&[0]);
}
