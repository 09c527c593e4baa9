//! Who is captured and who passes, by connecting.

use std::net::SocketAddr;

use super::namespace::{Client, Namespace, original_destination};
use super::sidecar::{done, possible};

/// The sidecar's own user.
const SIDECAR: Client = Client::APPLICATION.uid(1337).gid(1337);

/// The pod's address, one of its peer and another, and the source of inbound passthrough.
struct Addresses {
    pod: &'static str,
    peer: &'static str,
    other_peer: &'static str,
    loopback: &'static str,
    passthrough: &'static str,
}

const FAMILIES: [Addresses; 2] = [
    Addresses {
        pod: "10.77.0.1",
        peer: "10.77.0.2",
        other_peer: "10.77.0.3",
        loopback: "127.0.0.1",
        passthrough: "127.0.0.6",
    },
    Addresses {
        pod: "fd77::1",
        peer: "fd77::2",
        other_peer: "fd77::3",
        loopback: "::1",
        passthrough: "::6",
    },
];

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

/// A pod with an application and a sidecar's ports, and a peer. What answers says what it is, and
/// the sidecar's ports say where the connection was going.
fn pod_and_peer(tproxy: bool) -> (Namespace, Namespace) {
    let (pod, peer) = Namespace::pair();
    for any in ["0.0.0.0", "::"] {
        pod.serve(at(any, 15001), false, |stream, _| {
            format!("outbound to {}", original_destination(stream))
        });
        pod.serve(at(any, 15006), tproxy, move |stream, _| {
            let to =
                if tproxy { stream.local_addr().unwrap() } else { original_destination(stream) };
            format!("inbound to {to}")
        });
        for port in [8080, 9090] {
            pod.serve(at(any, port), false, |_, from| format!("application from {}", from.ip()));
            peer.serve(at(any, port), false, |_, _| "peer".to_owned());
        }
    }
    (pod, peer)
}

/// Outbound is the same in both modes.
fn outbound_is_captured_but_for_the_sidecars_own(pod: &Namespace) {
    for Addresses { peer, loopback, .. } in FAMILIES {
        let to = at(peer, 8080);
        let application = Client::APPLICATION;
        assert_eq!(application.connect(pod, to), format!("outbound to {to}"));
        assert_eq!(application.mark(7).connect(pod, to), format!("outbound to {to}"));
        let nobody_listens = at(peer, 1);
        assert_eq!(
            application.connect(pod, nobody_listens),
            format!("outbound to {nobody_listens}")
        );
        assert_eq!(application.uid(1337).connect(pod, to), "peer", "the sidecar's user");
        assert_eq!(application.gid(1337).connect(pod, to), "peer", "the sidecar's group");
        assert_eq!(application.mark(1337).connect(pod, to), "peer", "the sidecar's mark");
        let local = application.connect(pod, at(loopback, 8080));
        assert_eq!(local, format!("application from {loopback}"));
    }
}

/// Inbound lands on the sidecar in both modes, calls of the sidecar to its own pod as well, unless
/// they are on their way to the application.
fn inbound_is_captured_but_for_the_way_to_the_application(pod: &Namespace, peer: &Namespace) {
    for Addresses { pod: address, passthrough, .. } in FAMILIES {
        let to = at(address, 8080);
        let captured = format!("inbound to {to}");
        let application = |from: &str| format!("application from {from}");
        assert_eq!(Client::APPLICATION.connect(peer, to), captured);
        assert_eq!(SIDECAR.connect(peer, to), captured, "the peer's users are nobody here");
        assert_eq!(SIDECAR.connect(pod, to), captured, "a call to its own pod");
        let direct = SIDECAR.source(passthrough).connect(pod, to);
        assert_eq!(direct, application(passthrough), "the source that passes");
        assert_eq!(SIDECAR.mark(1337).connect(pod, to), application(address), "the mark passes");
        let itself = Client::APPLICATION.connect(pod, to);
        assert_eq!(itself, application(address), "the application to itself");
    }
}

#[test]
fn redirect_captures_both_directions() {
    if !possible("redirect_captures_both_directions") {
        return;
    }
    let (pod, peer) = pod_and_peer(false);
    done(&pod, "apply");
    outbound_is_captured_but_for_the_sidecars_own(&pod);
    inbound_is_captured_but_for_the_way_to_the_application(&pod, &peer);

    done(&pod, "remove");
    for Addresses { pod: address, peer: far, .. } in FAMILIES {
        assert_eq!(Client::APPLICATION.connect(&pod, at(far, 8080)), "peer");
        let inbound = Client::APPLICATION.connect(&peer, at(address, 8080));
        assert_eq!(inbound, format!("application from {far}"));
    }
}

