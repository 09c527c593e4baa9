//! Origins to relay to, on loopback.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{self, Receiver},
    thread,
};

/// Serves each connection on a thread of its own.
pub(crate) fn origin(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Sends back what each connection sends, until it ends.
pub(crate) fn echo() -> SocketAddr {
    origin(|mut stream| {
        let mut writer = stream.try_clone().unwrap();
        let _ = std::io::copy(&mut stream, &mut writer);
        let _ = writer.shutdown(Shutdown::Write);
    })
}

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

/// An address at which nobody listens.
pub(crate) fn refusing() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Sends a message through an echo and expects it back.
pub(crate) fn exchange(stream: &mut (impl Read + Write), message: &[u8]) {
    stream.write_all(message).unwrap();
    let mut answer = vec![0; message.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, message);
}
