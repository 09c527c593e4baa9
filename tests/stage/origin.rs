//! Origins to relay to: blocking sockets, and a thread for each connection.

#![allow(dead_code, reason = "each test and benchmark uses its own part of this module")]

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

use socket2::{Domain, SockRef, Socket, Type};

/// Serves each connection on a thread of its own, until the process ends.
pub(crate) fn serve(listener: TcpListener, each: impl Fn(TcpStream) + Clone + Send + 'static) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let each = each.clone();
            thread::spawn(move || each(stream));
        }
    });
}

/// [`serve`] on a port of loopback, which is returned.
pub(crate) fn origin(each: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // A longer queue than a listener has by itself: a thousand may connect at once.
    SockRef::from(&listener).listen(4096).unwrap();
    let address = listener.local_addr().unwrap();
    serve(listener, each);
    address
}

/// An address that refuses connections: bound, so that nobody else gets the port while the tests
/// run, and not listening.
pub(crate) fn refusing_address() -> SocketAddr {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    std::mem::forget(socket);
    address
}

/// Echoes what each connection sends until it ends.
pub(crate) fn echo_origin() -> SocketAddr {
    origin(|stream| {
        let _ = echo(stream);
    })
}

/// Sends back what arrives, and passes the end of it on.
pub(crate) fn echo(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    io::copy(&mut &stream, &mut &stream)?;
    stream.shutdown(Shutdown::Write)
}
