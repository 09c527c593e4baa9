//! Peers that send and do not read: bounded memory, and nobody else starves.

use std::{
    fs,
    io::{ErrorKind, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use super::{
    alone::{is_alone, run_alone},
    stage::{
        NAME, assert_quiet, builder, client, deaf_origin, echo_origin, eventually, exchange,
        listen, origin, reset, start, to,
    },
};
use evenkeel::{Listener, Proxy};

/// Memory of this process that is no file's, in KiB.
fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

fn serve_others(address: SocketAddr, length: usize) {
    let before = Instant::now();
    let mut others: Vec<_> = (0..8).map(|_| client(address)).collect();
    for round in 0..5 {
        others.iter_mut().for_each(|other| exchange(other, &vec![round; length]));
    }
    let took = before.elapsed();
    assert!(took < Duration::from_secs(20), "40 round trips took {took:?}: others starve");
}

/// A proxy with a second listener in front of an echo.
fn with_echo(builder: evenkeel::Builder, service: evenkeel::Relay) -> (Proxy, [SocketAddr; 2]) {
    let echo = Listener::bind("127.0.0.1:0").unwrap().named("echo");
    let echo = echo.serve(to(&[echo_origin()]));
    let proxy = builder.listener(listen().serve(service)).listener(echo).start().unwrap();
    let addresses = [NAME, "echo"].map(|name| proxy.local_addr(name).unwrap());
    (proxy, addresses)
}

/// Sends until nothing is taken any more.
fn fill(stream: &mut TcpStream, piece: &[u8]) {
    stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    loop {
        match stream.write(piece) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn fill_all(streams: &mut [TcpStream], piece: &'static [u8]) {
    thread::scope(|scope| {
        for stream in streams {
            scope.spawn(|| fill(stream, piece));
        }
    });
}

#[test]
fn slow_readers_cost_bounded_memory() {
    if !is_alone() {
        return run_alone("pressure::slow_readers_cost_bounded_memory");
    }
    let flooding = origin(|mut stream| while stream.write(&[1; 65536]).is_ok() {});
    let (proxy, [flood, echo]) = with_echo(builder().shards(2), to(&[flooding]));
    serve_others(echo, 100);
    let before = resident_kib();
    let readers: Vec<_> = (0..16).map(|_| client(flood)).collect();
    thread::sleep(Duration::from_millis(500));
    let full = resident_kib();
    serve_others(echo, 20_000);
    thread::sleep(Duration::from_millis(1000));
    let later = resident_kib();
    // 12 MiB of receive buffers a shard, and a thread of the test for each origin's connection.
    assert!(full < before + (32 << 10), "{before} KiB grew to {full} KiB");
    assert!(later < full + (4 << 10), "{full} KiB went on growing to {later} KiB");
    drop(readers);
    assert_quiet(&proxy);
}

#[test]
fn deaf_origins_cost_bounded_memory() {
    if !is_alone() {
        return run_alone("pressure::deaf_origins_cost_bounded_memory");
    }
    let (proxy, [deaf, echo]) = with_echo(builder().shards(2), to(&[deaf_origin()]));
    serve_others(echo, 100);
    let before = resident_kib();
    let mut writers: Vec<_> = (0..16).map(|_| client(deaf)).collect();
    fill_all(&mut writers, &[1; 65536]);
    serve_others(echo, 20_000);
    let full = resident_kib();
    assert!(full < before + (32 << 10), "{before} KiB grew to {full} KiB");
    // Reset, since after a mere end the relay waits for the origin to take what is left.
    writers.into_iter().for_each(reset);
    assert_quiet(&proxy);
}

#[test]
fn writers_of_single_bytes_starve_nobody() {
    const BYTES: usize = 2_000;
    let (proxy, [deaf, echo]) = with_echo(builder().shards(1), to(&[deaf_origin()]));
    let mut writers: Vec<_> = (0..200).map(|_| client(deaf)).collect();
    writers.iter().for_each(|writer| writer.set_nodelay(true).unwrap());
    thread::scope(|scope| {
        let (first, second) = writers.split_at_mut(100);
        for half in [first, second] {
            scope.spawn(|| {
                for _ in 0..BYTES / 4 {
                    half.iter_mut().for_each(|writer| writer.write_all(b"x").unwrap());
                }
            });
        }
        scope.spawn(|| serve_others(echo, 2_000));
    });
    serve_others(echo, 2_000);
    writers.into_iter().for_each(reset);
    assert_quiet(&proxy);
}

#[test]
fn an_exhausted_buffer_pool_starves_nobody_and_recovers() {
    let small = builder().shards(1).buffers(32, 4096);
    let (proxy, [deaf, echo]) = with_echo(small, to(&[deaf_origin()]));
    let cells = proxy.registry().shard(0);
    let unused = cells.free_buffers.value();
    let mut stuck: Vec<_> = (0..64).map(|_| client(deaf)).collect();
    // What is stuck first leaves as the kernel's buffers grow, so only the lowest number tells.
    let lowest = thread::scope(|scope| {
        let filling = scope.spawn(|| fill_all(&mut stuck, &[1; 3_000]));
        let mut lowest = unused;
        while !filling.is_finished() {
            lowest = lowest.min(cells.free_buffers.value());
            thread::sleep(Duration::from_millis(1));
        }
        lowest
    });
    assert!(lowest <= unused / 2, "of {unused} buffers {lowest} were never in use");
    serve_others(echo, 20_000);
    stuck.into_iter().for_each(reset);
    eventually("every buffer comes back", || {
        // The gauge is written when the loop turns.
        exchange(&mut client(echo), b"turn");
        cells.free_buffers.value() == unused
    });
    assert_quiet(&proxy);
}

#[test]
fn a_reader_that_wakes_up_gets_everything() {
    const LENGTH: usize = 32 << 20;
    let sending = origin(|mut stream| stream.write_all(&vec![3; LENGTH]).unwrap());
    let (proxy, address) = start(1, to(&[sending]));
    let mut reader = client(address);
    thread::sleep(Duration::from_millis(300));
    let got = std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
    assert_eq!(got, LENGTH as u64);
    drop(reader);
    assert_quiet(&proxy);
}
