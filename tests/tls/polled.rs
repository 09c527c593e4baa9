//! Streams that are polled for bytes, with TLS in them.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr},
    sync::mpsc,
    thread,
    time::Duration,
};

use evenkeel::{Connection, Listener, Proxy, net::PollStream, shard::Shard, tls};
use futures_lite::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, io::split};
use rustls::{
    Error,
    version::{TLS12, TLS13},
};

use crate::{
    kernel,
    stage::{Server, client},
};

const LONG: Duration = Duration::from_secs(20);

/// What serves a connection, as one of these streams.
trait Serve: AsyncFn(PollStream<Connection>) -> io::Result<()> + Copy + Send + Sync + 'static {}
impl<S: AsyncFn(PollStream<Connection>) -> io::Result<()> + Copy + Send + Sync + 'static> Serve
    for S
{
}

/// A proxy that serves so, and how its connections have ended.
fn serve(
    server: &Server,
    serve: impl Serve,
) -> (Proxy, SocketAddr, mpsc::Receiver<io::Result<()>>) {
    let (ended, ends) = mpsc::channel();
    let service = tls::terminate(server.credentials(), move |_: &Shard| {
        let ended = ended.clone();
        async move |connection: Connection| {
            let _ = ended.send(serve(PollStream::new(connection)).await);
        }
    });
    let listener = Listener::bind("127.0.0.1:0").unwrap().named("polled").serve(service);
    let builder = Proxy::builder().capabilities(kernel::capabilities()).shards(1);
    let proxy = builder.listener(listener).start().unwrap();
    let address = proxy.local_addr("polled").unwrap();
    (proxy, address, ends)
}

fn numbers(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i * 7 % 251) as u8).collect()
}

#[test]
fn bytes_pass_both_ways_at_once() {
    let server = Server::new();
    let echo = async |stream: PollStream<Connection>| {
        assert!(stream.get_ref().tls().is_some());
        let (reader, mut writer) = split(stream);
        futures_lite::io::copy(reader, &mut writer).await?;
        writer.close().await
    };
    for version in [&TLS12, &TLS13] {
        let (_proxy, address, ends) = serve(&server, echo);
        let mut client = client(address, server.client(&[version]));
        let bytes = numbers(300_000);
        for piece in bytes.chunks(7001) {
            let mut received = vec![0; piece.len()];
            client.write_all(piece).unwrap();
            client.read_exact(&mut received).unwrap();
            assert!(received == piece);
        }
        client.conn.send_close_notify();
        client.flush().unwrap();
        // It says that this is the end: a client of rustls insists on that.
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
        ends.recv_timeout(LONG).unwrap().unwrap();
    }
}

#[test]
fn what_came_before_the_end_is_answered_after_it() {
    let server = Server::new();
    let answer = async |mut stream: PollStream<Connection>| {
        let mut asked = Vec::new();
        stream.read_to_end(&mut asked).await?;
        stream.write_all(&asked).await?;
        stream.close().await?;
        let error = stream.write(b"more").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        Ok(())
    };
    let (_proxy, address, ends) = serve(&server, answer);
    let mut client = client(address, server.client(&[&TLS13]));
    let bytes = numbers(200_000);
    client.write_all(&bytes).unwrap();
    client.conn.send_close_notify();
    client.flush().unwrap();
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    assert!(received == bytes);
    ends.recv_timeout(LONG).unwrap().unwrap();
}

/// Reads lines in the buffers that they came in.
async fn count_lines(mut stream: PollStream<Connection>) -> io::Result<()> {
    let (mut line, mut count) = (Vec::new(), 0u64);
    while stream.read_until(b'\n', &mut line).await? > 0 {
        count += 1;
        line.clear();
    }
    stream.write_all(&count.to_be_bytes()).await?;
    stream.close().await
}

