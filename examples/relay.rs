//! A TCP relay: every connection to LISTEN goes to UPSTREAM, evenly over the cores, until Ctrl-C.
//!
//! `cargo run --release --example relay -- 127.0.0.1:8080 127.0.0.1:80`

use std::time::Duration;

use evenkeel::{Listener, Proxy, Relay, signal};

fn main() -> evenkeel::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(upstream), None) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        eprintln!("usage: relay LISTEN UPSTREAM (both ip:port)");
        std::process::exit(2);
    };
    let mut termination = signal::terminate()?;
    let listener = Listener::bind(&listen)?.serve(Relay::to([upstream]));
    let proxy = Proxy::builder().listener(listener).start()?;
    for listener in proxy.local_addrs() {
        println!("listening on {}", listener.address);
    }
    termination.wait();
    proxy.drain(Duration::from_secs(30)).report()
}