#[test]
fn tproxy_captures_both_directions() {
    if !possible("tproxy_captures_both_directions") {
        return;
    }
    let (pod, peer) = pod_and_peer(true);
    done(&pod, "apply --inbound-mode tproxy");
    outbound_is_captured_but_for_the_sidecars_own(&pod);
    inbound_is_captured_but_for_the_way_to_the_application(&pod, &peer);

    // The application sees its client's address, and its answers come back to the sidecar.
    for Addresses { pod: address, peer: client, .. } in FAMILIES {
        let shown = SIDECAR.mark(1337).source(client).connect(&pod, at(address, 8080));
        assert_eq!(shown, format!("application from {client}"));
    }

    done(&pod, "remove");
    for Addresses { pod: address, peer: far, .. } in FAMILIES {
        let inbound = Client::APPLICATION.connect(&peer, at(address, 8080));
        assert_eq!(inbound, format!("application from {far}"));
    }
}

#[test]
fn exclusions_go_straight_through() {
    if !possible("exclusions_go_straight_through") {
        return;
    }
    for mode in ["redirect", "tproxy"] {
        let (pod, peer) = pod_and_peer(mode == "tproxy");
        done(
            &pod,
            &format!(
                "apply --inbound-mode {mode} --exclude-inbound-ports 22,9090 \
                 --exclude-outbound-ports 9090 \
                 --exclude-outbound-cidrs 10.77.0.3/32,fd77::3/128,192.0.2.0/24"
            ),
        );
        for Addresses { pod: address, peer: far, other_peer, .. } in FAMILIES {
            let outbound = |to| Client::APPLICATION.connect(&pod, to);
            assert_eq!(outbound(at(far, 8080)), format!("outbound to {}", at(far, 8080)));
            assert_eq!(outbound(at(far, 9090)), "peer", "the port is excluded");
            assert_eq!(outbound(at(other_peer, 8080)), "peer", "the network is excluded");
            let inbound = |port| Client::APPLICATION.connect(&peer, at(address, port));
            assert_eq!(inbound(8080), format!("inbound to {}", at(address, 8080)));
            assert_eq!(inbound(9090), format!("application from {far}"), "the port is excluded");
        }
    }
}

#[test]
fn only_listed_inbound_ports_are_captured() {
    if !possible("only_listed_inbound_ports_are_captured") {
        return;
    }
    for mode in ["redirect", "tproxy"] {
        let (pod, peer) = pod_and_peer(mode == "tproxy");
        done(&pod, &format!("apply --inbound-mode {mode} --inbound-ports 80,8080"));
        for Addresses { pod: address, peer: far, .. } in FAMILIES {
            let inbound = |port| Client::APPLICATION.connect(&peer, at(address, port));
            assert_eq!(inbound(8080), format!("inbound to {}", at(address, 8080)));
            assert_eq!(inbound(9090), format!("application from {far}"));
        }
        done(&pod, &format!("apply --inbound-mode {mode} --inbound-ports none"));
        for Addresses { pod: address, peer: far, .. } in FAMILIES {
            let inbound = Client::APPLICATION.connect(&peer, at(address, 8080));
            assert_eq!(inbound, format!("application from {far}"));
            let outbound = Client::APPLICATION.connect(&pod, at(far, 8080));
            assert_eq!(outbound, format!("outbound to {}", at(far, 8080)));
        }
    }
}

#[test]
fn other_owners_marks_and_ports_count_where_they_are_set() {
    if !possible("other_owners_marks_and_ports_count_where_they_are_set") {
        return;
    }
    let (pod, peer) = Namespace::pair();
    for any in ["0.0.0.0", "::"] {
        pod.serve(at(any, 4001), false, |_, _| "outbound".to_owned());
        pod.serve(at(any, 4006), false, |_, _| "inbound".to_owned());
        peer.serve(at(any, 8080), false, |_, _| "peer".to_owned());
    }
    done(&pod, "apply --outbound-port 4001 --inbound-port 4006 --uid 7 --gid 8 --mark 0x9");
    for Addresses { pod: address, peer: far, .. } in FAMILIES {
        let outbound = |client: Client| client.connect(&pod, at(far, 8080));
        assert_eq!(outbound(SIDECAR.mark(1337)), "outbound", "the defaults mean nothing now");
        assert_eq!(outbound(Client::APPLICATION.uid(7)), "peer");
        assert_eq!(outbound(Client::APPLICATION.gid(8)), "peer");
        assert_eq!(outbound(Client::APPLICATION.mark(9)), "peer");
        assert_eq!(Client::APPLICATION.connect(&peer, at(address, 80)), "inbound");
    }
}
