//! HTTP by hyper on our own shards, with no tokio runtime: a connection is a `PollStream`, which is all that hyper
//! asks for. With `tls::terminate` around the service it is HTTPS.
//!
//! `cargo run --release --features tokio --example hyper -- 127.0.0.1:8080`

use std::{convert::Infallible, error::Error, pin::pin, time::Duration};

use evenkeel::{Connection, Listener, Proxy, net::PollStream, shard::Shard, signal};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: hyper LISTEN (ip:port)");
        std::process::exit(2);
    };
    let mut termination = signal::terminate()?;
    let service = |shard: &Shard| {
        let shard = shard.clone();
        async move |connection: Connection| {
            let index = shard.index();
            let answer = service_fn(move |request: Request<Incoming>| async move {
                let text = format!("hello from shard {index}, for {}\n", request.uri().path());
                Ok::<_, Infallible>(Response::new(text))
            });
            let stream = TokioIo::new(PollStream::new(connection));
            let mut serve = pin!(http1::Builder::new().serve_connection(stream, answer));
            let served = tokio::select! {
                served = serve.as_mut() => served,
                () = shard.draining() => {
                    serve.as_mut().graceful_shutdown();
                    serve.await
                }
            };
            if let Err(error) = served {
                eprintln!("a connection has failed: {error}");
            }
        }
    };
    let proxy = Proxy::builder().listener(Listener::bind(&listen)?.serve(service)).start()?;
    for listener in proxy.local_addrs() {
        println!("listening on {}", listener.address);
    }
    termination.wait();
    Ok(proxy.drain(Duration::from_secs(5)).report()?)
}
