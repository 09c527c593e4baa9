//! Addresses that the host is given while the proxy runs: its own from the first connection on.

use evenkeel::{
    Listener, Proxy, Relay,
    telemetry::{LookupResult, RejectReason},
};

use crate::{
    netns::{IP, IPTABLES, isolated},
    stage::{
        accepted, at_rest, client_and_pod, connected, lookups, reached, rejected, serve, served,
        start, visit, visit_in_vain,
    },
};

/// Gives the pod an address of either family.
const GIVE: [&str; 2] =
    ["ip address add 10.77.0.9/24 dev client0", "ip address add fd77::9/64 dev client0 nodad"];

#[test]
fn inbound_serves_an_address_of_a_moment_ago() {
    isolated("gained::inbound_serves_an_address_of_a_moment_ago", &[IP, IPTABLES], || {
        let (client, pod) = client_and_pod();
        serve(&pod, 8080);
        for iptables in ["iptables", "ip6tables"] {
            pod.command(&format!(
                "{iptables} -w -t nat -A PREROUTING -p tcp -j REDIRECT --to-ports 15006"
            ));
        }
        let listener = Listener::bind("[::]:15006").unwrap().named("inbound").redirected();
        let listener = listener.fallback(Relay::to_original_destination()).inbound();
        let proxy = start(&pod, Proxy::builder().shards(2).listener(listener));
        // Asked about before the pod has them, and refused.
        client.commands(&[
            "ip route add 10.77.0.9/32 via 10.77.0.1",
            "ip -6 route add fd77::9/128 via fd77::1",
        ]);
        let gained = ["10.77.0.9:8080", "[fd77::9]:8080"];
        for address in gained {
            visit_in_vain(&client, address);
        }
        assert_eq!(rejected(&proxy, "inbound", RejectReason::Blackhole), 2);
        pod.commands(&GIVE);
        // To a second IPv4 address of a network the kernel goes from the first.
        for (address, from) in gained.into_iter().zip(["10.77.0.1", "fd77::9"]) {
            assert_eq!(visit(&client, address), reached(address, from));
        }
        at_rest(&proxy, &["inbound"], &["passthrough"]);
        assert_eq!(rejected(&proxy, "inbound", RejectReason::Blackhole), 2);
        assert_eq!(served(&proxy, "inbound"), 2);
        // One that has gone is another host's, once something else was not known.
        pod.command("ip address del 10.77.0.9/24 dev client0");
        visit_in_vain(&client, "198.51.100.1:8080");
        visit_in_vain(&client, gained[0]);
        assert_eq!(rejected(&proxy, "inbound", RejectReason::Blackhole), 4);
    });
}

#[test]
fn a_loop_by_an_address_of_a_moment_ago() {
    isolated("gained::a_loop_by_an_address_of_a_moment_ago", &[IP, IPTABLES], || {
        let (_peer, pod) = client_and_pod();
        for iptables in ["iptables", "ip6tables"] {
            pod.command(&format!(
                "{iptables} -w -t nat -A OUTPUT -p tcp -j REDIRECT --to-ports 15001"
            ));
        }
        let listener = Listener::bind("[::]:15001").unwrap().named("outbound").redirected();
        let listener = listener.fallback(Relay::to_original_destination());
        let proxy = start(&pod, Proxy::builder().shards(2).listener(listener));
        pod.commands(&GIVE);
        for own in ["10.77.0.9:15001", "[fd77::9]:15001"] {
            visit_in_vain(&pod, own);
        }
        at_rest(&proxy, &["outbound"], &["passthrough"]);
        assert_eq!(lookups(&proxy, "outbound", LookupResult::Loop), 2);
        assert_eq!(rejected(&proxy, "outbound", RejectReason::Loop), 2);
        assert_eq!(accepted(&proxy, "outbound"), 2, "the proxy has not called itself");
        assert_eq!(connected(&proxy, "passthrough"), 0);
    });
}
