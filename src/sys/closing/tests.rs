use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};

use super::*;

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A client whose connect has been started, optionally deaf to what the server answers.
fn start_connecting(to: SocketAddr, deaf: bool) -> Socket {
    let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    client.set_nonblocking(true).unwrap();
    if deaf {
        let ret_drop = SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, DROP);
        client.attach_filter(&[ret_drop]).unwrap();
    }
    let started = client.connect(&to.into());
    assert!(matches!(started, Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS)));
    client
}

fn connects_within(client: &Socket, limit: Duration) -> bool {
    let timeout = Timespec::try_from(limit).unwrap();
    let mut fds = [PollFd::new(client, PollFlags::OUT)];
    poll(&mut fds, Some(&timeout)).unwrap() == 1 && client.peer_addr().is_ok()
}

fn accepts_within(listener: &TcpListener, limit: Duration) -> bool {
    let timeout = Timespec::try_from(limit).unwrap();
    poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&timeout)).unwrap() == 1
        && listener.accept().is_ok()
}

#[test]
fn the_accept_queue_is_reported() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(7).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    assert_eq!(accept_queue(&listener).unwrap(), AcceptQueue { length: 0, capacity: 7 });
    let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert_eq!(accept_queue(&listener).unwrap(), AcceptQueue { length: 3, capacity: 7 });
    listener.accept().unwrap();
    assert_eq!(accept_queue(&listener).unwrap().length, 2);
    drop(clients);
}

#[test]
fn the_accept_queue_of_a_unix_socket_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let listener = std::os::unix::net::UnixListener::bind(directory.path().join("s")).unwrap();
    assert!(accept_queue(&listener).is_err());
}

#[test]
fn new_handshakes_are_dropped_silently_and_retried() {
    let (listener, address) = listener();
    stop_new_handshakes(&listener).unwrap();
    let client = start_connecting(address, false);
    assert!(!connects_within(&client, Duration::from_millis(300)));
    assert_eq!(client.take_error().unwrap().map(|e| e.kind()), None);
    resume_new_handshakes(&listener).unwrap();
    assert!(connects_within(&client, Duration::from_secs(10)), "the SYN was not sent again");
    assert!(accepts_within(&listener, Duration::from_secs(1)));
}

#[test]
fn a_handshake_under_way_completes() {
    let (listener, address) = listener();
    let client = start_connecting(address, true);
    assert!(!connects_within(&client, Duration::from_millis(50)));
    stop_new_handshakes(&listener).unwrap();
    // From here on the client hears the SYN-ACK, which the server sends again, and answers it.
    client.detach_filter().unwrap();
    assert!(connects_within(&client, Duration::from_secs(10)));
    assert!(accepts_within(&listener, Duration::from_secs(1)));
}

#[test]
fn data_and_close_of_a_connection_accepted_under_the_filter_pass() {
    let (listener, address) = listener();
    let mut client = TcpStream::connect(address).unwrap();
    stop_new_handshakes(&listener).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    drop(listener);
    client.write_all(b"ping").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    server.set_nonblocking(false).unwrap();
    server.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"ping");
}

/// Clients connect as fast as they can while the listener closes. A client may be refused; one that got a connection
/// must get its answer on it.
#[test]
fn closing_under_a_storm_resets_nobody() {
    let (listener, address) = listener();
    let closed = AtomicBool::new(false);
    let (answered, cut) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let client = || {
        while !closed.load(Ordering::Relaxed) {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            // A dropped SYN is sent again after a second: that client has seen enough.
            match socket.connect_timeout(&address.into(), Duration::from_millis(500)) {
                Ok(()) => {}
                Err(_) => continue,
            }
            let mut stream = TcpStream::from(socket);
            let mut answer = [0; 1];
            match stream.write_all(b"?").and_then(|()| stream.read_exact(&mut answer)) {
                Ok(()) => answered.fetch_add(1, Ordering::Relaxed),
                Err(_) => cut.fetch_add(1, Ordering::Relaxed),
            };
            // Leaves no TIME_WAIT behind on the server's side.
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(client);
        }
        serve_until(&listener, Instant::now() + Duration::from_millis(100));
        stop_new_handshakes(&listener).unwrap();
        serve_until(&listener, Instant::now() + HANDSHAKE_GRACE);
        drop(listener);
        closed.store(true, Ordering::Relaxed);
    });
    assert_eq!(cut.into_inner(), 0, "connections were reset");
    assert!(answered.into_inner() > 0);
}

/// Answers each connection, until the time has come and the queue is empty.
fn serve_until(listener: &TcpListener, end: Instant) {
    loop {
        match listener.accept() {
            Ok((mut stream, _)) => {
                let _ = stream.set_nonblocking(false);
                let _ = stream.read(&mut [0; 1]).and_then(|_| stream.write(b"!"));
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                if Instant::now() >= end {
                    return;
                }
                thread::sleep(Duration::from_micros(100));
            }
        }
    }
}
