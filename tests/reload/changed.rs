//! What a reload changes, and what it refuses to.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
};

use evenkeel::{Limits, Listener, Proxy, Relay, Reload, accept::Balance, shard::ShardLoad};

use crate::stage::{
    address, eventually, greeting, listener, loads, origin, relay, two_shards, visit,
};

#[test]
fn limits() {
    let builder = two_shards();
    let web = listener("web").serve(relay(origin("hello")));
    let proxy = builder.limits(Limits::new(1, 0)).listener(web).start().unwrap();
    check_limits(&proxy);
}

#[test]
fn limits_where_the_kernel_chooses() {
    let builder = two_shards();
    let web = listener("web").serve(relay(origin("hello")));
    let builder = builder.shards(1).balance(Balance::Kernel).limits(Limits::new(1, 0));
    check_limits(&builder.listener(web).start().unwrap());
}

/// Of a proxy that is limited to one connection.
fn check_limits(proxy: &Proxy) {
    let web = address(proxy, "web");
    let mut inside = vec![visit(web).unwrap()];
    assert!(visit(web).is_none(), "above the first limit");
    proxy.reload(Reload::new().limits(Limits::new(2, 0))).unwrap();
    inside.push(visit(web).unwrap());
    assert!(visit(web).is_none(), "above the raised limit");
    // Those that are open stay.
    proxy.reload(Reload::new().limits(Limits::new(1, 0))).unwrap();
    assert_eq!(loads(proxy).iter().sum::<u32>(), 2);
    inside.pop();
    eventually("one has left", || loads(proxy).iter().sum::<u32>() == 1);
    assert!(visit(web).is_none(), "above the lowered limit");
    let per_shard = Limits::new(0, if proxy.shards().len() == 2 { 1 } else { 2 });
    proxy.reload(Reload::new().limits(per_shard)).unwrap();
    inside.push(visit(web).unwrap());
    assert!(visit(web).is_none(), "above the limit of each shard");
    proxy.reload(Reload::new().limits(Limits::default())).unwrap();
    inside.push(visit(web).unwrap());
}

#[test]
fn listeners_alone_leave_the_limits() {
    let builder = two_shards();
    let web = listener("web").serve(relay(origin("old")));
    let proxy = builder.limits(Limits::new(1, 0)).listener(web).start().unwrap();
    proxy.reload([listener("web").serve(relay(origin("new")))]).unwrap();
    let inside = visit(address(&proxy, "web")).unwrap();
    assert_eq!(inside.1, "new");
    assert!(visit(address(&proxy, "web")).is_none());
}

#[test]
fn the_balance() {
    let builder = two_shards();
    let all_on = |shard: usize| Balance::custom(move || move |_: &[ShardLoad]| Some(shard));
    let web = listener("web").serve(relay(origin("hello")));
    let proxy = builder.balance(all_on(0)).acceptors(2).listener(web).start().unwrap();
    let web = address(&proxy, "web");
    let mut inside: Vec<_> = (0..8).map(|_| visit(web).unwrap()).collect();
    assert_eq!(loads(&proxy), [8, 0]);
    proxy.reload(Reload::new().balance(all_on(1))).unwrap();
    inside.extend((0..4).map(|_| visit(web).unwrap()));
    assert_eq!(loads(&proxy), [8, 4]);
    // Listeners alone leave it.
    proxy.reload([listener("web").serve(relay(origin("hello")))]).unwrap();
    inside.extend((0..2).map(|_| visit(web).unwrap()));
    assert_eq!(loads(&proxy), [8, 6]);
    proxy.reload(Reload::new().balance(Balance::LeastConnections)).unwrap();
    inside.extend((0..6).map(|_| visit(web).unwrap()));
    assert_eq!(loads(&proxy), [10, 10]);

    let panics = || -> fn(&[ShardLoad]) -> Option<usize> { panic!("on purpose") };
    proxy.reload(Reload::new().balance(Balance::custom(panics))).unwrap();
    inside.extend((0..2).map(|_| visit(web).unwrap()));
    assert_eq!(loads(&proxy), [11, 11], "the one of before stays");

    let error = proxy.reload(Reload::new().balance(Balance::Kernel)).unwrap_err();
    assert!(error.to_string().contains("`kernel`"), "{error}");
}

/// The first line of the answer to a GET.
fn status(server: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(server).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn where_telemetry_is() {
    let builder = two_shards();
    let web = listener("web").serve(relay(origin("hello")));
    let proxy = builder
        .listener(web)
        .admin("127.0.0.1:0")
        .get("/own", |_| evenkeel::admin::Response::text(200, "own"))
        .start()
        .unwrap();
    assert!(proxy.telemetry_addrs().is_empty());
    proxy.reload(Reload::new().telemetry(["127.0.0.1:0"])).unwrap();
    let first = proxy.telemetry_addrs()[0];
    assert_eq!(status(first, "/ready"), "HTTP/1.1 200 OK");
    assert_eq!(status(first, "/own"), "HTTP/1.1 404 Not Found");
    assert_eq!(status(proxy.admin_addrs()[0], "/own"), "HTTP/1.1 200 OK");
    // The same again is no change, although any port fits.
    proxy.reload(Reload::new().telemetry(["127.0.0.1:0"])).unwrap();
    assert_eq!(proxy.telemetry_addrs(), [first]);
    proxy.reload(Reload::new().telemetry(["127.0.0.2:0"])).unwrap();
    let second = proxy.telemetry_addrs()[0];
    assert_eq!(status(second, "/ready"), "HTTP/1.1 200 OK");
    assert!(TcpStream::connect(first).is_err(), "the old one is closed");
    proxy.reload(Reload::new().telemetry::<String>([])).unwrap();
    assert!(TcpStream::connect(second).is_err(), "telemetry is off");
}

#[test]
fn all_or_nothing() {
    let builder = two_shards();
    let web = |text| listener("web").serve(relay(origin(text)));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let unbindable = || Listener::bind(&taken).unwrap().serve(Relay::to(["127.0.0.1:1"]));
    let proxy = builder
        .limits(Limits::new(1, 0))
        .telemetry("127.0.0.1:0")
        .listener(web("old"))
        .start()
        .unwrap();
    let telemetry = proxy.telemetry_addrs();
    let change = || Reload::new().limits(Limits::new(2, 0)).balance(Balance::RoundRobin);
    for (refused, why) in [
        (change().listeners([web("new")]).telemetry([taken.clone()]), taken.as_str()),
        (change().listeners([web("new")]).telemetry(["here"]), "no ip:port"),
        (change().listeners([web("new"), unbindable()]).telemetry(["127.0.0.2:0"]), &taken),
        (change().listeners([web("new"), web("new")]).telemetry(["127.0.0.2:0"]), "called"),
        (change().listeners([web("new")]).balance(Balance::Kernel), "`kernel`"),
    ] {
        let error = proxy.reload(refused).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        let inside = visit(address(&proxy, "web")).unwrap();
        assert_eq!(inside.1, "old", "{why}");
        assert!(visit(address(&proxy, "web")).is_none(), "limits as before: {why}");
        assert_eq!(proxy.telemetry_addrs(), telemetry);
        assert_eq!(status(telemetry[0], "/ready"), "HTTP/1.1 200 OK");
        drop(inside);
        eventually("it is gone", || loads(&proxy) == [0, 0]);
    }
    proxy.reload(change().listeners([web("new")]).telemetry(["127.0.0.2:0"])).unwrap();
    assert_eq!(greeting(address(&proxy, "web")).unwrap(), "new");
    assert_ne!(proxy.telemetry_addrs(), telemetry);
}
