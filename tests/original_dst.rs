//! The original destination, with the firewall rules that redirect for real.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    time::Duration,
};

use evenkeel::original_dst::{Destination, Loops, OwnAddresses, lookup, lookup_transparent};
use socket2::{Domain, SockRef, Socket, Type};

use netns::{End, IP, IPTABLES, NFT, Namespace, TPROXY, as_an_ordinary_user, connect, isolated};

mod netns;

const PROXY_PORT: u16 = 15001;

/// Routes that lead nowhere, so that connecting begins; a rule then brings the connection back.
const ROUTES: &[&str] =
    &["ip route add 192.0.2.0/24 dev lo", "ip -6 route add 2001:db8::/32 dev lo"];

/// What a client dials while the proxy listens on an address: the proxy's own address, and others.
const DIALLED: &[(&str, &[&str])] = &[
    ("0.0.0.0:15001", &["10.77.0.1:8080", "198.51.100.1:443"]),
    ("[::]:15001", &["[fd77::1]:8080", "[2001:db8::5]:443", "10.77.0.1:8080", "198.51.100.1:443"]),
];

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn listen(address: &str) -> TcpListener {
    listener(address, false).unwrap()
}

fn listener(address: &str, transparent: bool) -> io::Result<TcpListener> {
    let address = at(address);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), None)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
        socket.set_ip_transparent_v6(transparent)?;
    } else {
        socket.set_ip_transparent_v4(transparent)?;
    }
    socket.bind(&address.into())?;
    socket.listen(16)?;
    Ok(socket.into())
}

fn dial(destination: &str) -> TcpStream {
    TcpStream::connect_timeout(&at(destination), Duration::from_secs(5)).unwrap()
}

/// Dials `destination` and asks about the connection that arrives at `listener`, all in one namespace.
fn found_for(listener: &TcpListener, destination: &str) -> Destination {
    let client = dial(destination);
    let (connection, peer) = listener.accept().unwrap();
    let same_port = peer.port() == client.local_addr().unwrap().port();
    assert!(same_port, "the connection that arrived is another one");
    lookup(&connection).unwrap()
}

/// A namespace in which connections to port 80 of any host come to [`PROXY_PORT`].
fn redirecting() -> Namespace {
    let namespace = Namespace::new();
    namespace.commands(ROUTES);
    for iptables in ["iptables", "ip6tables"] {
        namespace.command(&format!(
            "{iptables} -w -t nat -A OUTPUT -p tcp --dport 80 -j REDIRECT --to-ports {PROXY_PORT}"
        ));
    }
    namespace
}

/// A client's namespace and a proxy's, one cable between them. The client sends everything to the proxy.
fn client_and_proxy() -> (Namespace, Namespace) {
    let (client, proxy) = (Namespace::new(), Namespace::new());
    connect(
        &End {
            namespace: &client,
            interface: "client0",
            addresses: &["10.77.0.2/24", "fd77::2/64"],
        },
        &End { namespace: &proxy, interface: "proxy0", addresses: &["10.77.0.1/24", "fd77::1/64"] },
    );
    client.commands(&["ip route add default via 10.77.0.1", "ip -6 route add default via fd77::1"]);
    (client, proxy)
}

#[test]
fn redirected_on_its_way_out() {
    isolated("redirected_on_its_way_out", &[IP, IPTABLES], || {
        redirecting().run(|| {
            let v4 = listen("127.0.0.1:15001");
            let found = found_for(&v4, "192.0.2.1:80");
            assert_eq!(found, Destination::Redirected(at("192.0.2.1:80")));

            let v6 = listen("[::1]:15001");
            let found = found_for(&v6, "[2001:db8::1]:80");
            assert_eq!(found, Destination::Redirected(at("[2001:db8::1]:80")));
        });
    });
}

