//! Connections through the relay, both ends of which the test holds, on one thread.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::process::RelayProcess;

/// Both ends of a relayed connection.
pub(crate) struct Relayed {
    pub(crate) client: TcpStream,
    pub(crate) origin: TcpStream,
}

/// Opens connections one by one, so that each client is joined to the origin beside it.
pub(crate) fn open(relay: &RelayProcess, connections: usize) -> Vec<Relayed> {
    let open_one = |_| {
        let client = TcpStream::connect(relay.address).unwrap();
        let (origin, _) = relay.upstream.accept().unwrap();
        for stream in [&client, &origin] {
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.set_nodelay(true).unwrap();
        }
        Relayed { client, origin }
    };
    (0..connections).map(open_one).collect()
}

/// Sends a small message over every connection and answers it. Two relayed messages a connection.
pub(crate) fn round_trip(connections: &mut [Relayed]) {
    let mut message = [0; 64];
    for relayed in &mut *connections {
        relayed.client.write_all(&message).unwrap();
    }
    for relayed in &mut *connections {
        relayed.origin.read_exact(&mut message).unwrap();
    }
    for relayed in &mut *connections {
        relayed.origin.write_all(&message).unwrap();
    }
    for relayed in &mut *connections {
        relayed.client.read_exact(&mut message).unwrap();
    }
}
