//! The relay through a whole proxy, over real sockets.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use evenkeel::{Builder, Drain, Limits, Listener, Proxy, Relay, accept::Balance};

use origin::{echo_origin, refusing_address};

#[path = "stage/kernel.rs"]
mod kernel;
#[path = "stage/origin.rs"]
mod origin;

/// A proxy that uses no more of io_uring than the kernel that EVENKEEL_KERNEL names.
fn builder() -> Builder {
    Proxy::builder().capabilities(kernel::capabilities())
}

fn relay_to(origin: SocketAddr) -> Listener {
    Listener::bind("127.0.0.1:0")
        .unwrap()
        .named("plain")
        .serve(Relay::to([origin.to_string()]).cluster("origin"))
}

fn proxy(shards: usize, balance: Balance) -> (Proxy, SocketAddr) {
    let builder = builder().shards(shards).balance(balance);
    let proxy = builder.listener(relay_to(echo_origin())).start().unwrap();
    let address = proxy.local_addr("plain").unwrap();
    (proxy, address)
}

fn exchange(stream: &mut TcpStream, message: &[u8]) {
    stream.write_all(message).unwrap();
    let mut answer = vec![0; message.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, message);
}

fn loads(proxy: &Proxy) -> Vec<u32> {
    proxy.shards().iter().map(|load| load.connections).collect()
}

/// Waits until a condition holds, for at most 20 s: a busy machine is no failure.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn connections_are_spread_evenly_and_counted_until_they_end() {
    let (proxy, address) = proxy(8, Balance::LeastConnections);
    let mut clients: Vec<_> = (0..64).map(|_| TcpStream::connect(address).unwrap()).collect();
    for client in &mut clients {
        exchange(client, b"hello");
    }
    assert_eq!(loads(&proxy), [8; 8]);
    proxy.ready().unwrap();
    drop(clients);
    eventually("all loads are zero", || loads(&proxy) == [0; 8]);
}

#[test]
fn several_acceptors_keep_the_spread() {
    let builder = builder().shards(8).acceptors(3);
    let proxy = builder.listener(relay_to(echo_origin())).start().unwrap();
    let address = proxy.local_addr("plain").unwrap();
    let mut clients: Vec<_> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    for client in &mut clients {
        exchange(client, b"hello");
    }
    let loads = loads(&proxy);
    assert_eq!(loads.iter().sum::<u32>(), 100);
    assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1, "{loads:?}");
}

#[test]
fn the_kernel_can_choose_the_shard() {
    let (proxy, address) = proxy(4, Balance::Kernel);
    let mut clients: Vec<_> = (0..40).map(|_| TcpStream::connect(address).unwrap()).collect();
    for client in &mut clients {
        exchange(client, b"hello");
    }
    assert_eq!(loads(&proxy).iter().sum::<u32>(), 40);
    drop(clients);
    eventually("all loads are zero", || loads(&proxy) == [0; 4]);
}

#[test]
fn a_killed_shard_is_taken_out_and_the_others_serve() {
    let (proxy, address) = proxy(3, Balance::LeastConnections);
    let mut clients: Vec<_> = (0..9).map(|_| TcpStream::connect(address).unwrap()).collect();
    clients.iter_mut().for_each(|client| exchange(client, b"before"));
    proxy.kill_shard(1);
    eventually("the proxy is not ready", || proxy.ready().is_err());
    assert!(proxy.ready().unwrap_err().contains("shard 1"));
    let mut more: Vec<_> = (0..8).map(|_| TcpStream::connect(address).unwrap()).collect();
    more.iter_mut().for_each(|client| exchange(client, b"after"));
    eventually("the dead shard carries nothing", || loads(&proxy)[1] == 0);
    assert_eq!(loads(&proxy).iter().sum::<u32>(), 6 + 8);
    assert_eq!(proxy.registry().proxy().shards_failed.value(), 1);
}

#[test]
fn connections_above_the_limit_are_closed_at_once() {
    let builder = builder().shards(2).limits(Limits::new(4, 0));
    let proxy = builder.listener(relay_to(echo_origin())).start().unwrap();
    let address = proxy.local_addr("plain").unwrap();
    let mut clients: Vec<_> = (0..4).map(|_| TcpStream::connect(address).unwrap()).collect();
    clients.iter_mut().for_each(|client| exchange(client, b"in"));
    let mut above = TcpStream::connect(address).unwrap();
    assert!(matches!(above.read(&mut [0]), Ok(0) | Err(_)), "closed");
    clients.pop();
    eventually("one has left", || loads(&proxy).iter().sum::<u32>() == 3);
    exchange(&mut TcpStream::connect(address).unwrap(), b"in again");
}

#[test]
fn a_refusing_origin_resets_the_client() {
    let proxy = builder().shards(1).listener(relay_to(refusing_address())).start().unwrap();
    let mut client = TcpStream::connect(proxy.local_addr("plain").unwrap()).unwrap();
    let error = client.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    eventually("the load is zero", || loads(&proxy) == [0]);
}

#[test]
fn a_drain_lets_connections_finish_and_cuts_the_rest() {
    let (proxy, address) = proxy(2, Balance::LeastConnections);
    let mut finishing = TcpStream::connect(address).unwrap();
    exchange(&mut finishing, b"hello");
    let mut staying = TcpStream::connect(address).unwrap();
    exchange(&mut staying, b"hello");
    let draining = thread::spawn(move || proxy.drain(Drain::within(Duration::from_millis(500))));
    thread::sleep(Duration::from_millis(150));
    assert!(TcpStream::connect_timeout(&address, Duration::from_millis(100)).is_err());
    exchange(&mut finishing, b"still served");
    drop(finishing);
    let drained = draining.join().unwrap();
    assert_eq!((drained.open, drained.cut), (2, 1));
    assert!(matches!(staying.read(&mut [0]), Ok(0) | Err(_)), "cut");
}

