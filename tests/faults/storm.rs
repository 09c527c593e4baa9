//! Draining and reloading while clients come as fast as they can.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
    time::Duration,
};

use evenkeel::{Drain, Listener, Proxy};

use super::stage::{assert_quiet, client, echo_origin, exchange, listen, start, to, try_exchange};

/// Clients that connect, expect an echo and leave, over and over.
#[derive(Default)]
struct Storm {
    over: AtomicBool,
    served: AtomicUsize,
    turned_away: AtomicUsize,
}

impl Storm {
    /// Runs until the storm is over. What was established must be served.
    fn rage(&self, address: SocketAddr) {
        const PATIENCE: Duration = Duration::from_millis(100);
        while !self.over.load(Relaxed) {
            let Ok(mut stream) = TcpStream::connect_timeout(&address, PATIENCE) else {
                self.turned_away.fetch_add(1, Relaxed);
                continue;
            };
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            if let Err(error) = try_exchange(&mut stream, b"storm") {
                let served = self.served.load(Relaxed);
                panic!("established and not served, after {served} that were: {error}");
            }
            self.served.fetch_add(1, Relaxed);
        }
    }

    /// Runs `calm` in a storm on each of the addresses.
    fn around(addresses: &[SocketAddr], calm: impl FnOnce(&Storm)) -> Storm {
        let storm = Storm::default();
        thread::scope(|scope| {
            for address in addresses {
                for _ in 0..4 {
                    scope.spawn(|| storm.rage(*address));
                }
            }
            calm(&storm);
            storm.over.store(true, Relaxed);
        });
        storm
    }
}

fn drain(proxy: &Proxy, address: SocketAddr) {
    let storm = Storm::around(&[address], |storm| {
        thread::sleep(Duration::from_millis(150));
        let served = storm.served.load(Relaxed);
        assert!(served > 0, "there is a storm");
        let drained = proxy.drain(Drain::within(Duration::from_secs(5)));
        assert_eq!(drained.cut, 0);
        thread::sleep(Duration::from_millis(50));
    });
    assert!(storm.turned_away.load(Relaxed) > 0, "the storm outlasted the drain");
    assert_quiet(proxy);
}

#[test]
fn a_drain_in_a_storm_resets_nobody() {
    let origin = echo_origin();
    for _ in 0..5 {
        let (proxy, address) = start(2, to(&[origin]));
        drain(&proxy, address);
    }
}

#[test]
fn a_reload_in_a_storm_resets_nobody() {
    let (proxy, staying) = start(2, to(&[echo_origin()]));
    let origin = echo_origin();
    // A port that is free, and so far nobody else's.
    let coming = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let stays = || listen().serve(to(&[origin]));
    let comes =
        || Listener::bind(&coming.to_string()).unwrap().named("coming").serve(to(&[origin]));
    let storm = Storm::around(&[staying, coming], |_| {
        for _ in 0..6 {
            proxy.reload([stays(), comes()]).unwrap();
            thread::sleep(Duration::from_millis(60));
            proxy.reload([stays()]).unwrap();
            thread::sleep(Duration::from_millis(20));
        }
    });
    assert!(storm.turned_away.load(Relaxed) > 0, "the listener was gone at times");
    assert_quiet(&proxy);
    exchange(&mut client(staying), b"still serving");
}
