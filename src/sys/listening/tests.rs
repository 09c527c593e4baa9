use std::{
    fs::File,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::{
        fd::AsRawFd,
        unix::net::{UnixDatagram, UnixListener, UnixStream},
    },
};

use rustix::io::fcntl_getfd;
use socket2::SockRef;

use super::*;
use crate::sys::limits;

fn listen_on(address: &str) -> Result<ListeningSocket, ListenError> {
    listen(&address.parse().unwrap(), &ListenOptions::default())
}

fn tcp_address(socket: &ListeningSocket) -> SocketAddr {
    match socket.local_address() {
        LocalAddress::Tcp(address) => *address,
        other => panic!("{other:?}"),
    }
}

fn failure(address: &str) -> (ListenStep, String) {
    let error = listen_on(address).unwrap_err();
    (error.step, error.to_string())
}

fn is_blocking_and_closed_on_exec(fd: impl AsFd) -> bool {
    !fcntl_getfl(&fd).unwrap().contains(OFlags::NONBLOCK)
        && fcntl_getfd(&fd).unwrap().contains(FdFlags::CLOEXEC)
}

#[test]
fn addresses_parse_and_print_the_same() {
    for text in ["127.0.0.1:80", "[::]:15006", "unix:/run/a b", "unix:relative", "fd:3"] {
        assert_eq!(text.parse::<BindAddress>().unwrap().to_string(), text);
    }
}

#[test]
fn bad_addresses_are_quoted() {
    for text in
        ["", "localhost:80", "1.2.3.4", "::1:80", "unix:", "unix:\0", "fd:", "fd:2", "fd:-1"]
    {
        let error = text.parse::<BindAddress>().unwrap_err().to_string();
        assert!(error.starts_with(&format!("`{text}` ")), "{error}");
    }
    for text in ["fd:+3", "fd:99999999999", "fd:3x"] {
        assert!(text.parse::<BindAddress>().is_err(), "{text}");
    }
}

#[test]
fn a_tcp_listener_has_its_real_port_and_takes_connections() {
    let socket = listen_on("127.0.0.1:0").unwrap();
    assert_ne!(tcp_address(&socket).port(), 0);
    assert!(is_blocking_and_closed_on_exec(&socket));
    assert!(!socket.is_inherited());
    TcpStream::connect(tcp_address(&socket)).unwrap();
}

#[test]
fn the_wildcard_of_ipv6_takes_ipv4_too() {
    let socket = listen_on("[::]:0").unwrap();
    TcpStream::connect(("127.0.0.1", tcp_address(&socket).port())).unwrap();
}

#[test]
fn an_address_in_use_is_named_with_the_remedy() {
    let first = listen_on("127.0.0.1:0").unwrap();
    let address = tcp_address(&first).to_string();
    let (_, text) = failure(&address);
    assert!(text.contains(&address) && text.contains("ss -ltnp"), "{text}");
}

#[test]
fn a_foreign_address_is_named_with_the_remedy() {
    let (step, text) = failure("192.0.2.1:0");
    assert_eq!(step, ListenStep::Bind);
    assert!(text.contains("192.0.2.1:0") && text.contains("no interface"), "{text}");
}

#[test]
fn remedies_name_the_missing_capability() {
    let error = |step, errno| ListenError {
        address: "0.0.0.0:80".parse().unwrap(),
        step,
        source: io::Error::from_raw_os_error(errno),
    };
    let text = error(ListenStep::Bind, libc::EACCES).to_string();
    assert!(text.contains("CAP_NET_BIND_SERVICE"), "{text}");
    let text = error(ListenStep::Transparent, libc::EPERM).to_string();
    assert!(text.contains("CAP_NET_ADMIN"), "{text}");
}

#[test]
fn a_transparent_listener_takes_foreign_addresses_or_is_plainly_refused() {
    let options = ListenOptions { transparent: true, ..ListenOptions::default() };
    // Documentation addresses, which no interface here has: only a transparent socket can bind to them.
    for address in ["192.0.2.1:0", "[2001:db8::1]:0"] {
        match listen(&address.parse().unwrap(), &options) {
            Ok(socket) => assert_ne!(tcp_address(&socket).port(), 0),
            Err(error) => {
                assert!(!limits::capabilities_of_thread().net_admin, "{error}");
                assert_eq!(error.step, ListenStep::Transparent);
                assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
            }
        }
    }
}

