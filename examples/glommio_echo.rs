//! An echo service on glommio shards.
//!
//! `EVENKEEL_LISTEN=127.0.0.1:9011 cargo run --release --features glommio --example glommio_echo`

use std::{env, time::Duration};

use evenkeel::{
    Listener,
    glommio::Shards,
    shard::{Balanced, Shard},
    signal,
};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::TcpStream;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let variable = |name: &str, default: &str| env::var(name).unwrap_or(default.to_owned());
    let mut termination = signal::terminate()?;
    let mut builder = Shards::builder()
        .listener(Listener::bind(&variable("EVENKEEL_LISTEN", "127.0.0.1:9011"))?)
        .shards(variable("EVENKEEL_SHARDS", "0").parse()?)
        .balance(variable("EVENKEEL_BALANCE", "least-connections").parse()?);
    if let Ok(address) = env::var("EVENKEEL_ADMIN") {
        builder = builder.admin(address);
    }
    let proxy = builder.start(|_: &Shard| {
        async |mut connection: Balanced<TcpStream>| {
            let mut buffer = vec![0; 4096];
            loop {
                match connection.read(&mut buffer).await? {
                    0 => return connection.close().await,
                    length => connection.write_all(&buffer[..length]).await?,
                }
            }
        }
    })?;
    for listener in proxy.local_addrs() {
        println!("listening on {}", listener.address);
    }
    termination.wait();
    Ok(proxy.drain(Duration::from_secs(5)).report()?)
}