#[test]
fn lines_are_read_across_records() {
    let server = Server::new();
    let (_proxy, address, ends) = serve(&server, count_lines);
    let mut client = client(address, server.client(&[&TLS13]));
    for part in ["one\ntw", "o\nthree", "\nfour"] {
        client.write_all(part.as_bytes()).unwrap();
        client.flush().unwrap();
        thread::sleep(Duration::from_millis(5));
    }
    client.conn.send_close_notify();
    client.flush().unwrap();
    let mut count = [0; 8];
    client.read_exact(&mut count).unwrap();
    assert_eq!(u64::from_be_bytes(count), 4);
    ends.recv_timeout(LONG).unwrap().unwrap();
}

#[test]
fn a_cut_off_stream_and_what_is_no_tls_are_no_end() {
    let server = Server::new();
    let greet_and_read = async |mut stream: PollStream<Connection>| {
        stream.write_all(b"welcome").await?;
        stream.read_to_end(&mut Vec::new()).await.map(drop)
    };
    for (behind, kind) in [
        (&b""[..], ErrorKind::UnexpectedEof),
        (b"\x17\x03\x03\x00\x20", ErrorKind::UnexpectedEof),
        (b"this is no record of TLS", ErrorKind::InvalidData),
    ] {
        let (_proxy, address, ends) = serve(&server, greet_and_read);
        let mut client = client(address, server.client(&[&TLS13]));
        // What comes before is a part of the handshake to the server.
        client.read_exact(&mut [0; 7]).unwrap();
        client.write_all(b"some").unwrap();
        client.flush().unwrap();
        client.sock.write_all(behind).unwrap();
        client.sock.shutdown(Shutdown::Write).unwrap();
        let error = ends.recv_timeout(LONG).unwrap().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.get_ref().is_some_and(|it| it.is::<tls::StreamError>()), "{error:?}");
    }
}

#[test]
fn dropped_in_the_middle_of_a_write_it_is_cut_off_for_the_peer() {
    let server = Server::new();
    let write = async |mut stream: PollStream<Connection>| {
        let bytes = numbers(16 << 20);
        let writing = stream.write_all(&bytes);
        let wrote = evenkeel::runtime::timeout(Duration::from_millis(300), writing).await;
        assert!(wrote.is_err(), "nobody reads, and it is written");
        Ok(())
    };
    let (_proxy, address, ends) = serve(&server, write);
    let mut client = client(address, server.client(&[&TLS13]));
    client.conn.complete_io(&mut client.sock).unwrap();
    ends.recv_timeout(LONG).unwrap().unwrap();
    let mut received = Vec::new();
    let error = client.read_to_end(&mut received).unwrap_err();
    assert!(
        [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset].contains(&error.kind())
            || error.downcast::<Error>().is_ok()
    );
    assert!(numbers(16 << 20).starts_with(&received));
}

/// With the traits of tokio: hyper.
#[cfg(feature = "tokio")]
#[test]
fn hyper_serves_over_tls() {
    use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
    use hyper_util::rt::TokioIo;

    let server = Server::new();
    let answer = async |stream: PollStream<Connection>| {
        let answer = service_fn(async |request: Request<Incoming>| {
            Ok::<_, hyper::Error>(Response::new(format!("for {}", request.uri().path())))
        });
        let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
        serving.await.map_err(io::Error::other)
    };
    let (_proxy, address, ends) = serve(&server, answer);
    let mut client = client(address, server.client(&[&TLS13]));
    for (path, connection) in [("one", "keep-alive"), ("two", "close")] {
        let request =
            format!("GET /{path} HTTP/1.1\r\nHost: a\r\nConnection: {connection}\r\n\r\n");
        client.write_all(request.as_bytes()).unwrap();
        client.flush().unwrap();
        let mut received = Vec::new();
        let body = format!("\r\n\r\nfor /{path}");
        while !received.ends_with(body.as_bytes()) {
            let mut buffer = [0; 4096];
            let read = client.read(&mut buffer).unwrap();
            assert!(read > 0, "{}", received.escape_ascii());
            received.extend_from_slice(&buffer[..read]);
        }
        assert!(received.starts_with(b"HTTP/1.1 200 "));
    }
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    ends.recv_timeout(LONG).unwrap().unwrap();
}