#[test]
fn a_reload_changes_the_origin_and_disturbs_nobody() {
    let (proxy, address) = proxy(2, Balance::LeastConnections);
    let mut old = TcpStream::connect(address).unwrap();
    exchange(&mut old, b"old");
    let greeter = TcpListener::bind("127.0.0.1:0").unwrap();
    let greeter_address = greeter.local_addr().unwrap();
    thread::spawn(move || {
        for stream in greeter.incoming() {
            let _ = stream.unwrap().write_all(b"welcome");
        }
    });
    // Port 0 is the socket that is there already.
    proxy.reload([relay_to(greeter_address)]).unwrap();
    let mut greeting = String::new();
    TcpStream::connect(address).unwrap().read_to_string(&mut greeting).unwrap();
    assert_eq!(greeting, "welcome");
    exchange(&mut old, b"old still");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = Listener::bind(&taken.local_addr().unwrap().to_string()).unwrap();
    let error = proxy.reload([taken.serve(Relay::to(["127.0.0.1:1"]))]).unwrap_err();
    assert!(error.to_string().contains("another socket listens there"), "{error}");
    let mut greeting = String::new();
    TcpStream::connect(address).unwrap().read_to_string(&mut greeting).unwrap();
    assert_eq!(greeting, "welcome", "a refused reload changes nothing");
}

#[test]
fn a_thousand_connections_at_once_are_served() {
    let (proxy, address) = proxy(4, Balance::LeastConnections);
    let mut clients: Vec<_> = (0..1000).map(|_| TcpStream::connect(address).unwrap()).collect();
    for client in &mut clients {
        client.write_all(b"x").unwrap();
    }
    for client in &mut clients {
        client.read_exact(&mut [0]).unwrap();
    }
    assert_eq!(loads(&proxy), [250; 4]);
    drop(clients);
    eventually("all loads are zero", || loads(&proxy) == [0; 4]);
}

#[cfg(feature = "http")]
mod to_a_cluster {
    use std::sync::Arc;

    use evenkeel::telemetry::CloseReason;
    use evenkeel::upstream::{
        cluster::Cluster,
        settings::{ClusterBuilder, ClusterSettings},
    };

    use super::*;

    fn settings(endpoints: &[&str]) -> ClusterBuilder {
        let builder = ClusterSettings::builder("named");
        endpoints.iter().fold(builder, |builder, endpoint| builder.endpoint(endpoint))
    }

    fn cluster(endpoints: &[&str]) -> Arc<Cluster> {
        Cluster::new(settings(endpoints).build().unwrap(), Instant::now(), 1)
    }

    fn relay_to(relay: Relay) -> Listener {
        Listener::bind("127.0.0.1:0").unwrap().named("plain").serve(relay)
    }

    /// Says its name to every connection.
    fn named(name: &'static str) -> SocketAddr {
        origin::origin(move |mut stream| {
            let _ = stream.write_all(name.as_bytes());
        })
    }

    fn who(address: SocketAddr) -> String {
        let mut said = String::new();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        // A connection that goes nowhere is reset.
        let _ = stream.read_to_string(&mut said);
        said
    }

    #[test]
    fn a_connection_goes_where_the_cluster_is_when_it_comes() {
        let (first, second) = (named("first"), named("second"));
        let host = format!("name.example:{}", first.port());
        let cluster = cluster(&[&host, &second.to_string()]);
        let relay = Relay::to_cluster(Arc::clone(&cluster));
        let proxy = builder().shards(2).listener(relay_to(relay)).start().unwrap();
        let address = proxy.local_addr("plain").unwrap();
        assert_eq!(who(address), "second", "the name has no address yet");
        let loopback = [first.ip()];
        cluster.set_addresses(&"name.example".into(), &loopback, Instant::now());
        assert_eq!(who(address), "first", "in their order");

        let id = cluster.snapshot().endpoints()[0].id();
        cluster.set_healthy(id, false, Instant::now());
        assert_eq!(who(address), "second", "what is unwell comes last");
        cluster.apply(settings(&[&host]).build().unwrap(), Instant::now());
        assert_eq!(who(address), "first", "and is better than nothing");
        cluster.set_addresses(&"name.example".into(), &[], Instant::now());
        assert_eq!(who(address), "", "nowhere to go");
        let closed = |reason| {
            let registry = proxy.registry();
            (0..2).map(|shard| registry.listener("plain", shard).closed.value(reason)).sum::<u64>()
        };
        eventually("it is counted", || closed(CloseReason::UpstreamFailed) == 1);
    }

    #[test]
    fn the_cluster_alone_says_how_connections_are_made() {
        let cluster = cluster(&["127.0.0.1:1"]);
        let relay = Relay::to_cluster(Arc::clone(&cluster)).source("127.0.0.1");
        let refused = builder().shards(1).listener(relay_to(relay)).start().unwrap_err();
        assert!(refused.to_string().contains("in its settings"), "{refused}");
        let seen = origin::origin(|mut stream| {
            let from = stream.peer_addr().unwrap().ip().to_string();
            let _ = stream.write_all(from.as_bytes());
        });
        let own = settings(&[&seen.to_string()]).source([127, 0, 0, 6].into());
        cluster.apply(own.build().unwrap(), Instant::now());
        let proxy =
            builder().shards(1).listener(relay_to(Relay::to_cluster(cluster))).start().unwrap();
        assert_eq!(who(proxy.local_addr("plain").unwrap()), "127.0.0.6");
    }
}
