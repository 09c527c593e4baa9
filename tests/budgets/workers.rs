//! The kernel's own threads. It starts them for operations that it cannot do without blocking, and one
//! on the path of a connection would cost two context switches a message.

use std::{
    io::{Read, Write},
    net::Shutdown,
};

use socket2::SockRef;

use crate::{process::RelayProcess, traffic};

#[test]
fn the_kernel_starts_no_worker_for_a_relay() {
    let mut relay = RelayProcess::start(2);
    let no_worker = |relay: &RelayProcess, after: &str| {
        let threads = relay.threads();
        assert!(threads.iter().any(|name| name.starts_with("evenkeel-")), "{threads:?}");
        assert!(!threads.iter().any(|name| name.starts_with("iou-")), "after {after}: {threads:?}");
    };
    let mut connections = traffic::open(&relay, 64);
    for _ in 0..10 {
        traffic::round_trip(&mut connections);
    }
    no_worker(&relay, "small messages");

    for relayed in &mut connections[..16] {
        // More than the buffers of all sockets on the way hold: somebody has to wait.
        let mut sender = relayed.client.try_clone().unwrap();
        let sending = std::thread::spawn(move || sender.write_all(&vec![7; 16 << 20]));
        relayed.origin.read_exact(&mut vec![0; 16 << 20]).unwrap();
        sending.join().unwrap().unwrap();
    }
    no_worker(&relay, "bulk");

    for relayed in &mut connections[..16] {
        relayed.client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(relayed.origin.read(&mut [0]).unwrap(), 0);
        relayed.origin.write_all(b"answer").unwrap();
        relayed.client.read_exact(&mut [0; 6]).unwrap();
    }
    no_worker(&relay, "half-closes");

    for mut relayed in connections.drain(16..32) {
        SockRef::from(&relayed.client).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(relayed.client);
        assert!(matches!(relayed.origin.read(&mut [0]), Ok(0) | Err(_)));
    }
    no_worker(&relay, "resets");

    relay.drain();
    for relayed in &mut connections {
        assert!(matches!(relayed.client.read(&mut [0]), Ok(0) | Err(_)), "cut by the drain");
    }
    let threads = relay.threads();
    assert!(!threads.iter().any(|name| name.starts_with("iou-")), "after a drain: {threads:?}");
}
