//! Acceptors that die.

use std::time::{Duration, Instant};

use evenkeel::{AcceptorPlacement, Proxy};

use super::stage::{
    NAME, assert_quiet, builder, client, echo_origin, eventually, exchange, listen, to,
};

fn start(placement: AcceptorPlacement) -> Proxy {
    let proxy = builder().shards(2).acceptors(2).acceptor_placement(placement);
    proxy.listener(listen().serve(to(&[echo_origin()]))).start().unwrap()
}

fn dies_and_says_so(placement: AcceptorPlacement) {
    let proxy = start(placement);
    let address = proxy.local_addr(NAME).unwrap();
    let mut open = client(address);
    exchange(&mut open, b"before");
    proxy.ready().unwrap();

    proxy.kill_acceptor(1);
    // While it dies, it is one that does not answer.
    let says_so = || proxy.ready().is_err_and(|why| why == "acceptor 1 has died");
    eventually("it is not ready, and says why", says_so);
    let cells = proxy.registry().accept(NAME, 1);
    eventually("it no longer counts as accepting", || cells.accepting.value() == 0);
    exchange(&mut open, b"after");

    // Nobody waits, for a second each time, for an answer that cannot come.
    let asked = Instant::now();
    for _ in 0..20 {
        proxy.ready().unwrap_err();
    }
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    drop(open);
    assert_quiet(&proxy);
    assert_eq!(proxy.drain(Duration::from_secs(5)).cut, 0);
}

#[test]
fn an_acceptor_that_dies_makes_the_proxy_not_ready() {
    dies_and_says_so(AcceptorPlacement::OwnThread);
}

#[test]
fn one_that_dies_on_a_shard_does_too_and_the_shard_goes_on() {
    dies_and_says_so(AcceptorPlacement::OnShard);
}

#[test]
fn acceptors_tell_when_they_last_turned_wherever_they_run() {
    for placement in [AcceptorPlacement::OwnThread, AcceptorPlacement::OnShard] {
        let proxy = start(placement);
        for acceptor in 0..2 {
            let cells = proxy.registry().acceptor(acceptor);
            eventually("it has turned", || cells.last_turn_unix_micros.value() > 0);
        }
    }
}
