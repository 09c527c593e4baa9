//! What is redirected arrives where it was going, byte for byte in both directions.

use std::net::TcpStream;

use evenkeel::{Listener, Proxy, Relay, telemetry::LookupResult};

use crate::{
    netns::{DIVERT, IP, IPTABLES, NFT, Namespace, TPROXY, as_an_ordinary_user, isolated},
    stage::{
        MARK, at_rest, client_and_pod, connected, dial, first_line, loads, lookups, reached, serve,
        served, server_behind, start, visit,
    },
};

/// An outbound listener that forwards all to where it was going.
fn outbound(bind: &str) -> Listener {
    let listener = Listener::bind(bind).unwrap().named("outbound").redirected();
    listener.fallback(Relay::to_original_destination().mark(MARK))
}

/// Connections that are made in the pod come to port 15001, but for those with the proxy's mark.
fn redirect_outbound(pod: &Namespace) {
    for iptables in ["iptables", "ip6tables"] {
        pod.command(&format!(
            "{iptables} -w -t nat -A OUTPUT -p tcp -m mark ! --mark {MARK} \
             -j REDIRECT --to-ports 15001"
        ));
    }
}

/// Visits 10.77.0.2 or fd77::2 from the pod; the proxy must have carried it.
fn goes_out_through(proxy: &Proxy, pod: &Namespace, destinations: &[&str]) {
    for destination in destinations {
        let from = if destination.starts_with('[') { "fd77::1" } else { "10.77.0.1" };
        assert_eq!(visit(pod, destination), reached(destination, from));
    }
    let visits = destinations.len() as u64;
    assert_eq!(lookups(proxy, "outbound", LookupResult::Redirected), visits);
    assert_eq!(served(proxy, "outbound"), visits);
    assert_eq!(connected(proxy, "passthrough"), visits);
    at_rest(proxy, &["outbound"], &["passthrough"]);
}

/// An IPv4 connection comes to `[::]` with IPv4-mapped addresses. The mark alone stops the proxy's own connections from
/// coming back to it.
#[test]
fn outbound_by_iptables() {
    isolated("carried::outbound_by_iptables", &[IP, IPTABLES], || {
        let (v4, v6) = ("10.77.0.2:8080", "[fd77::2]:8080");
        for (bind, destinations) in [
            ("127.0.0.1:15001", &[v4][..]),
            ("0.0.0.0:15001", &[v4]),
            ("[::1]:15001", &[v6]),
            ("[::]:15001", &[v4, v6]),
        ] {
            let (peer, pod) = client_and_pod();
            serve(&peer, 8080);
            redirect_outbound(&pod);
            let proxy = start(&pod, Proxy::builder().shards(2).listener(outbound(bind)));
            goes_out_through(&proxy, &pod, destinations);
        }
    });
}

#[test]
fn outbound_by_nftables() {
    isolated("carried::outbound_by_nftables", &[IP, NFT], || {
        let (peer, pod) = client_and_pod();
        serve(&peer, 8080);
        pod.commands(&[
            "nft add table inet proxy",
            "nft add chain inet proxy output { type nat hook output priority -100 ; }",
            &format!("nft add rule inet proxy output meta mark {MARK} return"),
            "nft add rule inet proxy output meta l4proto tcp redirect to :15001",
        ]);
        let proxy = start(&pod, Proxy::builder().shards(2).listener(outbound("[::]:15001")));
        goes_out_through(&proxy, &pod, &["10.77.0.2:8080", "[fd77::2]:8080"]);
    });
}

#[test]
fn inbound_by_iptables() {
    isolated("carried::inbound_by_iptables", &[IP, IPTABLES], || {
        let (client, pod) = client_and_pod();
        serve(&pod, 8080);
        pod.command("ip -6 address add ::6/128 dev lo nodad");
        for iptables in ["iptables", "ip6tables"] {
            pod.command(&format!(
                "{iptables} -w -t nat -A PREROUTING -p tcp -j REDIRECT --to-ports 15006"
            ));
        }
        let passthrough = Relay::to_original_destination().source("127.0.0.6").source("::6");
        let listener = Listener::bind("[::]:15006").unwrap().named("inbound").redirected();
        let listener = listener.inbound().fallback(passthrough);
        let proxy = start(&pod, Proxy::builder().shards(2).listener(listener));
        for (destination, from) in [("10.77.0.1:8080", "127.0.0.6"), ("[fd77::1]:8080", "::6")] {
            assert_eq!(visit(&client, destination), reached(destination, from));
        }
        assert_eq!(lookups(&proxy, "inbound", LookupResult::Redirected), 2);
        at_rest(&proxy, &["inbound"], &["passthrough"]);
    });
}

/// The pod stands between client and server, and takes what passes.
fn between_by_tproxy(pod: &Namespace) {
    for (iptables, ip) in [("iptables", "ip"), ("ip6tables", "ip -6")] {
        pod.commands(&[
            &format!(
                "{iptables} -w -t mangle -A PREROUTING -i client0 -p tcp \
                 -j TPROXY --on-port 15006 --tproxy-mark 1"
            ),
            // What the server answers to an address that is not the pod's.
            &format!(
                "{iptables} -w -t mangle -A PREROUTING -i server0 -p tcp \
                 -m socket --transparent -j MARK --set-mark 1"
            ),
            &format!("{ip} rule add fwmark 1 lookup 100"),
            &format!("{ip} route add local default dev lo table 100"),
        ]);
    }
}

