//! A stream that is polled for bytes carries what a plain pipe would, however both sides cut it.

use std::io::{ErrorKind, IoSlice, IoSliceMut};

use futures_lite::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};

use super::{
    milliseconds,
    peer::{byte, bytes},
    simulate, simulate_with,
};
use crate::{
    net::{PollStream, Stream},
    ring::{
        CREDIT,
        simulated::{Behaviour, Random, World},
    },
    runtime::{JoinHandle, sleep, spawn, timeout},
};

/// The most that a write takes.
const LARGEST: usize = 16 << 10;

fn pair(world: &World) -> (PollStream<Stream>, PollStream<Stream>) {
    let (near, far) = world.pair();
    (PollStream::new(Stream::adopt(near)), PollStream::new(Stream::adopt(far)))
}

/// Writes so many bytes in pieces of any kind and length, and closes.
async fn write(stream: &mut PollStream<Stream>, mut random: Random, key: u64, count: u64) {
    let mut sent = 0;
    while sent < count {
        let length = random.scale((count - sent).min(40_000)) as usize;
        let piece = bytes(key, sent, length);
        let written = match random.below(3) {
            0 => {
                let (first, second) = piece.split_at(random.below(length as u64 + 1) as usize);
                let slices = [IoSlice::new(first), IoSlice::new(&[]), IoSlice::new(second)];
                stream.write_vectored(&slices).await.unwrap()
            }
            _ => stream.write(&piece).await.unwrap(),
        };
        assert_eq!(written, length.min(LARGEST));
        sent += written as u64;
        if random.chance(10) {
            stream.flush().await.unwrap();
        }
        if random.chance(2) {
            sleep(milliseconds(random.below(50))).await;
        }
    }
    stream.close().await.unwrap();
    stream.close().await.unwrap();
    assert_eq!(stream.write(b"more").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

/// Reads to the end, in pieces of any length, and gives how much there was.
async fn read(stream: &mut PollStream<Stream>, mut random: Random, key: u64) -> u64 {
    let mut received = 0;
    let mut buffer = [0; 6000];
    loop {
        let (first, second) = buffer.split_at_mut(random.scale(5000) as usize);
        let read = match random.chance(30) {
            true => {
                let second = &mut second[..random.below(900) as usize];
                let mut slices = [IoSliceMut::new(first), IoSliceMut::new(second)];
                stream.read_vectored(&mut slices).await.unwrap()
            }
            false => stream.read(first).await.unwrap(),
        };
        if read == 0 {
            assert_eq!(stream.read(&mut buffer).await.unwrap(), 0, "an end is for ever");
            return received;
        }
        check(&buffer[..read], key, received);
        received += read as u64;
        if random.chance(2) {
            sleep(milliseconds(random.below(50))).await;
        }
    }
}

fn check(got: &[u8], key: u64, from: u64) {
    for (at, got) in (from..).zip(got) {
        assert_eq!(*got, byte(key, at), "byte {at} is another");
    }
}

#[test]
fn every_byte_arrives_both_ways_and_each_direction_ends_by_itself() {
    simulate(|world| async move {
        let mut random = world.random();
        let most = world.stride() * 200;
        let counts = [random.scale(most), random.scale(most)];
        let (mut near, mut far) = pair(&world);
        let (writes, reads) = (world.random(), world.random());
        let asking = spawn(async move {
            write(&mut near, writes, 0, counts[0]).await;
            read(&mut near, reads, 1).await
        });
        assert_eq!(read(&mut far, world.random(), 0).await, counts[0]);
        write(&mut far, world.random(), 1, counts[1]).await;
        assert_eq!(asking.await.unwrap(), counts[1]);
    });
}

/// Reads in a task of its own.
fn reading(world: &World, mut stream: PollStream<Stream>, key: u64) -> JoinHandle<u64> {
    let random = world.random();
    spawn(async move { read(&mut stream, random, key).await })
}

#[test]
fn what_is_lent_stays_until_it_is_consumed() {
    simulate(|world| async move {
        let mut random = world.random();
        let count = random.scale(world.stride() * 100);
        let (mut near, mut far) = pair(&world);
        let writes = world.random();
        let writing = spawn(async move { write(&mut near, writes, 7, count).await });
        let mut received = 0;
        loop {
            let lent = far.fill_buf().await.unwrap().to_vec();
            if lent.is_empty() {
                break;
            }
            check(&lent, 7, received);
            // Dropped futures take nothing along.
            let again = timeout(milliseconds(1), far.fill_buf()).await.unwrap().unwrap();
            assert_eq!(again, lent);
            let consumed = random.below(lent.len() as u64 + 1);
            far.consume(consumed as usize);
            received += consumed;
            if random.chance(5) {
                // What was not read is received first.
                let mut stream = far.into_inner();
                let chunk = stream.receive().await.unwrap();
                let chunk = chunk.as_deref().unwrap_or_default();
                check(chunk, 7, received);
                received += chunk.len() as u64;
                far = PollStream::new(stream);
            }
        }
        assert_eq!(received, count);
        writing.await.unwrap();
    });
}

#[test]
fn an_unread_peer_stops_the_writer_and_nothing_is_lost() {
    let fast = |_: &mut Random, behaviour: &mut Behaviour| {
        behaviour.window = behaviour.window.max(4 << 10);
        behaviour.small.1 = behaviour.small.1.max(1 << 10);
    };
    simulate_with(fast, |world| async move {
        let (mut near, far) = pair(&world);
        let behaviour = world.behaviour();
        let most = CREDIT as usize + LARGEST + behaviour.window + behaviour.send_buffer;
        let count = 2 * most as u64;
        let mut written = 0;
        let writing = async {
            while written < count {
                let piece = bytes(3, written, (count - written).min(20_000) as usize);
                written += near.write(&piece).await.unwrap() as u64;
            }
        };
        assert!(timeout(milliseconds(2000), writing).await.is_err(), "it is not stopped");
        assert!(written as usize <= most, "{written} bytes were taken");
        if world.random().chance(30) {
            // In the middle of it. The other side has a part, and the end or a reset.
            drop(near);
            let mut far = far.into_inner();
            let mut received = 0;
            while let Ok(Some(chunk)) = far.receive().await {
                check(&chunk, 3, received);
                received += chunk.len() as u64;
            }
            assert!(received <= written);
            return;
        }
        let reading = reading(&world, far, 3);
        let rest = bytes(3, written, (count - written) as usize);
        near.write_all(&rest).await.unwrap();
        near.close().await.unwrap();
        assert_eq!(reading.await.unwrap(), count);
    });
}

#[test]
fn what_was_flushed_arrives_though_the_stream_is_dropped() {
    simulate(|world| async move {
        let count = world.random().scale(world.stride() * 20);
        let (mut near, far) = pair(&world);
        let reading = reading(&world, far, 5);
        near.write_all(&bytes(5, 0, count as usize)).await.unwrap();
        near.flush().await.unwrap();
        drop(near);
        assert_eq!(reading.await.unwrap(), count);
    });
}

#[test]
fn a_reset_is_no_end() {
    simulate(|world| async move {
        let (mut near, far) = pair(&world);
        near.write_all(b"a").await.unwrap();
        near.flush().await.unwrap();
        let mut far = far.into_inner();
        far.receive().await.unwrap().unwrap();
        far.reset_on_drop();
        drop(far);
        let error = near.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}
