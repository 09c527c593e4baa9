//! Connections that iptables redirects: guests learn where they were going.

use std::{io::Write, net::TcpStream};

use evenkeel::telemetry::{LookupResult, RejectReason};

use crate::{
    netns::{End, IP, IPTABLES, Namespace, connect, isolated},
    stage::{Running, Start, exchange, has_ended, redirected, run},
};

/// A client, and a pod in which what comes from outside to port 8080 is redirected to port 15001,
/// and so is what it sends to 10.77.0.1 itself.
fn client_and_pod() -> (Namespace, Namespace) {
    let (client, pod) = (Namespace::new(), Namespace::new());
    connect(
        &End { namespace: &client, interface: "eth0", addresses: &["10.77.0.2/24"] },
        &End { namespace: &pod, interface: "eth0", addresses: &["10.77.0.1/24"] },
    );
    pod.commands(&[
        "iptables -w -t nat -A PREROUTING -p tcp --dport 8080 -j REDIRECT --to-ports 15001",
        "iptables -w -t nat -A OUTPUT -p tcp -d 10.77.0.1 --dport 15001 -j REDIRECT",
    ]);
    (client, pod)
}

fn dial(from: &Namespace, address: &str) -> TcpStream {
    from.run(|| TcpStream::connect(address).unwrap())
}

fn lookups(running: &Running, result: LookupResult) -> u64 {
    let registry = running.proxy.registry();
    (0..running.loads().len())
        .map(|shard| registry.listener("front", shard).lookups.value(result))
        .sum()
}

fn rejected(running: &Running, reason: RejectReason) -> u64 {
    let registry = running.proxy.registry();
    (0..running.loads().len())
        .map(|shard| registry.listener("front", shard).rejected.value(reason))
        .sum()
}

/// What is redirected comes with its original destination, what is not comes without, and what
/// would go round in a circle does not come.
pub(crate) fn tells_the_original_destination(test: &str, start: Start) {
    isolated(test, &[IP, IPTABLES], || {
        let (client, pod) = client_and_pod();
        let running = pod.run(|| run(start, redirected()));
        for _ in 0..4 {
            let mut stream = dial(&client, "10.77.0.1:8080");
            assert_eq!(exchange(&mut stream, "whence"), "front 10.77.0.1:8080");
        }
        assert_eq!(lookups(&running, LookupResult::Redirected), 4);
        let mut direct = dial(&client, "10.77.0.1:15001");
        assert_eq!(exchange(&mut direct, "whence"), "front");
        assert_eq!(lookups(&running, LookupResult::Direct), 1);
        let mut circle = dial(&pod, "10.77.0.1:15001");
        let _ = circle.write_all(b"whence");
        assert!(has_ended(&mut circle));
        assert_eq!(rejected(&running, RejectReason::Loop), 1);
        drop((direct, circle));
        running.until_loads_are(&[0, 0]);
    });
}

/// A relay of a guest's own carries it there.
#[cfg(feature = "tokio")]
pub(crate) fn carries_it_there(test: &str, start: Start) {
    isolated(test, &[IP, IPTABLES], || {
        let (client, pod) = client_and_pod();
        let listener = pod.run(|| std::net::TcpListener::bind("10.77.0.1:8080").unwrap());
        let origin = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            std::io::copy(&mut stream.try_clone().unwrap(), &mut stream).unwrap();
        });
        let running = pod.run(|| run(start, redirected()));
        let mut stream = dial(&client, "10.77.0.1:8080");
        assert_eq!(exchange(&mut stream, "hello"), "hello");
        assert_eq!(running.loads().iter().sum::<u32>(), 1);
        drop(stream);
        origin.join().unwrap();
        running.until_loads_are(&[0, 0]);
    });
}
