//! Origins, and clients, that refuse, hang, reset and half-close.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use evenkeel::telemetry::{CloseReason, ConnectFailure};
use socket2::{Domain, SockRef, Socket, Type};

use super::stage::{
    assert_quiet, client, echo_origin, eventually, exchange, origin, refusing_address, reset,
    start, to,
};

const BODY: usize = 10_000;

#[test]
fn an_origin_that_refuses_is_passed_over() {
    let (proxy, address) = start(1, to(&[refusing_address(), echo_origin()]));
    exchange(&mut client(address), b"hello");
    let cells = proxy.registry().cluster("plain", 0);
    assert_eq!(cells.connect_failures.value(ConnectFailure::Refused), 1);
    assert_eq!(cells.connections.value(), 1);
    assert_quiet(&proxy);
}

/// A listener whose accept queue is full, so that the kernel answers no SYN. It lasts as long as
/// what is returned.
fn hanging_origin() -> (SocketAddr, Socket, Vec<TcpStream>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        queued.push(stream);
    }
    (address, listener, queued)
}

#[test]
fn an_origin_that_hangs_costs_the_connect_timeout() {
    const LIMIT: Duration = Duration::from_millis(200);
    let (hanging, _listener, _queued) = hanging_origin();
    let (proxy, address) = start(1, to(&[hanging, echo_origin()]).connect_timeout(Some(LIMIT)));
    let before = Instant::now();
    exchange(&mut client(address), b"hello");
    assert!(before.elapsed() >= LIMIT, "the first address was tried");
    let cells = proxy.registry().cluster("plain", 0);
    assert_eq!(cells.connect_failures.value(ConnectFailure::Timeout), 1);
    assert_quiet(&proxy);

    let (proxy, address) = start(1, to(&[hanging]).connect_timeout(Some(LIMIT)));
    let error = client(address).read_exact(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_quiet(&proxy);
    let closed = &proxy.registry().listener("plain", 0).closed;
    assert_eq!(closed.value(CloseReason::UpstreamFailed), 1);
}

#[test]
fn a_client_that_leaves_while_the_origin_hangs_is_forgotten() {
    let (hanging, _listener, _queued) = hanging_origin();
    let limit = Some(Duration::from_millis(200));
    let (proxy, address) = start(1, to(&[hanging]).connect_timeout(limit));
    drop(client(address));
    reset(client(address));
    eventually("both were served", || {
        proxy.registry().listener("plain", 0).connections.value() == 2
    });
    assert_quiet(&proxy);
}

#[test]
fn a_reset_of_the_origin_comes_after_the_bytes_before_it() {
    let resetting = origin(|mut stream| {
        stream.write_all(&[7; BODY]).unwrap();
        reset(stream);
    });
    let (proxy, address) = start(1, to(&[resetting]));
    let mut client = client(address);
    let mut received = Vec::new();
    let error = client.read_to_end(&mut received).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "after {} bytes", received.len());
    assert_eq!(received, [7; BODY]);
    assert_quiet(&proxy);
    let closed = &proxy.registry().listener("plain", 0).closed;
    assert_eq!(closed.value(CloseReason::UpstreamReset), 1);
}

#[test]
fn a_reset_of_the_client_comes_after_the_bytes_before_it() {
    let (told, results) = mpsc::channel();
    let listening = origin(move |mut stream| {
        let mut received = Vec::new();
        let error = stream.read_to_end(&mut received).map_err(|error| error.kind());
        told.send((error, received)).unwrap();
    });
    let (proxy, address) = start(1, to(&[listening]));
    let mut client = client(address);
    client.write_all(&[7; BODY]).unwrap();
    reset(client);
    let (result, received) = results.recv_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!(result, Err(ErrorKind::ConnectionReset));
    assert_eq!(received, [7; BODY]);
    assert_quiet(&proxy);
    let closed = &proxy.registry().listener("plain", 0).closed;
    assert_eq!(closed.value(CloseReason::DownstreamReset), 1);
}

#[test]
fn a_reset_after_the_origins_end_reaches_the_client() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = std::sync::Arc::new(std::sync::Mutex::new(gone));
    let ending = origin(move |stream| {
        stream.shutdown(Shutdown::Write).unwrap();
        let _ = gone.lock().unwrap().recv();
        reset(stream);
    });
    let (proxy, address) = start(1, to(&[ending]));
    let mut client = client(address);
    assert_eq!(
        client.read_to_end(&mut Vec::new()).unwrap(),
        0,
        "the end of the origin's direction"
    );
    assert!(client.take_error().unwrap().is_none());
    go.send(()).unwrap();
    eventually("the client is reset", || client.take_error().unwrap().is_some());
    assert_quiet(&proxy);
}

#[test]
fn a_reset_after_the_clients_end_reaches_the_origin() {
    let (told, results) = mpsc::channel();
    let waiting = origin(move |mut stream| {
        assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
        told.send(false).unwrap();
        eventually("the origin is reset", || stream.take_error().unwrap().is_some());
        told.send(true).unwrap();
    });
    let (proxy, address) = start(1, to(&[waiting]));
    let client = client(address);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(results.recv_timeout(Duration::from_secs(5)), Ok(false));
    reset(client);
    assert_eq!(results.recv_timeout(Duration::from_secs(5)), Ok(true));
    assert_quiet(&proxy);
}

#[test]
fn the_client_can_go_on_sending_after_the_origins_end() {
    const LENGTH: usize = 1 << 20;
    let (told, results) = mpsc::channel();
    let ending = origin(move |mut stream| {
        stream.write_all(b"bye").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        told.send(std::io::copy(&mut stream, &mut std::io::sink()).unwrap()).unwrap();
    });
    let (proxy, address) = start(1, to(&[ending]));
    let mut client = client(address);
    let mut farewell = String::new();
    client.read_to_string(&mut farewell).unwrap();
    assert_eq!(farewell, "bye");
    client.write_all(&vec![1; LENGTH]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(results.recv_timeout(Duration::from_secs(5)), Ok(LENGTH as u64));
    assert_quiet(&proxy);
    let closed = &proxy.registry().listener("plain", 0).closed;
    assert_eq!(closed.value(CloseReason::Done), 1);
}

#[test]
fn a_reset_is_seen_while_the_other_side_does_not_read() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = std::sync::Arc::new(std::sync::Mutex::new(gone));
    let flooding = origin(move |mut stream| {
        stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        while stream.write(&[1; 65536]).is_ok() {}
        let _ = gone.lock().unwrap().recv();
        reset(stream);
    });
    let (proxy, address) = start(1, to(&[flooding]));
    let client = client(address);
    SockRef::from(&client).set_recv_buffer_size(4096).unwrap();
    thread::sleep(Duration::from_millis(500));
    go.send(()).unwrap();
    eventually("the client is reset", || client.take_error().unwrap().is_some());
    assert_quiet(&proxy);
}
