//! Behind the rules that `sidecar iptables apply` makes.

use std::process::Command;

use evenkeel::{
    Builder, Listener, Proxy, Relay,
    telemetry::{LookupResult, RejectReason},
};
use rustix::thread::{Gid, Uid, set_thread_res_gid, set_thread_res_uid};

use crate::{
    netns::{DIVERT, IP, IPTABLES, Namespace, OWNERS, TPROXY, isolated},
    sidecar_binary::SIDECAR,
    stage::{
        MARK, accepted, at_rest, client_and_pod, connected, lookups, reached, rejected, serve,
        served, start, visit, visit_from_here,
    },
};

/// A peer that serves port 8080, a pod whose application does so, and in the pod the rules of `sidecar iptables apply`.
fn peer_and_pod(options: &str) -> (Namespace, Namespace) {
    let (peer, pod) = client_and_pod();
    for namespace in [&peer, &pod] {
        serve(namespace, 8080);
    }
    let mut apply = Command::new(&*SIDECAR);
    apply.args(["iptables", "apply"]).args(options.split_whitespace());
    // For iptables-legacy; nobody else is in this namespace.
    apply.env("XTABLES_LOCKFILE", "/dev/null");
    let output = pod.run(|| apply.output().unwrap());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (peer, pod)
}

fn sidecar(inbound: Listener, outbound: Relay) -> Builder {
    let to_peers = Listener::bind("[::]:15001").unwrap().named("outbound").redirected();
    Proxy::builder().shards(2).listener(inbound).listener(to_peers.fallback(outbound))
}

/// Inbound passthrough as it must be: from an address whose connections the rules let pass.
fn inbound() -> Listener {
    let relay = Relay::to_original_destination().source("127.0.0.6").source("::6");
    let listener = Listener::bind("[::]:15006").unwrap().named("inbound").redirected();
    listener.inbound().fallback(relay.cluster("application"))
}

fn all_at_rest(proxy: &Proxy) {
    at_rest(proxy, &["inbound", "outbound"], &["application", "passthrough"]);
    for listener in ["inbound", "outbound"] {
        assert_eq!(rejected(proxy, listener, RejectReason::Loop), 0);
        assert_eq!(accepted(proxy, listener), served(proxy, listener), "{listener}");
    }
}

/// As the application, an ordinary user, in the pod.
fn visit_as_application(pod: &Namespace, destination: &str) -> String {
    pod.run(|| {
        // Of this thread only, which ends with the visit.
        set_thread_res_gid(None, Gid::from_raw(1000), None).unwrap();
        set_thread_res_uid(None, Uid::from_raw(1000), None).unwrap();
        visit_from_here(destination)
    })
}

/// The sidecar has a user of its own, this process's. Its connections pass, but for those to its own pod, which count as
/// inbound: only their source keeps inbound passthrough from calling itself for ever.
#[test]
fn the_owner_stops_the_loop() {
    isolated("sidecar_rules::the_owner_stops_the_loop", &[IP, IPTABLES, OWNERS], || {
        let (peer, pod) = peer_and_pod("--uid 0 --gid 0");
        let proxy = start(&pod, sidecar(inbound(), Relay::to_original_destination()));
        for (destination, from) in [("10.77.0.2:8080", "10.77.0.1"), ("[fd77::2]:8080", "fd77::1")]
        {
            assert_eq!(visit_as_application(&pod, destination), reached(destination, from));
        }
        assert_eq!(served(&proxy, "outbound"), 2);
        for (destination, from) in [("10.77.0.1:8080", "127.0.0.6"), ("[fd77::1]:8080", "::6")] {
            assert_eq!(visit(&peer, destination), reached(destination, from));
        }
        assert_eq!(served(&proxy, "inbound"), 2);
        all_at_rest(&proxy);
    });
}

/// The application calls a service, and the sidecar chooses the application itself: that comes in as from anywhere else.
#[test]
fn the_own_pod_behind_a_service_address() {
    let name = "sidecar_rules::the_own_pod_behind_a_service_address";
    isolated(name, &[IP, IPTABLES, OWNERS], || {
        let (_peer, pod) = peer_and_pod("--uid 0 --gid 0");
        pod.command("ip route add 198.51.100.0/24 via 10.77.0.2");
        let service = Relay::to(["10.77.0.1:8080"]).cluster("passthrough");
        let proxy = start(&pod, sidecar(inbound(), service));
        let answer = visit_as_application(&pod, "198.51.100.1:80");
        assert_eq!(answer, reached("10.77.0.1:8080", "127.0.0.6"));
        for (listener, cluster) in [("outbound", "passthrough"), ("inbound", "application")] {
            assert_eq!(served(&proxy, listener), 1, "{listener}");
            assert_eq!(connected(&proxy, cluster), 1, "{cluster}");
        }
        // Whoever calls itself by its own address needs no sidecar.
        let answer = visit_as_application(&pod, "10.77.0.1:8080");
        assert_eq!(answer, reached("10.77.0.1:8080", "10.77.0.1"));
        assert_eq!(served(&proxy, "inbound"), 1);
        all_at_rest(&proxy);
    });
}

/// The sidecar runs as anybody and marks its sockets.
#[test]
fn the_mark_stops_the_loop() {
    isolated("sidecar_rules::the_mark_stops_the_loop", &[IP, IPTABLES, OWNERS], || {
        let (peer, pod) = peer_and_pod("--uid 4711 --gid 4711");
        let relay = Relay::to_original_destination().mark(MARK);
        let inbound = Listener::bind("[::]:15006").unwrap().named("inbound").redirected();
        let inbound = inbound.inbound().fallback(relay.clone().cluster("application"));
        let proxy = start(&pod, sidecar(inbound, relay));
        for (destination, from) in [("10.77.0.2:8080", "10.77.0.1"), ("[fd77::2]:8080", "fd77::1")]
        {
            assert_eq!(visit(&pod, destination), reached(destination, from));
        }
        // Without a source of its own the sidecar has the pod's address.
        for (destination, from) in [("10.77.0.1:8080", "10.77.0.1"), ("[fd77::1]:8080", "fd77::1")]
        {
            assert_eq!(visit(&peer, destination), reached(destination, from));
        }
        assert_eq!(connected(&proxy, "passthrough"), 2);
        assert_eq!(connected(&proxy, "application"), 2);
        all_at_rest(&proxy);
    });
}

/// The application sees its clients' own addresses, and so may it answer.
#[test]
fn clients_keep_their_addresses_with_tproxy() {
    let name = "sidecar_rules::clients_keep_their_addresses_with_tproxy";
    isolated(name, &[IP, IPTABLES, OWNERS, TPROXY, DIVERT], || {
        let (peer, pod) = peer_and_pod("--inbound-mode tproxy");
        let relay = Relay::to_original_destination().mark(MARK);
        let inbound = Listener::bind("[::]:15006").unwrap().named("inbound").transparent();
        let application = relay.clone().transparent_source().cluster("application");
        let proxy = start(&pod, sidecar(inbound.inbound().fallback(application), relay));
        for (destination, client) in
            [("10.77.0.1:8080", "10.77.0.2"), ("[fd77::1]:8080", "fd77::2")]
        {
            assert_eq!(visit(&peer, destination), reached(destination, client));
        }
        assert_eq!(lookups(&proxy, "inbound", LookupResult::Tproxy), 2);
        assert_eq!(visit(&pod, "10.77.0.2:8080"), reached("10.77.0.2:8080", "10.77.0.1"));
        assert_eq!(served(&proxy, "outbound"), 1);
        all_at_rest(&proxy);
    });
}
