//! An HTTP proxy with a filter: it lets in who has a key, and tells the upstream who that is.
//!
//! `cargo run --release --example http_filter -- 127.0.0.1:8080 127.0.0.1:80`, then
//! `curl -H 'x-key: sesame' http://127.0.0.1:8080/`

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use evenkeel::{
    Connection, Listener, Proxy,
    http::{self, Filter, Flow, RequestHead, Routes},
    shard::Shard,
    signal,
    upstream::{cluster::Cluster, settings::ClusterSettings},
};

/// Who has which key.
struct Keys(HashMap<&'static [u8], &'static str>);

impl Filter for Keys {
    type State = ();

    async fn request(&self, head: &mut RequestHead, _: &Connection, (): &mut ()) -> Flow {
        let key = head.headers().get("x-key");
        let Some(user) = key.and_then(|key| self.0.get(key)) else { return Flow::answer(401) };
        head.headers_mut().remove("x-key");
        match head.headers_mut().insert("x-user", user) {
            Ok(()) => Flow::Continue,
            Err(_) => Flow::answer(500),
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(upstream)) = (arguments.next(), arguments.next()) else {
        return Err("usage: http_filter LISTEN UPSTREAM (both ip:port)".into());
    };
    let mut termination = signal::terminate()?;
    let settings = ClusterSettings::builder("origin").endpoint(&upstream).build()?;
    let origin = Cluster::new(settings, Instant::now(), 0);
    let web = http::proxy(Routes::to(origin))
        .filter(|_: &Shard| Keys(HashMap::from([(&b"sesame"[..], "ali")])));
    let proxy = Proxy::builder().listener(Listener::bind(&listen)?.serve(web)).start()?;
    for listener in proxy.local_addrs() {
        println!("listening on {}", listener.address);
    }
    termination.wait();
    Ok(proxy.drain(Duration::from_secs(30)).report()?)
}
