//! What a reload leaves as it is: ports, and the connections that count under a limit.

use std::os::fd::BorrowedFd;

use evenkeel::{Listener, Relay, original_dst::Destination};

use crate::stage::{
    address, eventually, greeting, listener, loads, origin, relay, two_shards, visit,
};

#[test]
fn listeners_on_port_0_keep_their_ports_by_name() {
    let builder = two_shards();
    let names = ["a", "b", "c", "d"];
    let origins = names.map(origin);
    let of = |name: &str| {
        let place = names.iter().position(|other| *other == name).unwrap();
        listener(name).serve(relay(origins[place]))
    };
    let proxy = ["a", "b", "c"].into_iter().fold(builder, |b, name| b.listener(of(name)));
    let proxy = proxy.start().unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| address(&proxy, name));
    for order in [["a", "b", "c"], ["c", "a", "b"], ["b", "a", "c"]] {
        proxy.reload(order.map(of)).unwrap();
        assert_eq!(["a", "b", "c"].map(|name| address(&proxy, name)), [a, b, c], "{order:?}");
        assert_eq!([a, b, c].map(|address| greeting(address).unwrap()), ["a", "b", "c"]);
    }
    // One more does not take a port that has an owner; one instead of another has the one that is left.
    proxy.reload(["d", "c", "b", "a"].map(of)).unwrap();
    assert_eq!(["a", "b", "c"].map(|name| address(&proxy, name)), [a, b, c]);
    proxy.reload(["c", "b", "a"].map(of)).unwrap();
    proxy.reload(["d", "c", "a"].map(of)).unwrap();
    assert_eq!(["a", "d", "c"].map(|name| address(&proxy, name)), [a, b, c]);
    assert_eq!(greeting(b).unwrap(), "d");
}

#[test]
fn connections_under_the_limit_of_a_listener() {
    let builder = two_shards();
    let origin = origin("hello");
    let web = |max| listener("web").max_connections(max).serve(relay(origin));
    let proxy = builder.acceptors(2).listener(web(2)).start().unwrap();
    let web_address = address(&proxy, "web");
    let mut inside = vec![visit(web_address).unwrap(), visit(web_address).unwrap()];
    for max in [2, 1, 2] {
        proxy.reload([web(max)]).unwrap();
        assert!(visit(web_address).is_none(), "two are in, of {max}");
    }
    proxy.reload([web(3)]).unwrap();
    inside.push(visit(web_address).unwrap());
    assert!(visit(web_address).is_none(), "three are in");
    // Away and back.
    proxy.reload([web(0)]).unwrap();
    proxy.reload([web(3)]).unwrap();
    assert!(visit(web_address).is_none(), "three are in still");
    inside.pop();
    eventually("one has left", || loads(&proxy).iter().sum::<u32>() == 2);
    inside.push(visit(web_address).unwrap());
}

#[test]
fn connections_under_the_limit_of_a_destination() {
    let builder = two_shards();
    let origin = origin("hello");
    let redirected = |_: BorrowedFd<'_>| Ok(Destination::Redirected(([192, 0, 2, 1], 80).into()));
    let outbound = |name: &str, max| -> Listener {
        listener(name)
            .original_destination(redirected)
            .named_destination("web", "*:80", max, relay(origin))
            .fallback(Relay::to_original_destination())
    };
    let proxy = builder.listener(outbound("outbound", 1)).start().unwrap();
    let address = address(&proxy, "outbound");
    let mut inside = vec![visit(address).unwrap()];
    assert!(visit(address).is_none());
    proxy.reload([outbound("outbound", 1)]).unwrap();
    assert!(visit(address).is_none(), "one is in");
    proxy.reload([outbound("outbound", 2)]).unwrap();
    inside.push(visit(address).unwrap());
    // Under a listener of another name it is the same destination.
    proxy.reload([outbound("egress", 2)]).unwrap();
    assert!(visit(address).is_none(), "two are in");
}
