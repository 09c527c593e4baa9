//! Origins to relay to, on loopback.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    sync::mpsc::{self, Receiver},
};

pub(crate) use super::stage::{echo_origin as echo, origin, refusing_address as refusing};

/// Sends the same to every connection and closes it.
pub(crate) fn greeter(greeting: &'static str) -> SocketAddr {
    origin(move |mut stream| {
        let _ = stream.write_all(greeting.as_bytes());
    })
}

/// Takes all that a connection sends until it ends, and gives it to the test.
pub(crate) fn recorder() -> (SocketAddr, Receiver<Vec<u8>>) {
    let (sender, receiver) = mpsc::channel();
    let address = origin(move |mut stream| {
        let mut all = Vec::new();
        if stream.read_to_end(&mut all).is_ok() {
            let _ = sender.send(all);
        }
    });
    (address, receiver)
}

/// Sends a message through an echo and expects it back.
pub(crate) fn exchange(stream: &mut (impl Read + Write), message: &[u8]) {
    stream.write_all(message).unwrap();
    let mut answer = vec![0; message.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, message);
}
