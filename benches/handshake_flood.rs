//! What a flood of TLS handshakes does to connections that are established: the time of a round trip
//! on these, without the flood and with it, by turns, on one shard.
//!
//! `cargo bench --bench handshake_flood [HANDSHAKES_A_SECOND]`

#[path = "../tests/stage/authority.rs"]
mod authority;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use evenkeel::{
    Connection, Listener, Proxy,
    shard::Shard,
    tls::{self, ServerCredentials, credentials::ServerSettings},
};
use hdrhistogram::Histogram;
use rustls::{
    ClientConfig, ClientConnection, StreamOwned, client::Resumption, crypto::aws_lc_rs,
    pki_types::ServerName,
};

use authority::Authority;

const ROUNDS: usize = 8;
const ROUND: Duration = Duration::from_secs(2);
/// Connections that are established, each with a round trip every so often.
const ESTABLISHED: usize = 4;
const PAUSE: Duration = Duration::from_millis(2);

/// Sends back what comes.
async fn echo(mut connection: Connection) {
    while let Ok(Some(chunk)) = connection.receive().await {
        if connection.start_send(chunk).is_err() {
            return;
        }
    }
}

fn connect(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut tls =
        StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), stream);
    round_trip(&mut tls);
    tls
}

fn round_trip(tls: &mut (impl Read + Write)) {
    let mut message = [7; 100];
    tls.write_all(&message).unwrap();
    tls.read_exact(&mut message).unwrap();
}

/// Of times, in nanoseconds.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1000, 60_000_000_000, 3).unwrap()
}

/// The times of round trips, until it is told to stop.
fn measure(address: SocketAddr, config: &Arc<ClientConfig>, stop: &AtomicBool) -> Histogram<u64> {
    let mut times = histogram();
    let mut tls = connect(address, config);
    while !stop.load(Relaxed) {
        let begun = Instant::now();
        round_trip(&mut tls);
        times.saturating_record(begun.elapsed().as_nanos() as u64);
        thread::sleep(PAUSE);
    }
    times
}

/// Connects so many times a second, with a whole handshake each time, until it is told to stop.
fn flood(address: SocketAddr, config: &Arc<ClientConfig>, rate: u32, stop: &AtomicBool) -> u64 {
    let begun = Instant::now();
    let mut done = 0;
    while !stop.load(Relaxed) {
        let due = Duration::from_secs(1) * done / rate;
        thread::sleep(due.saturating_sub(begun.elapsed()));
        connect(address, config);
        done += 1;
    }
    done.into()
}

fn main() {
    let rate = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(200);
    let authority = Authority::new("the authority");
    let mut settings = ServerSettings::new(authority.identity("spiffe://td/server").own());
    settings.clients = Some(authority.trust());
    let credentials = ServerCredentials::load("echo", settings).unwrap();
    let service = tls::terminate(credentials, |_: &Shard| echo);
    let listener = Listener::bind("127.0.0.1:0").unwrap().named("echo").serve(service);
    let proxy = Proxy::builder().shards(1).listener(listener).start().unwrap();
    let address = proxy.local_addr("echo").unwrap();
    let (chain, key) = authority.identity("spiffe://td/client").chain_and_key();
    let mut config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_client_auth_cert(chain, key)
        .unwrap();
    config.resumption = Resumption::disabled();
    let config = Arc::new(config);

    let mut times = [(); 2].map(|()| histogram());
    let handshakes = AtomicU64::new(0);
    for round in 0..2 * ROUNDS {
        let flooded = round % 2 == 1;
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let measuring: Vec<_> = (0..ESTABLISHED)
                .map(|_| scope.spawn(|| measure(address, &config, &stop)))
                .collect();
            for _ in 0..if flooded { 4 } else { 0 } {
                scope.spawn(|| {
                    handshakes.fetch_add(flood(address, &config, rate / 4, &stop), Relaxed);
                });
            }
            thread::sleep(ROUND);
            stop.store(true, Relaxed);
            for measured in measuring {
                times[usize::from(flooded)].add(measured.join().unwrap()).unwrap();
            }
        });
    }
    let a_second = handshakes.into_inner() as f64 / (ROUND * ROUNDS as u32).as_secs_f64();
    println!(
        "round trips of 100 bytes, in microseconds, over {ESTABLISHED} established connections"
    );
    for (what, times) in ["without handshakes", "with handshakes"].into_iter().zip(&times) {
        let at = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;
        println!(
            "{what:>18}: p50 {:.0}, p99 {:.0}, p99.9 {:.0}, of {}",
            at(0.5),
            at(0.99),
            at(0.999),
            times.len()
        );
    }
    println!("{a_second:.0} mutual handshakes a second");
}