#[test]
fn passing_by_tproxy() {
    isolated("carried::passing_by_tproxy", &[IP, TPROXY, DIVERT], || {
        let (routed, transparent) = (
            Relay::to_original_destination(),
            Relay::to_original_destination().transparent_source(),
        );
        for (relay, sources) in
            [(routed, ["10.78.0.1", "fd78::1"]), (transparent, ["10.77.0.2", "fd77::2"])]
        {
            // Each proxy in a pod of its own: a command that another test is just starting may hold
            // the first one's listening socket for a moment longer.
            let (client, pod) = client_and_pod();
            let server = server_behind(&pod);
            serve(&server, 8080);
            between_by_tproxy(&pod);
            let listener = Listener::bind("[::]:15006").unwrap().named("passing").transparent();
            let builder = Proxy::builder().shards(2).listener(listener.fallback(relay));
            let proxy = start(&pod, builder);
            for (destination, from) in ["10.78.0.2:8080", "[fd78::2]:8080"].iter().zip(sources) {
                assert_eq!(visit(&client, destination), reached(destination, from));
            }
            assert_eq!(lookups(&proxy, "passing", LookupResult::Tproxy), 2);
            at_rest(&proxy, &["passing"], &["passthrough"]);
        }
    });
}

/// The same socket serves in another way, and back.
#[test]
fn a_reload_changes_how_connections_come() {
    isolated("carried::a_reload_changes_how_connections_come", &[IP, TPROXY, DIVERT], || {
        let (client, pod) = client_and_pod();
        let server = server_behind(&pod);
        serve(&server, 8080);
        between_by_tproxy(&pod);
        let listener = || Listener::bind("[::]:15006").unwrap().named("passing");
        let redirected = || listener().redirected().fallback(Relay::to_original_destination());
        let transparent = || listener().transparent().fallback(Relay::to_original_destination());
        let proxy = start(&pod, Proxy::builder().shards(2).acceptors(2).listener(redirected()));
        proxy.reload([transparent()]).unwrap();
        for (destination, from) in [("10.78.0.2:8080", "10.78.0.1"), ("[fd78::2]:8080", "fd78::1")]
        {
            assert_eq!(visit(&client, destination), reached(destination, from));
        }
        assert_eq!(lookups(&proxy, "passing", LookupResult::Tproxy), 2);
        // To a socket that is not transparent such rules bring nothing.
        proxy.reload([redirected()]).unwrap();
        let again = client.run(|| {
            let address = "10.78.0.2:8080".parse().unwrap();
            std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_millis(300))
        });
        assert!(again.is_err(), "{again:?}");
        at_rest(&proxy, &["passing"], &["passthrough"]);
    });
}

/// One connection each to 64 destinations must lie on 8 shards as 64 connections to one destination would.
fn one_connection_for_each_of_64_destinations(acceptors: usize) {
    let (peer, pod) = client_and_pod();
    peer.command("ip route add local 198.51.100.0/24 dev lo");
    pod.command("ip route add 198.51.100.0/24 via 10.77.0.2");
    serve(&peer, 8080);
    redirect_outbound(&pod);
    let destinations: Vec<_> = (1..=64).map(|host| format!("198.51.100.{host}:8080")).collect();
    let mut listener = Listener::bind("127.0.0.1:15001").unwrap().named("outbound").redirected();
    for destination in &destinations {
        listener = listener.destination(destination, Relay::to_original_destination().mark(MARK));
    }
    let builder = Proxy::builder().shards(8).acceptors(acceptors).listener(listener);
    let proxy = start(&pod, builder);
    let clients: Vec<TcpStream> = destinations
        .iter()
        .map(|destination| {
            let mut client = dial(&pod, destination);
            assert_eq!(first_line(&mut client), reached(destination, "10.77.0.1"));
            client
        })
        .collect();
    let held = loads(&proxy);
    assert_eq!(held.iter().sum::<u32>(), 64);
    assert!(held.iter().max().unwrap() - held.iter().min().unwrap() <= 1, "{held:?}");
    let each: Vec<u64> = destinations.iter().map(|name| served(&proxy, name)).collect();
    assert_eq!(each, [1; 64]);
    drop(clients);
    let names: Vec<&str> = destinations.iter().map(String::as_str).collect();
    at_rest(&proxy, &names, &["passthrough"]);
}

#[test]
fn destinations_share_the_shards_evenly() {
    isolated("carried::destinations_share_the_shards_evenly", &[IP, IPTABLES], || {
        one_connection_for_each_of_64_destinations(1);
    });
}

#[test]
fn destinations_share_the_shards_evenly_with_three_acceptors() {
    let name = "carried::destinations_share_the_shards_evenly_with_three_acceptors";
    isolated(name, &[IP, IPTABLES], || one_connection_for_each_of_64_destinations(3));
}

/// Whole proxies without a privilege, but in their user namespace.
#[test]
fn in_a_user_namespace() {
    as_an_ordinary_user("carried::in_a_user_namespace", &["carried::", "refused::"]);
}
