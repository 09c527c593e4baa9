//! What HTTP is carried by: TCP, as it is.

use std::net::{Shutdown, SocketAddr, TcpStream};

use evenkeel::{ServiceFactory, upstream::settings::ClusterBuilder};

pub(crate) const SCHEME: &str = "http";

/// One end of a connection.
pub(crate) type Socket = TcpStream;

pub(crate) fn connect(address: SocketAddr) -> Socket {
    TcpStream::connect(address).unwrap()
}

pub(crate) fn accept(stream: TcpStream) -> Socket {
    stream
}

/// Ends the sending direction in order.
pub(crate) fn finish(socket: &mut Socket) {
    let _ = socket.shutdown(Shutdown::Write);
}

/// Ends the connection with a reset.
pub(crate) fn reset(socket: Socket) {
    socket2::SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO)).unwrap();
}

/// How a proxy serves its clients.
pub(crate) fn serve(service: impl ServiceFactory) -> impl ServiceFactory {
    service
}

/// How a proxy connects to origins.
pub(crate) fn upstream(cluster: ClusterBuilder) -> ClusterBuilder {
    cluster
}
