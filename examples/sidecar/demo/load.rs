//! The clients of the demonstration: each has one connection and asks again as soon as it is
//! answered (a closed loop).
//!
//! In: where to connect. Out: how many requests were answered, client by client. It owns a thread a
//! client. It never opens a connection anew: one that fails is an error, not a lower number.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::origin::{END_OF_ANSWER, REQUEST};

/// Nothing on loopback takes this long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longer than any answer in this demonstration.
const MAX_ANSWER: usize = 1024;

/// Running clients. Dropping it stops them.
pub(super) struct Load {
    started: Instant,
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<io::Result<TcpStream>>>,
}

struct Shared {
    stop: AtomicBool,
    /// Requests that were answered, client by client.
    answered: Vec<AtomicU64>,
}

impl Load {
    /// Opens all connections and has each answered once; from then on requests count.
    pub(super) fn start(address: SocketAddr, connections: usize) -> io::Result<Load> {
        let opened: Vec<TcpStream> =
            (0..connections).map(|_| open(address)).collect::<io::Result<_>>()?;
        let answered = (0..connections).map(|_| AtomicU64::new(0)).collect();
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), answered });
        let clients = Vec::with_capacity(connections);
        let mut load = Load { started: Instant::now(), shared, clients };
        for (client, mut stream) in opened.into_iter().enumerate() {
            let shared = Arc::clone(&load.shared);
            let ask = move || {
                while !shared.stop.load(Relaxed) {
                    exchange(&mut stream)?;
                    shared.answered[client].fetch_add(1, Relaxed);
                }
                Ok(stream)
            };
            load.clients.push(thread::Builder::new().name("client".to_owned()).spawn(ask)?);
        }
        Ok(load)
    }

    /// How many requests were answered so far.
    pub(super) fn answered(&self) -> u64 {
        self.shared.answered.iter().map(|answered| answered.load(Relaxed)).sum()
    }

    /// Stops asking. Gives the requests a second of each client, and the connections, which stay
    /// open.
    pub(super) fn stop(&mut self) -> io::Result<(Vec<f64>, Vec<TcpStream>)> {
        self.shared.stop.store(true, Relaxed);
        let seconds = self.started.elapsed().as_secs_f64();
        let rate = |answered: &AtomicU64| answered.load(Relaxed) as f64 / seconds;
        let rates = self.shared.answered.iter().map(rate).collect();
        let join = |client: JoinHandle<io::Result<TcpStream>>| {
            client.join().unwrap_or_else(|_| Err(io::Error::other("a client panicked")))
        };
        let open = self.clients.drain(..).map(join).collect::<io::Result<_>>()?;
        Ok((rates, open))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
    }
}

fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    exchange(&mut stream)?;
    Ok(stream)
}

fn exchange(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(REQUEST)?;
    let mut answer = [0; MAX_ANSWER];
    let mut length = 0;
    // Its head is the proxies' own, which know better than the origin what to say about a connection.
    while !answer[..length].ends_with(END_OF_ANSWER) {
        match stream.read(&mut answer[length..]) {
            Ok(0) => return Err(invalid("an answer that does not end as the origin's does")),
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    match answer.starts_with(b"HTTP/1.1 200 ") {
        true => Ok(()),
        false => Err(invalid("that is not the origin's answer")),
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
