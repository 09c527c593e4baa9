//! An axum service on tokio shards: connections come evenly, and stay on their core.
//!
//! `EVENKEEL_LISTEN=127.0.0.1:9011 cargo run --release --features tokio --example tokio_axum`

use std::env;

use axum::{Router, routing::get};
use evenkeel::{
    Listener,
    shard::{Balanced, Shard},
    signal,
    tokio::Shards,
};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::net::TcpStream;

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
    let proxy = builder.start(|shard: &Shard| {
        let greeting = format!("hello from shard {}\n", shard.index());
        let router = Router::new().route("/", get(async move || greeting));
        let (service, shard) = (TowerToHyperService::new(router), shard.clone());
        async move |connection: Balanced<TcpStream>| {
            let serve =
                http1::Builder::new().serve_connection(TokioIo::new(connection), service.clone());
            let mut serve = std::pin::pin!(serve);
            tokio::select! {
                served = serve.as_mut() => return served,
                () = shard.draining() => serve.as_mut().graceful_shutdown(),
            }
            serve.await
        }
    })?;
    for listener in proxy.local_addrs() {
        println!("listening on {}", listener.address);
    }
    termination.wait();
    Ok(proxy.drain(std::time::Duration::from_secs(5)).report()?)
}
