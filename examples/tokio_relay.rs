//! A byte relay on tokio shards: to EVENKEEL_UPSTREAM, or, without one, to where each connection was
//! going before iptables redirected it here.
//!
//! `EVENKEEL_UPSTREAM=127.0.0.1:8000 cargo run --release --features tokio --example tokio_relay`

use std::{env, io, net::SocketAddr, time::Duration};

use evenkeel::{
    Listener,
    shard::{Balanced, Shard},
    signal,
    tokio::Shards,
};
use tokio::{io::copy_bidirectional, net::TcpStream};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let variable = |name: &str, default: &str| env::var(name).unwrap_or(default.to_owned());
    let upstream: Option<SocketAddr> = match env::var("EVENKEEL_UPSTREAM") {
        Ok(address) => Some(address.parse()?),
        Err(_) => None,
    };
    let mut termination = signal::terminate()?;
    let mut listener = Listener::bind(&variable("EVENKEEL_LISTEN", "127.0.0.1:9011"))?;
    if upstream.is_none() {
        listener = listener.redirected();
    }
    let mut builder = Shards::builder()
        .listener(listener)
        .shards(variable("EVENKEEL_SHARDS", "0").parse()?)
        .balance(variable("EVENKEEL_BALANCE", "least-connections").parse()?);
    if let Ok(address) = env::var("EVENKEEL_ADMIN") {
        builder = builder.admin(address);
    }
    let proxy = builder.start(move |_: &Shard| {
        async move |client: Balanced<TcpStream>| relay(client, upstream).await
    })?;
    for listener in proxy.local_addrs() {
        println!("listening on {}", listener.address);
    }
    termination.wait();
    Ok(proxy.drain(Duration::from_secs(5)).report()?)
}

async fn relay(mut client: Balanced<TcpStream>, upstream: Option<SocketAddr>) -> io::Result<()> {
    // Without either, the client has connected to the relay itself.
    let Some(address) = upstream.or(client.original_destination()) else { return Ok(()) };
    let mut upstream = TcpStream::connect(address).await?;
    upstream.set_nodelay(true)?;
    copy_bidirectional(&mut client, &mut upstream).await?;
    Ok(())
}
