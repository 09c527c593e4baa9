//! Two network namespaces with a cable between them, and whoever connects in them.
//!
//! The pod has 10.77.0.1 and fd77::1, its peer 10.77.0.2 and fd77::2, and beside them 10.77.0.3 and
//! fd77::3. What a thread opens inside [`Namespace::enter`] lives in that namespace, whoever uses it
//! later.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::thread::{Gid, LinkNameSpaceType, Uid};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Far above what loopback takes, far below what a reader of test output would wait for.
const PATIENCE: Duration = Duration::from_secs(5);

/// A named network namespace; taken away when dropped.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("evenkeel-rules-{}-{number}", std::process::id());
        run("ip", ["netns", "add", &name]);
        let namespace = Self { name };
        namespace.run("ip link set lo up");
        namespace
    }

    /// The pod and its peer.
    pub(crate) fn pair() -> (Self, Self) {
        let (pod, peer) = (Self::new(), Self::new());
        pod.run(&format!("ip link add eth0 type veth peer name eth0 netns {}", peer.name));
        for (namespace, host) in [(&pod, 1), (&peer, 2)] {
            namespace.run(&format!("ip addr add 10.77.0.{host}/24 dev eth0"));
            namespace.run(&format!("ip addr add fd77::{host}/64 dev eth0 nodad"));
            namespace.run("ip link set eth0 up");
        }
        peer.run("ip addr add 10.77.0.3/24 dev eth0");
        // Never the source of a connection that asks for none.
        peer.run("ip addr add fd77::3/64 dev eth0 nodad preferred_lft 0");
        (pod, peer)
    }

    /// Does `task` on a thread in this namespace, which the commands that it starts inherit.
    pub(crate) fn enter<T: Send>(&self, task: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            let namespace = File::open(format!("/run/netns/{}", self.name)).unwrap();
            let kind = Some(LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(namespace.as_fd(), kind).unwrap();
            task()
        };
        thread::scope(|scope| scope.spawn(inside).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs `line` (words separated by spaces), which must succeed, and returns what it printed.
    pub(crate) fn run(&self, line: &str) -> String {
        let mut words = line.split_ascii_whitespace();
        self.enter(|| run(words.next().unwrap(), words))
    }

    /// Runs a prepared command, whatever comes of it.
    pub(crate) fn output(&self, command: &mut Command) -> Output {
        self.enter(|| command.output().unwrap())
    }

    /// Serves every connection to `address`: sends a line that `banner` makes of it, and closes.
    /// The sockets live until the process ends.
    pub(crate) fn serve(
        &self,
        address: SocketAddr,
        transparent: bool,
        banner: impl Fn(&TcpStream, SocketAddr) -> String + Send + 'static,
    ) {
        let listener = self.enter(|| {
            let socket = tcp(address);
            socket.set_reuse_address(true).unwrap();
            if address.is_ipv6() {
                socket.set_only_v6(true).unwrap();
            }
            if transparent {
                set_transparent(&socket, address).unwrap();
            }
            socket.bind(&address.into()).unwrap();
            socket.listen(16).unwrap();
            std::net::TcpListener::from(socket)
        });
        thread::spawn(move || {
            while let Ok((mut stream, from)) = listener.accept() {
                // A client that has gone away notices nothing.
                let _ = writeln!(stream, "{}", banner(&stream, from));
            }
        });
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// Who connects, and from where.
#[derive(Clone, Copy, Default)]
pub(crate) struct Client {
    uid: u32,
    gid: u32,
    mark: Option<u32>,
    source: Option<IpAddr>,
}

impl Client {
    /// The application: an ordinary user.
    pub(crate) const APPLICATION: Self = Self { uid: 1000, gid: 1000, mark: None, source: None };

    pub(crate) const fn uid(self, uid: u32) -> Self {
        Self { uid, ..self }
    }

    pub(crate) const fn gid(self, gid: u32) -> Self {
        Self { gid, ..self }
    }

    pub(crate) fn mark(self, mark: u32) -> Self {
        Self { mark: Some(mark), ..self }
    }

    /// Any address, also one that is not this host's.
    pub(crate) fn source(self, source: &str) -> Self {
        Self { source: Some(source.parse().unwrap()), ..self }
    }

    /// Connects in `namespace` and returns the line that the server sends.
    pub(crate) fn connect(self, namespace: &Namespace, to: SocketAddr) -> String {
        namespace.enter(|| {
            let socket = self.socket(to);
            if let Some(mark) = self.mark {
                socket.set_mark(mark).unwrap();
            }
            if let Some(source) = self.source {
                set_transparent(&socket, to).unwrap();
                socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
            }
            let line = socket.connect_timeout(&to.into(), PATIENCE).and_then(|()| {
                socket.set_read_timeout(Some(PATIENCE))?;
                BufReader::new(TcpStream::from(socket)).lines().next().unwrap_or(Ok(String::new()))
            });
            line.unwrap_or_else(|error| format!("no connection: {error}"))
        })
    }

    /// A socket of this user and group. Its owner is who its maker was at the time, and ids belong to
    /// threads; so the thread can be root again for what only root may do.
    fn socket(self, to: SocketAddr) -> Socket {
        let become_user = |uid| {
            rustix::thread::set_thread_res_uid(None, Uid::from_raw(uid), None).unwrap();
        };
        let become_group = |gid| {
            rustix::thread::set_thread_res_gid(None, Gid::from_raw(gid), None).unwrap();
        };
        become_group(self.gid);
        become_user(self.uid);
        let socket = tcp(to);
        become_user(0);
        become_group(0);
        socket
    }
}

/// Where a redirected connection was going.
pub(crate) fn original_destination(stream: &TcpStream) -> SocketAddr {
    let socket = SockRef::from(stream);
    let address = match stream.local_addr().unwrap() {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    address.unwrap().as_socket().unwrap()
}

/// Lets a socket have addresses that are not this host's.
fn set_transparent(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        socket.set_ip_transparent_v6(true)
    } else {
        socket.set_ip_transparent_v4(true)
    }
}

fn tcp(address: SocketAddr) -> Socket {
    Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).unwrap()
}

fn run(program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {error}");
    String::from_utf8(output.stdout).unwrap()
}
