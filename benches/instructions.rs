//! How many instructions of its own a relay spends on a message, counted by valgrind: a figure that
//! does not swing with the machine. What the kernel spends is not in it.
//!
//! ```sh
//! apt-get install valgrind
//! cargo bench --bench instructions
//! ```
//!
//! The relays are the library's executor, streams and [`pipe`] on one thread, and the bare ring of the
//! side-by-side benchmark. It is no whole proxy, for valgrind runs one thread at a time and does not know that
//! io_uring_enter(2) waits: a shard that sleeps would keep the others from running for ever. Each relay
//! is run twice, with few rounds of messages and with many. The difference is reported, in which
//! starting, connecting and ending cancel out.

#[allow(dead_code, reason = "a part of another benchmark")]
#[path = "peers/src/roles/bare_ring.rs"]
mod bare_ring;
#[path = "../tests/stage/origin.rs"]
mod origin;
#[allow(dead_code, reason = "a part of another benchmark")]
#[path = "peers/src/ring/mod.rs"]
mod ring;
#[allow(dead_code, reason = "a part of another benchmark")]
#[path = "peers/src/work.rs"]
mod work;

use std::{
    env,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use evenkeel::{
    net::Stream,
    relay::{Timeouts, pipe},
    runtime::{block_on, spawn},
};

const MESSAGE: [u8; 64] = [7; 64];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--role", role, listen, upstream, connections] => {
            play(role, listen, upstream, connections)
        }
        _ if Command::new("valgrind").arg("--version").output().is_err() => {
            println!("instructions: not counted, as valgrind is not installed");
            Ok(())
        }
        _ => report(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn report() -> io::Result<()> {
    let upstream = origin::echo_origin();
    for connections in [1, 64] {
        for role in ["bare-ring", "evenkeel"] {
            let (few, many) = (20, 420);
            let more = count(role, upstream, connections, many)?.saturating_sub(count(
                role,
                upstream,
                connections,
                few,
            )?);
            // One message up and one down.
            let messages = 2 * u64::from(connections) * u64::from(many - few);
            let each = more / messages;
            println!("{role}, {connections} connections at once: {each} instructions a message");
        }
    }
    Ok(())
}

/// Instructions of a relay's whole life.
fn count(role: &str, upstream: SocketAddr, connections: u32, rounds: u32) -> io::Result<u64> {
    let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let relay = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args(["--role", role, &listen.to_string(), &upstream.to_string()])
        .arg(connections.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut relay = Relay(relay);
    let connecting = (0..connections).map(|_| connect(listen, &mut relay.0));
    let mut clients = connecting.collect::<io::Result<Vec<_>>>()?;
    for _ in 0..rounds {
        for client in &mut clients {
            client.write_all(&MESSAGE)?;
        }
        for client in &mut clients {
            client.read_exact(&mut [0; MESSAGE.len()])?;
        }
    }
    drop(clients);
    drop(relay.0.stdin.take());
    let mut said = String::new();
    if let Some(mut stderr) = relay.0.stderr.take() {
        stderr.read_to_string(&mut said)?;
    }
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    let count = collected.and_then(|(_, count)| count.trim().parse().ok());
    count.ok_or_else(|| io::Error::other(format!("valgrind counted nothing: {said}")))
}

/// Connects as soon as somebody listens, which takes a while under valgrind.
fn connect(listen: SocketAddr, relay: &mut Child) -> io::Result<TcpStream> {
    let started = Instant::now();
    loop {
        match TcpStream::connect(listen) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(Duration::from_secs(60)))?;
                return Ok(stream);
            }
            Err(error) if started.elapsed() > Duration::from_secs(60) => return Err(error),
            Err(error) if relay.try_wait()?.is_some() => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Ends the process with its last user.
struct Relay(Child);

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn play(role: &str, listen: &str, upstream: &str, connections: &str) -> io::Result<()> {
    let listen = listen.parse().map_err(io::Error::other)?;
    let upstream = upstream.parse().map_err(io::Error::other)?;
    match role {
        "bare-ring" => bare_ring::run(listen, upstream).map(drop),
        _ => relay(listen, upstream, connections.parse().map_err(io::Error::other)?),
    }
}

/// Relays so many connections until they have ended, on one thread.
fn relay(listen: SocketAddr, upstream: SocketAddr, connections: usize) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    block_on(async move {
        let mut relays = Vec::new();
        for _ in 0..connections {
            let (client, _) = listener.accept()?;
            client.set_nodelay(true)?;
            let mut downstream = Stream::adopt(client.into());
            let mut upstream = Stream::connect(upstream).await?;
            relays.push(spawn(async move {
                pipe(&mut downstream, &mut upstream, &Timeouts::default(), &()).await
            }));
        }
        for relay in relays {
            let _ = relay.await;
        }
        Ok(())
    })?
}
