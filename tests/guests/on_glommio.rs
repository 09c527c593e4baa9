//! glommio shards.

use std::{cell::RefCell, rc::Rc};

use evenkeel::{
    Error, Proxy,
    glommio::Shards,
    shard::{Balanced, Shard},
};
use futures_lite::{AsyncReadExt, AsyncWriteExt, future::poll_once};
use glommio::{Latency, Shares, executor, net::TcpStream, spawn_local_into};

use crate::{
    driver::has_io_uring,
    stage::{Config, every_guest, run, whence},
};

every_guest!(start, has_io_uring);

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
                    executor().yield_now().await;
                }
                return Ok(());
            }
            other => other.to_vec(),
        };
        connection.write_all(&answer).await?;
    }
}

#[test]
fn connections_may_be_served_in_task_queues_of_the_services_own() {
    if !has_io_uring("on_glommio::connections_may_be_served_in_task_queues_of_the_services_own") {
        return;
    }
    let start = |config: Config| {
        config.builder(Shards::builder()).start(|_: &Shard| {
            let queue = executor().create_task_queue(
                Shares::Static(100),
                Latency::NotImportant,
                "connections",
            );
            let tasks = Rc::new(RefCell::new(Vec::new()));
            async move |connection: Balanced<TcpStream>| {
                let task = spawn_local_into(serve(connection), queue).unwrap();
                tasks.borrow_mut().push(task);
            }
        })
    };
    let running = run(start, Config::shards(2));
    let clients: Vec<_> = (0..4).map(|_| running.connect_and_exchange()).collect();
    assert_eq!(running.loads(), [2, 2]);
    drop(clients);
    running.until_loads_are(&[0, 0]);
}
