//! Every byte arrives, once and in order.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr},
    thread,
};

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::stage::{assert_quiet, client, origin, start, to};

const LARGEST: u64 = 8 << 20;

/// Bytes that follow from a seed.
fn body(seed: u8, length: usize) -> Vec<u8> {
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut body = vec![0; length];
    random.fill_bytes(&mut body);
    body
}

/// Some small, some large.
fn length(random: &mut TestRng) -> usize {
    let scale = random.next_u32() % 24;
    (random.next_u64() % (1 << scale).min(LARGEST)) as usize
}

/// Sends and receives at once, in pieces of random sizes, and compares what came.
fn both_ways(stream: std::net::TcpStream, send: &[u8], expected: &[u8], seed: u8) {
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed ^ 0x55; 32]);
            let mut left = send;
            while !left.is_empty() {
                let piece = (1 + random.next_u32() as usize % 200_000).min(left.len());
                (&stream).write_all(&left[..piece]).unwrap();
                left = &left[piece..];
            }
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::with_capacity(expected.len());
        (&stream).read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), expected.len());
        assert!(received == expected, "other bytes than were sent");
    });
}

fn transfer(address: SocketAddr, seed: u8, up: &[u8], down_length: usize) {
    let stream = client(address);
    let mut head = [0; 17];
    head[0] = seed;
    head[1..9].copy_from_slice(&(up.len() as u64).to_be_bytes());
    head[9..].copy_from_slice(&(down_length as u64).to_be_bytes());
    (&stream).write_all(&head).unwrap();
    both_ways(stream, up, &body(!seed, down_length), seed);
}

#[test]
fn random_bodies_pass_both_ways_at_once() {
    let mirror = origin(|mut stream| {
        let mut head = [0; 17];
        stream.read_exact(&mut head).unwrap();
        let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap()) as usize;
        let (up, down) = (number(&head[1..9]), number(&head[9..]));
        both_ways(stream, &body(!head[0], down), &body(head[0], up), head[0]);
    });
    let (proxy, address) = start(2, to(&[mirror]));
    thread::scope(|scope| {
        for seed in 0..20 {
            scope.spawn(move || {
                let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed | 0x80; 32]);
                let (up, down) = match seed {
                    0 => (LARGEST as usize, LARGEST as usize),
                    _ => (length(&mut random), length(&mut random)),
                };
                transfer(address, seed, &body(seed, up), down);
            });
        }
    });
    assert_quiet(&proxy);
}