#[test]
fn redirected_on_its_way_in() {
    isolated("redirected_on_its_way_in", &[IP, IPTABLES], || {
        for (bound, destinations) in DIALLED {
            let (client, proxy) = client_and_proxy();
            for iptables in ["iptables", "ip6tables"] {
                proxy.command(&format!(
                    "{iptables} -w -t nat -A PREROUTING -p tcp -j REDIRECT --to-ports {PROXY_PORT}"
                ));
            }
            let listener = proxy.run(|| listen(bound));
            for destination in *destinations {
                let _stream = client.run(|| dial(destination));
                let (connection, _) = listener.accept().unwrap();
                let found = lookup(&connection).unwrap();
                assert_eq!(found, Destination::Redirected(at(destination)), "{bound}");
            }
        }
    });
}

#[test]
fn redirected_ipv4_to_a_dual_stack_listener() {
    isolated("redirected_ipv4_to_a_dual_stack_listener", &[IP, IPTABLES], || {
        redirecting().run(|| {
            let dual = listen("[::]:15001");
            let found = found_for(&dual, "192.0.2.1:80");
            assert_eq!(found, Destination::Redirected(at("192.0.2.1:80")));
            let found = found_for(&dual, "[2001:db8::1]:80");
            assert_eq!(found, Destination::Redirected(at("[2001:db8::1]:80")));
            let found = found_for(&dual, "127.0.0.1:15001");
            assert_eq!(found, Destination::Direct);
        });
    });
}

#[test]
fn redirected_by_nftables() {
    isolated("redirected_by_nftables", &[IP, NFT], || {
        let namespace = Namespace::new();
        namespace.commands(ROUTES);
        namespace.commands(&[
            "nft add table inet proxy",
            "nft add chain inet proxy output { type nat hook output priority -100 ; }",
            "nft add rule inet proxy output tcp dport 80 redirect to :15001",
        ]);
        namespace.run(|| {
            let dual = listen("[::]:15001");
            for destination in ["192.0.2.1:80", "[2001:db8::1]:80"] {
                let found = found_for(&dual, destination);
                assert_eq!(found, Destination::Redirected(at(destination)));
            }
        });
    });
}

#[test]
fn sent_on_by_tproxy() {
    isolated("sent_on_by_tproxy", &[IP, TPROXY], || {
        for (bound, destinations) in DIALLED {
            let (client, proxy) = client_and_proxy();
            for (iptables, ip) in [("iptables", "ip"), ("ip6tables", "ip -6")] {
                proxy.commands(&[
                    &format!(
                        "{iptables} -w -t mangle -A PREROUTING -i proxy0 -p tcp \
                         -j TPROXY --on-port {PROXY_PORT} --tproxy-mark 1"
                    ),
                    &format!("{ip} rule add fwmark 1 lookup 100"),
                    &format!("{ip} route add local default dev lo table 100"),
                ]);
            }
            let listener = proxy.run(|| listener(bound, true).unwrap());
            for destination in *destinations {
                let _stream = client.run(|| dial(destination));
                let (connection, _) = listener.accept().unwrap();
                let found = lookup_transparent(&connection).unwrap();
                assert_eq!(found, Destination::Transparent(at(destination)), "{bound}");
            }
        }
    });
}

#[test]
fn made_to_the_listener_itself() {
    isolated("made_to_the_listener_itself", &[IP, IPTABLES], || {
        redirecting().run(|| {
            let v4 = listen("127.0.0.1:15001");
            assert_eq!(found_for(&v4, "127.0.0.1:15001"), Destination::Direct);
            let v6 = listen("[::1]:15001");
            assert_eq!(found_for(&v6, "[::1]:15001"), Destination::Direct);
        });
    });
}

