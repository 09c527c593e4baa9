//! What a message costs in the HTTP/1 codec alone: heads parsed and written anew, chunked bodies.
//!
//! The request is what a browser sends (some 800 bytes, 16 fields), the response what it gets for it,
//! and beside them the short pair of a service in a mesh. Memory is warm, as on a shard that has served
//! a few requests.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use evenkeel::http::{
    BodyLength, Headers, Persistence, RequestHead, ResponseBody, ResponseHead,
    h1::{
        BodyReader, CHUNK_END, HeadLimits, HeadReader, RequestError, write_chunk_head,
        write_last_chunk,
    },
};
use std::{hint::black_box, num::NonZeroU64};

const BROWSER: &[u8] = b"GET /products/keels/lead?sort=price&page=2 HTTP/1.1\r\n\
    Host: shop.example.com\r\n\
    Connection: keep-alive\r\n\
    sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\", \"Google Chrome\";v=\"140\"\r\n\
    sec-ch-ua-mobile: ?0\r\n\
    sec-ch-ua-platform: \"Linux\"\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-User: ?1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Referer: https://shop.example.com/products/keels\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9\r\n\
    Cookie: session=5f2b8c1d9e7a4f60b3; theme=dark; basket=3\r\n\r\n";

const PAGE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Date: Mon, 23 Nov 2026 10:00:00 GMT\r\n\
    Content-Type: text/html; charset=utf-8\r\n\
    Content-Length: 48213\r\n\
    Connection: keep-alive\r\n\
    Cache-Control: private, max-age=0\r\n\
    ETag: \"5f2b8c1d9e7a4f60b3\"\r\n\
    Vary: Accept-Encoding\r\n\
    Strict-Transport-Security: max-age=31536000; includeSubDomains\r\n\
    X-Content-Type-Options: nosniff\r\n\
    Set-Cookie: session=5f2b8c1d9e7a4f60b3; Path=/; HttpOnly; Secure\r\n\r\n";

const CALL: &[u8] = b"GET /reviews/7 HTTP/1.1\r\nhost: reviews:9080\r\nuser-agent: reviews/1\r\n\
    accept: */*\r\nx-request-id: 0b6f5e7c\r\n\r\n";

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 24\r\n\r\n";

fn heads(c: &mut Criterion) {
    let limits = HeadLimits::default();
    let mut out = Vec::new();
    let mut group = c.benchmark_group("request_head");
    for (name, bytes) in [("browser", BROWSER), ("call", CALL)] {
        let mut head = RequestHead::new();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("parse", name), |b| {
            b.iter(|| head.parse(black_box(bytes), &limits));
        });
        group.bench_function(BenchmarkId::new("encode", name), |b| {
            b.iter(|| {
                out.clear();
                black_box(&head).encode(BodyLength::None, Persistence::Implied, &mut out);
            });
        });
        group.bench_function(BenchmarkId::new("parse_encode", name), |b| {
            let mut reader = HeadReader::new();
            b.iter(|| {
                let parse = |bytes: &[u8]| head.parse(bytes, &limits);
                let progress: Result<_, RequestError> =
                    reader.read(black_box(bytes), limits.bytes, parse);
                out.clear();
                head.encode(head.body(), Persistence::Implied, &mut out);
                (progress, out.len())
            });
        });
    }
    group.finish();
    let mut group = c.benchmark_group("response_head");
    for (name, bytes) in [("page", PAGE), ("answer", ANSWER)] {
        let mut head = ResponseHead::new();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("parse_encode", name), |b| {
            b.iter(|| {
                let parsed = head.parse(black_box(bytes), &limits);
                out.clear();
                let body = head.body(&::http::Method::GET);
                head.encode(body, Persistence::Implied, &mut out);
                (parsed, out.len())
            });
        });
    }
}

/// A body of 1 MiB in chunks of one size, received in pieces of 16 KiB.
fn chunked(c: &mut Criterion) {
    const BODY: u64 = 1 << 20;
    const PIECE: usize = 16 * 1024;
    let mut group = c.benchmark_group("chunked_decode_1_mib");
    group.throughput(Throughput::Bytes(BODY));
    for size in [64, 4096, 65536] {
        let mut bytes = Vec::new();
        for _ in 0..BODY / size {
            if let Some(size) = NonZeroU64::new(size) {
                write_chunk_head(size, &mut bytes);
            }
            bytes.resize(bytes.len() + size as usize, b'x');
            bytes.extend_from_slice(CHUNK_END);
        }
        write_last_chunk(&Headers::new(), &mut bytes);
        group.bench_function(BenchmarkId::new("chunk", size), |b| {
            b.iter(|| {
                let mut body = BodyReader::new(ResponseBody::Chunked, HeadLimits::default());
                for mut piece in black_box(&*bytes).chunks(PIECE) {
                    while !piece.is_empty() {
                        let Ok(part) = body.step(piece) else { return false };
                        piece = &piece[part.length()..];
                    }
                }
                body.is_done()
            });
        });
    }
}

criterion_group!(benches, heads, chunked);
criterion_main!(benches);
