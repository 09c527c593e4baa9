//! A connection in the caller's hands: it says something when told to, and is held in between.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::exchange::{Exchange, Response};

/// Each source address lends this many ports, far fewer than the range of ephemeral ones.
const CONNECTIONS_PER_ADDRESS: usize = 8192;
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Held {
    socket: Socket,
    exchange: Exchange,
    response: Response,
}

impl Held {
    /// Connects, and says nothing yet.
    ///
    /// # Errors
    /// Refused, or not within 10 seconds.
    pub(crate) fn connect(proxy: SocketAddr, exchange: Exchange) -> io::Result<Self> {
        Self::connect_from(proxy, exchange, None)
    }

    /// Connects, and has one response, so that both sides of the proxy are up.
    ///
    /// # Errors
    /// As [`connect`](Self::connect) and [`exchange`](Self::exchange).
    pub(crate) fn open(proxy: SocketAddr, exchange: Exchange) -> io::Result<Self> {
        let mut held = Self::connect(proxy, exchange)?;
        held.exchange()?;
        Ok(held)
    }

    /// Opens `count` connections, from as many source addresses as that takes.
    ///
    /// # Errors
    /// As [`open`](Self::open), with the number of the connection.
    pub(crate) fn open_many(
        proxy: SocketAddr,
        exchange: Exchange,
        count: usize,
    ) -> io::Result<Vec<Self>> {
        (0..count)
            .map(|index| {
                let block = u8::try_from(index / CONNECTIONS_PER_ADDRESS).unwrap_or(u8::MAX - 2);
                let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2 + block));
                let open = || {
                    let mut held = Self::connect_from(proxy, exchange, Some(source))?;
                    held.exchange()?;
                    Ok(held)
                };
                open().map_err(|error: io::Error| {
                    io::Error::new(error.kind(), format!("held connection {index}: {error}"))
                })
            })
            .collect()
    }

    fn connect_from(
        proxy: SocketAddr,
        exchange: Exchange,
        source: Option<IpAddr>,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(proxy), Type::STREAM, Some(Protocol::TCP))?;
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        // Closing by a reset leaves no port in TIME_WAIT for the next peer to trip over.
        socket.set_linger(Some(Duration::ZERO))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_tcp_nodelay(true)?;
        // Not connect(): what a ring leaves behind at its end may interrupt a call that blocks.
        socket.connect_timeout(&proxy.into(), PATIENCE)?;
        Ok(Self { socket, exchange, response: exchange.response() })
    }

    /// One request and its response.
    ///
    /// # Errors
    /// The connection or the response ended early, or is not what it should be.
    pub(crate) fn exchange(&mut self) -> io::Result<()> {
        self.socket.write_all(self.exchange.request)?;
        let mut buffer = [0; 4096];
        loop {
            match self.socket.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) if self.response.feed(&buffer[..len]).map_err(io::Error::other)? => {
                    return Ok(());
                }
                Ok(_) => {}
            }
        }
    }
}
