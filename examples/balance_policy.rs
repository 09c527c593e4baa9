//! A balance policy of your own: the better of two shards picked at random.
//!
//! It looks at two loads where least connections looks at all of them, and comes close to even
//! (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001). Run it to see how
//! close: `cargo run --release --example balance_policy`.

use std::{
    hash::{BuildHasher, RandomState},
    io::{Read, Write},
    net::TcpStream,
};

use evenkeel::{
    Connection, Listener, Proxy,
    accept::{Balance, Policy},
    shard::{Shard, ShardLoad},
};

/// The state of the policy belongs to one acceptor, so it needs no lock.
#[derive(Default)]
struct TwoChoices {
    /// Freshly keyed for each acceptor: that makes its hashes random enough.
    random: RandomState,
    chosen: u64,
}

impl Policy for TwoChoices {
    fn choose(&mut self, loads: &[ShardLoad]) -> Option<usize> {
        self.chosen += 1;
        let random = self.random.hash_one(self.chosen);
        let shards = u64::try_from(loads.len()).ok()?;
        let picks = [random % shards, (random >> 32) % shards];
        // A shard that has died, or is at its limit, must not be chosen. Where both are such, the
        // answer is `None`, and the library places the connection by least connections.
        let picked = picks.iter().filter_map(|&pick| loads.get(usize::try_from(pick).ok()?));
        let better = picked.filter(|load| load.available).min_by_key(|load| load.connections)?;
        Some(better.shard)
    }
}

/// Says on which shard the connection is, and keeps it open until the client is gone.
async fn say_shard(mut connection: Connection) {
    let greeting = format!("you are on shard {}\n", connection.shard().index());
    if connection.send(greeting.into_bytes()).await.is_ok() {
        while let Ok(Some(_)) = connection.receive().await {}
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = Listener::bind("127.0.0.1:0")?.named("greeter").serve(|_: &Shard| say_shard);
    let proxy = Proxy::builder()
        .shards(4)
        .balance(Balance::custom(TwoChoices::default))
        .listener(listener)
        .start()?;
    let address = proxy.local_addr("greeter").ok_or("the greeter has no address")?;

    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut client = TcpStream::connect(address)?;
        // What it says is of no interest here; that it says something means that it is placed.
        client.read_exact(&mut [0; 8])?;
        client.write_all(b"thank you")?;
        clients.push(client);
    }
    for load in proxy.shards() {
        println!("shard {}: {} connections", load.shard, load.connections);
    }
    Ok(())
}
