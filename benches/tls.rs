//! What TLS costs, both ends of it on one thread over a pair of sockets.
//!
//! A handshake is that of mutual TLS 1.3 with P-256 certificates. A message is sent by one end and read
//! whole by the other; beside it the same message without TLS, so that the difference is the records:
//! sealed once and opened once.

use std::{
    hint::black_box,
    os::unix::net::UnixStream,
    rc::Rc,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use evenkeel::{
    net::Stream,
    runtime::{block_on, spawn},
    tls::{
        self, ClientCredentials, Peers, ServerCredentials,
        credentials::{ClientSettings, OwnCertificate, ServerSettings, Source, Trust},
    },
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};

/// Both ends of a mesh's connection, with a certificate authority in common.
#[derive(Clone)]
struct Ends {
    server: ServerCredentials,
    client: ClientCredentials,
}

impl Ends {
    fn new(tickets: bool) -> Ends {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let own = || {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            let id = "spiffe://cluster.local/ns/bench/sa/end".try_into().unwrap();
            params.subject_alt_names = vec![SanType::URI(id)];
            let certificate = params.signed_by(&key, &issuer).unwrap();
            OwnCertificate {
                certificate: Source::memory("the certificate", certificate.pem()),
                key: Source::memory("the key", key.serialize_pem()),
            }
        };
        let peers = || Peers::parse(["spiffe://cluster.local/*"]).unwrap();
        let trust = || Trust::any(Source::memory("the root", issuer.pem())).peers(peers());
        let mut server = ServerSettings::new(own());
        server.clients = Some(trust());
        server.tickets = tickets;
        let mut client = ClientSettings::new(trust());
        client.own = Some(own());
        client.tickets = tickets;
        Ends {
            server: ServerCredentials::load("bench", server).unwrap(),
            client: ClientCredentials::load("bench", client).unwrap(),
        }
    }

    /// An established connection; `server` runs on the end of the server.
    async fn connect(&self) -> (Stream, Stream) {
        let (client, server) = UnixStream::pair().unwrap();
        let (mut client, mut server) = (Stream::adopt(client.into()), Stream::adopt(server.into()));
        let credentials = self.server.clone();
        let accepting = spawn(async move {
            tls::accept(&mut server, &credentials).await.unwrap();
            server
        });
        tls::connect(&mut client, &self.client).await.unwrap();
        (client, accepting.await.unwrap())
    }
}

fn handshakes(c: &mut Criterion) {
    let mut group = c.benchmark_group("handshake");
    for (name, tickets) in [("full", false), ("resumed", true)] {
        let ends = Ends::new(tickets);
        group.bench_function(name, |b| {
            b.iter_custom(|times| {
                let ends = ends.clone();
                block_on(async move {
                    let begun = Instant::now();
                    for _ in 0..times {
                        let (mut client, mut server) = ends.connect().await;
                        // The tickets come behind the handshake, with the first data.
                        server.send(&b"x"[..]).await.unwrap();
                        client.receive().await.unwrap();
                    }
                    begun.elapsed()
                })
                .unwrap()
            });
        });
    }
}

/// Sends messages of this length, and gives the time for them.
async fn send(mut from: Stream, mut to: Stream, length: usize, times: u64) -> Duration {
    let message = Rc::new(vec![7; length]);
    let begun = Instant::now();
    for _ in 0..times {
        let mut rest = &message[..];
        let mut missing = length;
        while missing > 0 {
            // As a relay has it: pieces of the size of a receive buffer.
            let (piece, after) = rest.split_at(rest.len().min(64 << 10));
            if !piece.is_empty() {
                let mut output = from.output();
                output.extend_from_slice(piece);
                from.send(output).await.unwrap();
                rest = after;
            }
            if let Some(chunk) = to.receive().await.unwrap() {
                missing -= black_box(chunk).len();
            }
        }
    }
    begun.elapsed()
}

fn records(c: &mut Criterion) {
    let ends = Ends::new(false);
    for (name, length) in [("1KiB", 1 << 10), ("1MiB", 1 << 20)] {
        let mut group = c.benchmark_group("records");
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(BenchmarkId::new("tls", name), |b| {
            b.iter_custom(|times| {
                let ends = ends.clone();
                block_on(async move {
                    let (client, server) = ends.connect().await;
                    client.set_bulk(length > 64 << 10);
                    server.set_bulk(length > 64 << 10);
                    send(client, server, length, times).await
                })
                .unwrap()
            });
        });
        group.bench_function(BenchmarkId::new("plain", name), |b| {
            b.iter_custom(|times| {
                block_on(async move {
                    let (client, server) = UnixStream::pair().unwrap();
                    let (client, server) =
                        (Stream::adopt(client.into()), Stream::adopt(server.into()));
                    client.set_bulk(length > 64 << 10);
                    server.set_bulk(length > 64 << 10);
                    send(client, server, length, times).await
                })
                .unwrap()
            });
        });
    }
}

criterion_group!(benches, handshakes, records);
criterion_main!(benches);