#[test]
fn reuse_port_lets_two_sockets_share_an_address() {
    let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
    let first = listen(&"127.0.0.1:0".parse().unwrap(), &options).unwrap();
    let address = BindAddress::Tcp(tcp_address(&first));
    assert!(listen(&address, &options).is_ok());
    assert!(listen(&address, &ListenOptions::default()).is_err());
}

#[test]
fn a_unix_socket_comes_and_goes_with_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let socket = listen_on(&format!("unix:{}", path.display())).unwrap();
    assert_eq!(*socket.local_address(), LocalAddress::Unix(Some(path.clone())));
    assert!(is_blocking_and_closed_on_exec(&socket));
    UnixStream::connect(&path).unwrap();
    drop(socket);
    assert!(!path.exists());
}

#[test]
fn a_stale_socket_file_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let _socket = listen_on(&format!("unix:{}", path.display())).unwrap();
    UnixStream::connect(&path).unwrap();
}

#[test]
fn a_file_in_use_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("taken");
    let address = format!("unix:{}", path.display());

    let listener = UnixListener::bind(&path).unwrap();
    let (step, text) = failure(&address);
    assert_eq!(step, ListenStep::RemoveStaleFile);
    assert!(text.contains(&address), "{text}");
    UnixStream::connect(&path).unwrap();
    drop(listener);
    fs::remove_file(&path).unwrap();

    let datagram = UnixDatagram::bind(&path).unwrap();
    assert_eq!(failure(&address).0, ListenStep::RemoveStaleFile);
    drop(datagram);
    fs::remove_file(&path).unwrap();

    File::create(&path).unwrap().write_all(b"precious").unwrap();
    assert_eq!(failure(&address).0, ListenStep::RemoveStaleFile);
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_file_that_another_process_put_there_since_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let ours = listen_on(&format!("unix:{}", path.display())).unwrap();
    fs::remove_file(&path).unwrap();
    let _theirs = UnixListener::bind(&path).unwrap();
    drop(ours);
    UnixStream::connect(&path).unwrap();
}

#[test]
fn unix_paths_that_cannot_be_are_errors() {
    assert_eq!(failure(&format!("unix:/tmp/{}", "x".repeat(200))).0, ListenStep::Bind);
    let (step, text) = failure("unix:/nonexistent/socket");
    assert_eq!(step, ListenStep::Bind);
    assert!(text.contains("directory"), "{text}");
}

#[test]
fn an_inherited_listener_is_used_and_survives_us() {
    let theirs = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = BindAddress::Inherited(theirs.as_raw_fd());
    for _ in 0..2 {
        let ours = listen(&address, &ListenOptions::default()).unwrap();
        assert!(ours.is_inherited());
        assert!(is_blocking_and_closed_on_exec(&ours));
        assert_eq!(tcp_address(&ours), theirs.local_addr().unwrap());
        let mut client = TcpStream::connect(tcp_address(&ours)).unwrap();
        let (connection, _) = SockRef::from(&ours).accept().unwrap();
        drop(connection);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
    TcpStream::connect(theirs.local_addr().unwrap()).unwrap();
}

#[test]
fn descriptors_that_do_not_listen_are_refused() {
    let file = File::open("/dev/null").unwrap();
    let connected = UnixStream::pair().unwrap().0;
    let datagram = UnixDatagram::unbound().unwrap();
    for fd in [file.as_raw_fd(), connected.as_raw_fd(), datagram.as_raw_fd()] {
        let (step, text) = failure(&format!("fd:{fd}"));
        assert_eq!(step, ListenStep::Inherit);
        assert!(text.contains("not a listening stream socket"), "{text}");
    }
    let (step, text) = failure("fd:1000000");
    assert_eq!(step, ListenStep::Inherit);
    assert!(text.contains("fd:1000000") && text.contains("no such descriptor"), "{text}");
}
