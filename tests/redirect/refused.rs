//! What a proxy refuses: closed at once, counted by the reason, never forwarded.

use evenkeel::{
    Listener, Proxy, Relay,
    telemetry::{LookupResult, RejectReason},
};

use crate::{
    netns::{IP, IPTABLES, Namespace, TPROXY, isolated},
    stage::{
        accepted, at_rest, client_and_pod, connected, lookups, reached, rejected, serve, served,
        server_behind, start, visit, visit_in_vain,
    },
};

/// A pod that redirects whatever is made in it to port 15001, the proxy's own connections not exempted: what a proxy
/// forwards although it should not comes back to it.
fn pod_that_redirects_all() -> (Namespace, Namespace) {
    let (peer, pod) = client_and_pod();
    for iptables in ["iptables", "ip6tables"] {
        pod.command(&format!("{iptables} -w -t nat -A OUTPUT -p tcp -j REDIRECT --to-ports 15001"));
    }
    (peer, pod)
}

fn passthrough(bind: &str, name: &str) -> Listener {
    let listener = Listener::bind(bind).unwrap().named(name).redirected();
    listener.fallback(Relay::to_original_destination())
}

/// All visits of a listener were refused, with this lookup and for this reason, and none was forwarded.
fn all_refused(
    proxy: &Proxy,
    listener: &str,
    visits: u64,
    lookup: LookupResult,
    reason: RejectReason,
) {
    at_rest(proxy, &[listener], &["passthrough"]);
    assert_eq!(rejected(proxy, listener, reason), visits, "{reason}");
    assert_eq!(lookups(proxy, listener, lookup), visits, "{lookup}");
    assert_eq!(accepted(proxy, listener), visits, "the proxy has not called itself");
    assert_eq!(connected(proxy, "passthrough"), 0);
    assert_eq!(served(proxy, listener), 0);
}

#[test]
fn made_to_the_listener_itself() {
    isolated("refused::made_to_the_listener_itself", &[IP, IPTABLES], || {
        let (_peer, pod) = pod_that_redirects_all();
        let listener = passthrough("[::]:15001", "outbound");
        let proxy = start(&pod, Proxy::builder().shards(2).listener(listener));
        for own in ["127.0.0.1:15001", "[::1]:15001"] {
            visit_in_vain(&pod, own);
        }
        all_refused(&proxy, "outbound", 2, LookupResult::Direct, RejectReason::Direct);
    });
}

/// Whoever is connected straight to a listener with a service of its own is served by it.
#[test]
fn made_to_a_listener_that_serves() {
    isolated("refused::made_to_a_listener_that_serves", &[IP, IPTABLES], || {
        let (client, pod) = client_and_pod();
        serve(&pod, 8080);
        pod.command("iptables -w -t nat -A OUTPUT -p tcp --dport 80 -j REDIRECT --to-ports 15001");
        let listener = Listener::bind("[::]:15001").unwrap().named("own").redirected();
        let listener = listener.serve(Relay::to(["127.0.0.1:8080"]).cluster("application"));
        let proxy = start(&pod, Proxy::builder().shards(2).listener(listener));
        let reached = reached("127.0.0.1:8080", "127.0.0.1");
        assert_eq!(visit(&client, "10.77.0.1:15001"), reached);
        assert_eq!(lookups(&proxy, "own", LookupResult::Direct), 1);
        at_rest(&proxy, &["own"], &["application"]);
    });
}

/// No rule, no connection tracking, and so nothing that the kernel would know.
#[test]
fn missing() {
    isolated("refused::missing", &[IP], || {
        let pod = Namespace::new();
        let listener = passthrough("[::]:15001", "outbound");
        let proxy = start(&pod, Proxy::builder().shards(2).listener(listener));
        for own in ["127.0.0.1:15001", "[::1]:15001"] {
            visit_in_vain(&pod, own);
        }
        all_refused(&proxy, "outbound", 2, LookupResult::Missing, RejectReason::Missing);
    });
}

/// Connections that were on their way to another listener of the proxy.
#[test]
fn loops() {
    isolated("refused::loops", &[IP, IPTABLES], || {
        let (_peer, pod) = pod_that_redirects_all();
        let builder = Proxy::builder().shards(2).listener(passthrough("[::]:15001", "outbound"));
        let proxy = start(&pod, builder.listener(passthrough("[::]:15006", "inbound")));
        let own = [
            "127.0.0.1:15006",
            "127.0.0.6:15006",
            "10.77.0.1:15006",
            "[::1]:15006",
            "[fd77::1]:15006",
            // On another address than the one that REDIRECT leads to: not direct, but no less a loop.
            "10.77.0.1:15001",
            "[fd77::1]:15001",
        ];
        for own in own {
            visit_in_vain(&pod, own);
        }
        let visits = own.len() as u64;
        all_refused(&proxy, "outbound", visits, LookupResult::Loop, RejectReason::Loop);
        assert_eq!(accepted(&proxy, "inbound"), 0);
    });
}

