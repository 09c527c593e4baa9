//! A whole request through the HTTP proxy, over loopback and kept connections, beside the same request
//! straight to the origin.
//!
//! Client, proxy and origin share the machine's cores, so a request holds the scheduler's wake-ups of
//! all three, and the kernel's work for two connections instead of one. The difference between the two
//! is what the proxy adds.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Instant,
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use evenkeel::{
    Listener, Proxy,
    http::{Routes, proxy},
    upstream::{cluster::Cluster, settings::ClusterSettings},
};

const REQUEST: &[u8] = b"GET /reviews/7 HTTP/1.1\r\nHost: reviews:9080\r\nUser-Agent: bench/1\r\n\
    Accept: */*\r\n\r\n";

fn answer(length: usize) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n");
    let mut answer = head.into_bytes();
    answer.resize(answer.len() + length, b'x');
    answer
}

/// An origin that gives every request the same answer, each connection on a thread of its own.
fn origin(answer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || {
                stream.set_nodelay(true).unwrap();
                let mut buffer = [0; 4096];
                let mut filled = 0;
                while let Ok(length @ 1..) = stream.read(&mut buffer[filled..]) {
                    filled += length;
                    if buffer[..filled].ends_with(b"\r\n\r\n") {
                        filled = 0;
                        if stream.write_all(&answer).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

/// A client's connection, which takes answers of one length.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The length of an answer, from its first byte to its last.
    whole: usize,
}

impl Client {
    /// Connects, and finds out how long the answers are: the proxy writes heads of its own.
    fn connect(address: SocketAddr, body: usize) -> Client {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(REQUEST).unwrap();
        let mut buffer = Vec::new();
        let head = loop {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            buffer.push(byte[0]);
            if buffer.ends_with(b"\r\n\r\n") {
                break buffer.len();
            }
        };
        buffer.resize(head + body, 0);
        stream.read_exact(&mut buffer[head..]).unwrap();
        Client { stream, whole: buffer.len(), buffer }
    }

    fn ask(&mut self) {
        self.stream.write_all(REQUEST).unwrap();
        self.stream.read_exact(&mut self.buffer[..self.whole]).unwrap();
    }
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("http_proxy");
    for (name, body) in [("24_bytes", 24), ("64_kib", 64 << 10)] {
        let origin = origin(answer(body));
        let settings = ClusterSettings::builder("origin").endpoint(&origin.to_string());
        let cluster = Cluster::new(settings.build().unwrap(), Instant::now(), 1);
        let web = proxy(Routes::to(cluster));
        let listener = Listener::bind("127.0.0.1:0").unwrap().serve(web);
        let running = Proxy::builder().shards(1).listener(listener).start().unwrap();
        let proxied = running.local_addrs()[0].address.parse().unwrap();
        group.throughput(Throughput::Bytes(body as u64));
        for (way, address) in [("direct", origin), ("proxied", proxied)] {
            let mut client = Client::connect(address, body);
            group.bench_function(format!("{way}/{name}"), |b| b.iter(|| client.ask()));
        }
    }
}

criterion_group!(benches, requests);
criterion_main!(benches);