#[test]
fn not_tracked() {
    isolated("not_tracked", &[IP, IPTABLES], || {
        // Connection tracking begins with the first rule that needs it.
        Namespace::new().run(|| {
            let v4 = listen("127.0.0.1:15001");
            assert_eq!(found_for(&v4, "127.0.0.1:15001"), Destination::Missing);
            let v6 = listen("[::1]:15001");
            assert_eq!(found_for(&v6, "[::1]:15001"), Destination::Missing);
        });
        let exempt = redirecting();
        exempt.command("iptables -w -t raw -A OUTPUT -p tcp -j CT --notrack");
        exempt.run(|| {
            let v4 = listen("127.0.0.1:15001");
            assert_eq!(found_for(&v4, "127.0.0.1:15001"), Destination::Missing);
        });
    });
}

#[test]
fn reset_before_it_was_asked_about() {
    isolated("reset_before_it_was_asked_about", &[IP, IPTABLES], || {
        redirecting().run(|| {
            let listener = listen("127.0.0.1:15001");
            let client = dial("192.0.2.1:80");
            SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
            drop(client);
            let (connection, _) = listener.accept().unwrap();
            let found = lookup(&connection).unwrap();
            assert_eq!(found, Destination::Redirected(at("192.0.2.1:80")));
        });
    });
}

/// A connection to the proxy's own port, redirected to the proxy: forwarding it would never end. The same port of a
/// neighbour is another proxy's business.
#[test]
fn loops_are_told_from_neighbours() {
    isolated("loops_are_told_from_neighbours", &[IP, IPTABLES], || {
        let (_client, proxy) = client_and_proxy();
        proxy.command("iptables -w -t nat -A OUTPUT -p tcp -j REDIRECT --to-ports 15001");
        proxy.run(|| {
            let own = OwnAddresses::snapshot().unwrap();
            for address in ["10.77.0.1", "fd77::1", "127.0.0.1"] {
                assert!(own.contains(address.parse().unwrap()), "{address} in {own:?}");
            }
            let listener = listen("0.0.0.0:15001");
            let loops = Loops::new([listener.local_addr().unwrap()], own);
            for (destination, is_loop) in [
                ("10.77.0.1:15001", true),
                ("127.0.0.6:15001", true),
                ("10.77.0.2:15001", false),
                ("10.77.0.1:8080", false),
            ] {
                let found = found_for(&listener, destination);
                let address = found.address().unwrap();
                assert_eq!(address, at(destination));
                assert_eq!(loops.is_loop(address), is_loop, "{destination}");
            }
        });
    });
}

#[test]
fn a_namespace_has_only_its_own_addresses() {
    isolated("a_namespace_has_only_its_own_addresses", &[IP], || {
        let (client, _proxy) = client_and_proxy();
        let own = client.run(|| OwnAddresses::snapshot().unwrap());
        let mut v4: Vec<_> = own.v4().collect();
        v4.sort_unstable();
        assert_eq!(v4, [Ipv4Addr::new(10, 77, 0, 2), Ipv4Addr::LOCALHOST]);
        let ours: Ipv6Addr = "fd77::2".parse().unwrap();
        assert!(own.v6().any(|address| address == ours));
        assert!(!own.contains(IpAddr::from([10, 77, 0, 1])));
    });
}

#[test]
fn the_public_trait_answers_as_the_functions_do() {
    isolated("the_public_trait_answers_as_the_functions_do", &[IP, IPTABLES], || {
        use evenkeel::original_dst::{OriginalDestination, Redirect};
        redirecting().run(|| {
            let listener = listen("127.0.0.1:15001");
            let _client = dial("192.0.2.1:80");
            let (connection, _) = listener.accept().unwrap();
            let found = Redirect.lookup(connection.as_fd()).unwrap();
            assert_eq!(found, Destination::Redirected(at("192.0.2.1:80")));
        });
    });
}

/// The same by somebody who is root in a user namespace only.
#[test]
fn found_in_a_user_namespace() {
    let tests = ["redirected", "tproxy", "made_to", "not_tracked", "reset_before", "loops"];
    as_an_ordinary_user("found_in_a_user_namespace", &tests);
}
