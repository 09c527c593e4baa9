//! Large bodies: whole, in order, and never held in memory.

use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use evenkeel::telemetry::{CodeClass, ResponseFlag};

use crate::{
    stage::{Origin, Stage, eventually, get, settings},
    wire::Wire,
};

const LENGTH: usize = 16 << 20;

/// A hash of bytes, independent of the pieces that they come in (FNV-1a).
fn hash(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

/// Bytes that are nowhere the same for long.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// In chunks of sizes that fit no buffer.
fn in_chunks(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, chunk) in body.chunks(70_001).enumerate() {
        let size = if index % 2 == 0 { chunk.len() } else { chunk.len().min(7) };
        for part in [&chunk[..size], &chunk[size..]].into_iter().filter(|part| !part.is_empty()) {
            write!(bytes, "{:X};ext\r\n", part.len()).unwrap();
            bytes.extend_from_slice(part);
            bytes.extend_from_slice(b"\r\n");
        }
    }
    bytes.extend_from_slice(b"0\r\nX-Sum: 1\r\n\r\n");
    bytes
}

/// Answers each request with its own body, framed as the request was.
fn mirror() -> Origin {
    Origin::new(|wire, _| {
        while let Some(request) = wire.request() {
            if request.field("transfer-encoding").is_some() {
                assert_eq!(request.trailers, "X-Sum: 1\r\n");
                wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                wire.send(in_chunks(&request.body));
            } else {
                wire.send(crate::stage::ok(&request.body));
            }
        }
    })
}

/// Sends on one thread and reads the answer on this one.
fn exchange(client: &mut Wire, request: Vec<u8>) -> crate::wire::Message {
    let mut writer = client.stream.try_clone().unwrap();
    let sending = thread::spawn(move || writer.write_all(&request).unwrap());
    let answer = client.answer();
    sending.join().unwrap();
    answer
}

#[test]
fn large_bodies_arrive_whole_and_the_connection_goes_on() {
    let body = pattern(LENGTH);
    let expected = hash(&body);
    let origin = mirror();
    // However long the hashes take, the connection is kept.
    let stage = Stage::of_cluster(settings("origin", &[origin.address]).pool_idle(None));
    let mut client = stage.client();
    let head = "POST / HTTP/1.1\r\nHost: a\r\n";
    let length = [format!("{head}Content-Length: {LENGTH}\r\n\r\n").as_bytes(), &body].concat();
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    let chunked = [chunked.as_bytes(), &in_chunks(&body)].concat();
    for request in [length, chunked] {
        let answer = exchange(&mut client, request);
        assert_eq!((answer.body.len(), hash(&answer.body)), (LENGTH, expected));
    }
    // Small messages again, over the same connections.
    for _ in 0..20 {
        let small = format!("{head}Content-Length: 2\r\n\r\nhi");
        assert_eq!(client.ask(small).text(), "hi");
    }
    assert_eq!(origin.connections(), 1);
    stage.counted(CodeClass::Success, ResponseFlag::None, 22);
    drop(client);
    stage.is_quiet();
}

/// Much more than the kernel's buffers of two connections hold.
const ENDLESS: usize = 256 << 20;

/// Writes until nobody takes any more; how much was taken is in `written`.
fn flood(mut stream: crate::transport::Socket, written: &AtomicUsize) {
    let piece = vec![b'x'; 64 << 10];
    stream.set_write_timeout(Some(Duration::from_millis(1500))).unwrap();
    while written.load(Relaxed) < ENDLESS {
        match stream.write(&piece) {
            Ok(length) => written.fetch_add(length, Relaxed),
            Err(_) => return,
        };
    }
}

#[test]
fn a_client_that_does_not_read_stops_the_origin() {
    let written = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&written);
    let origin = Origin::new(move |wire, _| {
        wire.request();
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {ENDLESS}\r\n\r\n"));
        flood(wire.stream.try_clone().unwrap(), &counter);
    });
    let stage = Stage::to(origin.address);
    let mut client = stage.client();
    client.send(get("/"));
    thread::sleep(Duration::from_secs(3));
    let taken = written.load(Relaxed);
    assert!(taken > 0 && taken < ENDLESS / 4, "{taken} bytes were taken for nobody");
    drop(client);
    stage.is_quiet();
}

#[test]
fn an_origin_that_does_not_read_stops_the_client() {
    let origin = Origin::new(|wire, _| {
        wire.head();
        thread::sleep(Duration::from_secs(8));
    });
    let stage = Stage::to(origin.address);
    let mut client = stage.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {ENDLESS}\r\n\r\n"));
    let written = AtomicUsize::new(0);
    flood(client.stream.try_clone().unwrap(), &written);
    let taken = written.load(Relaxed);
    assert!(taken > 0 && taken < ENDLESS / 4, "{taken} bytes were taken for nobody");
    drop(client);
    stage.is_quiet();
}

#[test]
fn one_byte_chunks_are_no_burden() {
    let origin = mirror();
    let stage = Stage::to(origin.address);
    let mut client = stage.client();
    let body = pattern(20_000);
    let mut request = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for byte in &body {
        request.extend_from_slice(&[b"1\r\n", &[*byte][..], b"\r\n"].concat());
    }
    request.extend_from_slice(b"0\r\nX-Sum: 1\r\n\r\n");
    assert_eq!(exchange(&mut client, request).body, body);
}

#[test]
fn both_directions_stream_at_the_same_time() {
    let origin = Origin::new(|wire, _| {
        let head = wire.head().unwrap();
        assert!(head.contains("chunked"));
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while let Some(line) = wire.until("\r\n") {
            let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
            let data = wire.exactly(size + 2).unwrap();
            wire.send([line.as_bytes(), &data].concat());
            if size == 0 {
                break;
            }
        }
    });
    let stage = Stage::to(origin.address);
    let mut client = stage.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert!(client.head().unwrap().contains("Connection: close"), "it came before the body's end");
    for number in 0..50 {
        let chunk = format!("2\r\n{number:02}\r\n");
        client.send(&chunk);
        assert_eq!(client.exactly(chunk.len()).unwrap(), chunk.as_bytes());
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.rest(), b"0\r\n\r\n");
    eventually("the exchange is counted", || {
        stage.ended(CodeClass::Success, ResponseFlag::None) == 1
    });
    let _ = client.stream.read(&mut [0]);
    stage.is_quiet();
}
