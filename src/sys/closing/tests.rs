use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicUsize, Ordering},
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

fn poll_for(socket: impl AsFd, flags: PollFlags, limit: Duration) -> bool {
    let timeout = Timespec::try_from(limit).unwrap();
    poll(&mut [PollFd::new(&socket, flags)], Some(&timeout)).unwrap() == 1
}

fn connects_within(client: &Socket, limit: Duration) -> bool {
    poll_for(client, PollFlags::OUT, limit) && client.peer_addr().is_ok()
}

fn accepts_within(listener: &TcpListener, limit: Duration) -> bool {
    poll_for(listener, PollFlags::IN, limit) && listener.accept().is_ok()
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

/// The ways to stop new handshakes that this thread has the capabilities for.
fn ways(test: &str) -> Vec<NewHandshakes> {
    let mut ways = vec![NewHandshakes::Refused];
    if may_filter(test) {
        ways.push(NewHandshakes::Dropped);
    }
    ways
}

/// Whether packet filters can be used; says what is skipped otherwise.
fn may_filter(test: &str) -> bool {
    let (listener, _) = listener();
    let Err(error) = drop_new_handshakes(&SockRef::from(&listener)) else { return true };
    assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "SO_ATTACH_FILTER: {error}");
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: SO_ATTACH_FILTER: {error}");
    false
}

fn stop(listener: &TcpListener, way: NewHandshakes) {
    let listener = SockRef::from(listener);
    match way {
        NewHandshakes::Dropped => drop_new_handshakes(&listener).unwrap(),
        NewHandshakes::Refused => refuse_new_handshakes(&listener).unwrap(),
    }
}

#[test]
fn every_process_can_stop_new_handshakes() {
    let (listener, address) = listener();
    let waiting = TcpStream::connect(address).unwrap();
    let stopped = stop_new_handshakes(&listener).unwrap();
    let client = start_connecting(address, false);
    let answered = poll_for(&client, PollFlags::OUT, Duration::from_millis(300));
    assert_eq!(answered, stopped == NewHandshakes::Refused);
    assert!(client.peer_addr().is_err(), "it connected");
    assert!(accepts_within(&listener, Duration::from_secs(1)), "the queue was lost");
    drop(waiting);
}

#[test]
fn dropped_handshakes_begin_again_when_resumed() {
    if !may_filter("dropped_handshakes_begin_again_when_resumed") {
        return;
    }
    let (listener, address) = listener();
    stop(&listener, NewHandshakes::Dropped);
    let client = start_connecting(address, false);
    assert!(!poll_for(&client, PollFlags::OUT, Duration::from_millis(300)));
    resume_new_handshakes(&listener, NewHandshakes::Dropped).unwrap();
    assert!(connects_within(&client, Duration::from_secs(10)), "the SYN was not sent again");
    assert!(accepts_within(&listener, Duration::from_secs(1)));
}

#[test]
fn refused_handshakes_begin_again_when_resumed() {
    let (listener, address) = listener();
    stop(&listener, NewHandshakes::Refused);
    let refused = TcpStream::connect(address).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    match resume_new_handshakes(&listener, NewHandshakes::Refused) {
        Ok(()) => drop(TcpStream::connect(address).unwrap()),
        Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied),
    }
}

#[test]
fn a_handshake_under_way_completes() {
    // Making a client deaf takes a filter, whichever way the listener stops.
    if !may_filter("a_handshake_under_way_completes") {
        return;
    }
    for way in [NewHandshakes::Dropped, NewHandshakes::Refused] {
        let (listener, address) = listener();
        let client = start_connecting(address, true);
        assert!(!connects_within(&client, Duration::from_millis(50)));
        stop(&listener, way);
        // From here on the client hears the SYN-ACK, which the server sends again, and answers it.
        client.detach_filter().unwrap();
        assert!(connects_within(&client, Duration::from_secs(10)), "{way:?}");
        assert!(accepts_within(&listener, Duration::from_secs(1)), "{way:?}");
    }
}

#[test]
fn a_connection_accepted_after_the_stop_works() {
    for way in ways("a_connection_accepted_after_the_stop_works") {
        let (listener, address) = listener();
        let mut client = TcpStream::connect(address).unwrap();
        stop(&listener, way);
        let (mut server, _) = listener.accept().unwrap();
        drop(listener);
        client.write_all(b"ping").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut heard = Vec::new();
        server.set_nonblocking(false).unwrap();
        server.read_to_end(&mut heard).unwrap();
        server.write_all(b"pong").unwrap();
        assert_eq!(heard, b"ping");
        client.read_exact(&mut [0; 4]).unwrap();
    }
}

/// Clients connect as fast as they can while the listener closes. A client may be refused; one that got a connection
/// must get its answer on it.
#[test]
fn closing_under_a_storm_resets_nobody() {
    for way in ways("closing_under_a_storm_resets_nobody") {
        let (listener, address) = listener();
        let (answered, cut) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let start = Instant::now();
        let client = || {
            // The clients end by themselves, so that a server that fails does not leave the test hanging.
            while start.elapsed() < Duration::from_millis(200) {
                match ask(address) {
                    None => thread::sleep(Duration::from_millis(1)),
                    Some(true) => _ = answered.fetch_add(1, Ordering::Relaxed),
                    Some(false) => _ = cut.fetch_add(1, Ordering::Relaxed),
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(client);
            }
            serve_until(&listener, start + Duration::from_millis(100));
            stop(&listener, way);
            serve_until(&listener, Instant::now() + HANDSHAKE_GRACE);
            drop(listener);
        });
        assert_eq!(cut.into_inner(), 0, "connections were reset after {way:?}");
        assert!(answered.into_inner() > 0);
    }
}

/// Connects and waits for an answer: whether it came, `None` where there was no connection.
fn ask(address: SocketAddr) -> Option<bool> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // A dropped SYN is sent again after a second; a client that waits half of it has seen that no answer came.
    socket.connect_timeout(&address.into(), Duration::from_millis(500)).ok()?;
    // Closing leaves no TIME_WAIT behind.
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    let mut stream = TcpStream::from(socket);
    let answer = stream.write_all(b"?").and_then(|()| stream.read_exact(&mut [0; 1]));
    Some(answer.is_ok())
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