/// The same port of a neighbour is that of the neighbour's proxy.
#[test]
fn the_port_of_a_neighbour_is_no_loop() {
    isolated("refused::the_port_of_a_neighbour_is_no_loop", &[IP, IPTABLES], || {
        let (peer, pod) = client_and_pod();
        pod.command("iptables -w -t nat -A PREROUTING -p tcp -j REDIRECT --to-ports 15001");
        let neighbour = server_behind(&pod);
        serve(&neighbour, 15001);
        let listener = passthrough("0.0.0.0:15001", "outbound");
        let proxy = start(&pod, Proxy::builder().shards(2).listener(listener));
        let reached = reached("10.78.0.2:15001", "10.78.0.1");
        assert_eq!(visit(&peer, "10.78.0.2:15001"), reached);
        at_rest(&proxy, &["outbound"], &["passthrough"]);
    });
}

/// The upstream that was configured is one of the proxy's listeners.
#[test]
fn a_loop_through_a_cluster() {
    isolated("refused::a_loop_through_a_cluster", &[IP, IPTABLES], || {
        let (_peer, pod) = pod_that_redirects_all();
        let itself = Relay::to(["10.77.0.1:15001"]).cluster("itself");
        let listener = Listener::bind("[::]:15001").unwrap().named("outbound").redirected();
        let listener = listener.fallback(itself);
        let proxy = start(&pod, Proxy::builder().shards(2).listener(listener));
        visit_in_vain(&pod, "10.77.0.2:8080");
        at_rest(&proxy, &["outbound"], &["itself"]);
        assert_eq!(rejected(&proxy, "outbound", RejectReason::Loop), 1);
        assert_eq!(accepted(&proxy, "outbound"), 1);
        assert_eq!(connected(&proxy, "itself"), 0);
    });
}

/// A transparent listener takes its own address for the destination.
#[test]
fn a_loop_by_tproxy() {
    isolated("refused::a_loop_by_tproxy", &[IP, TPROXY], || {
        let (client, pod) = client_and_pod();
        for (iptables, ip) in [("iptables", "ip"), ("ip6tables", "ip -6")] {
            pod.commands(&[
                &format!(
                    "{iptables} -w -t mangle -A PREROUTING -i client0 -p tcp \
                     -j TPROXY --on-port 15006 --tproxy-mark 1"
                ),
                &format!("{ip} rule add fwmark 1 lookup 100"),
                &format!("{ip} route add local default dev lo table 100"),
            ]);
        }
        let listener = Listener::bind("[::]:15006").unwrap().named("inbound").transparent();
        let listener = listener.fallback(Relay::to_original_destination());
        let proxy = start(&pod, Proxy::builder().shards(2).listener(listener));
        for own in ["10.77.0.1:15006", "[fd77::1]:15006"] {
            visit_in_vain(&client, own);
        }
        all_refused(&proxy, "inbound", 2, LookupResult::Loop, RejectReason::Loop);
    });
}

/// No destination matches, and there is no fallback.
#[test]
fn what_nothing_matches() {
    isolated("refused::what_nothing_matches", &[IP, IPTABLES], || {
        let (peer, pod) = client_and_pod();
        serve(&peer, 8080);
        pod.command("iptables -w -t nat -A PREROUTING -p tcp -j REDIRECT --to-ports 15006");
        let application = Relay::to(["10.77.0.2:8080"]).cluster("application");
        let listener = Listener::bind("[::]:15006").unwrap().named("inbound").redirected();
        let listener = listener.destination("10.77.0.1:80", application);
        let proxy = start(&pod, Proxy::builder().shards(2).listener(listener));
        assert_eq!(visit(&peer, "10.77.0.1:80"), reached("10.77.0.2:8080", "10.77.0.1"));
        for elsewhere in ["10.77.0.1:81", "198.51.100.1:80"] {
            visit_in_vain(&peer, elsewhere);
        }
        at_rest(&proxy, &["inbound", "10.77.0.1:80"], &["application"]);
        assert_eq!(rejected(&proxy, "inbound", RejectReason::Blackhole), 2);
        assert_eq!(lookups(&proxy, "inbound", LookupResult::Redirected), 3);
        assert_eq!(served(&proxy, "10.77.0.1:80"), 1);
        assert_eq!(connected(&proxy, "application"), 1);
    });
}

/// An inbound listener serves its own host, and is no way through to others.
#[test]
fn inbound_to_another_host() {
    isolated("refused::inbound_to_another_host", &[IP, IPTABLES], || {
        let (client, pod) = client_and_pod();
        let server = server_behind(&pod);
        serve(&server, 8080);
        // A port each: a command that another test starts holds the first socket until it executes.
        for (port, relay) in
            [(15006, Relay::to_original_destination()), (15007, Relay::to(["10.78.0.2:8080"]))]
        {
            for iptables in ["iptables", "ip6tables"] {
                let nat = format!("{iptables} -w -t nat");
                pod.command(&format!("{nat} -F PREROUTING"));
                pod.command(&format!("{nat} -A PREROUTING -p tcp -j REDIRECT --to-ports {port}"));
            }
            let listener = Listener::bind(&format!("[::]:{port}")).unwrap();
            let listener = listener.named("inbound").redirected();
            let listener = listener.inbound().fallback(relay);
            let proxy = start(&pod, Proxy::builder().shards(2).listener(listener));
            for foreign in ["10.78.0.2:8080", "[fd78::2]:8080"] {
                visit_in_vain(&client, foreign);
            }
            all_refused(&proxy, "inbound", 2, LookupResult::Redirected, RejectReason::Blackhole);
        }
    });
}
