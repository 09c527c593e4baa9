//! A process that runs out of descriptors, and gets some again.

use std::{
    fs::File,
    io::{BufRead, BufReader, Lines, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    thread,
    time::{Duration, Instant},
};

use evenkeel::{Connection, shard::Shard};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::{
    alone::{alone, is_alone},
    stage::{NAME, builder, client, eventually, listen, try_exchange},
};

const LIMIT: u64 = 128;

/// A proxy in a process of its own with few descriptors, one for each connection.
struct Limited {
    process: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Limited {
    fn start() -> Limited {
        let mut process = alone("descriptors::the_limit_is_survived")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = process.stdin.take().unwrap();
        let mut answers = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = answer(&mut answers, "SERVING");
        let mut addresses = line.split_once("SERVING ").unwrap().1.split(' ');
        let mut address = || addresses.next().unwrap().parse().unwrap();
        Limited { process, commands, answers, address: address(), admin: address() }
    }

    /// Has it carry out a command.
    fn tell(&mut self, command: &str) {
        writeln!(self.commands, "{command}").unwrap();
        answer(&mut self.answers, "DONE");
    }

    fn get(&self, path: &str) -> String {
        let mut stream = client(self.admin);
        write!(stream, "GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn metric(&self, series: &str) -> f64 {
        let metrics = self.get("/metrics");
        let value = metrics.lines().find_map(|line| line.strip_prefix(series));
        value.unwrap_or_else(|| panic!("no {series} in {metrics}")).trim().parse().unwrap()
    }

    fn accepting(&self) -> bool {
        self.metric("evenkeel_accepting{listener=\"plain\"}") > 0.0
    }

    /// The time that the acceptor's thread has run.
    fn acceptor_time(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let is_acceptor = |path: &std::path::PathBuf| {
            std::fs::read_to_string(path.join("comm")).unwrap().starts_with("evenkeel-acc")
        };
        let acceptor = tasks.map(|task| task.unwrap().path()).find(is_acceptor).unwrap();
        let run = std::fs::read_to_string(acceptor.join("schedstat")).unwrap();
        Duration::from_nanos(run.split(' ').next().unwrap().parse().unwrap())
    }
}

/// The next line that begins, behind what the test harness writes, with `mark`.
fn answer(lines: &mut Lines<BufReader<ChildStdout>>, mark: &str) -> String {
    lines.map(Result::unwrap).find(|line| line.contains(mark)).unwrap()
}

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the limited process does.
fn serve_limited() {
    setrlimit(Resource::Nofile, Rlimit { current: Some(LIMIT), maximum: Some(LIMIT) }).unwrap();
    let echo = |_: &Shard| {
        async |mut connection: Connection| {
            while let Ok(Some(chunk)) = connection.receive().await {
                if connection.send(chunk).await.is_err() {
                    return;
                }
            }
        }
    };
    let proxy = builder().shards(2).admin("127.0.0.1:0").listener(listen().serve(echo));
    let proxy = proxy.start().unwrap();
    println!("SERVING {} {}", proxy.local_addr(NAME).unwrap(), proxy.admin_addrs()[0]);
    let mut held = Vec::new();
    for command in std::io::stdin().lines() {
        match command.unwrap().as_str() {
            "hold" => held.extend((0..40).map(|_| File::open("/dev/null").unwrap())),
            "release" => held.clear(),
            other => panic!("{other:?} is no command"),
        }
        println!("DONE");
    }
}

/// Waits for the echo of a byte that was sent before.
fn is_served(client: &mut TcpStream, within: Duration) -> bool {
    client.set_read_timeout(Some(within)).unwrap();
    client.read_exact(&mut [0]).is_ok()
}

#[test]
fn the_limit_is_survived() {
    if is_alone() {
        return serve_limited();
    }
    let mut proxy = Limited::start();
    proxy.tell("hold");
    let mut clients: Vec<_> = (0..LIMIT).map(|_| client(proxy.address)).collect();
    for client in &mut clients {
        client.write_all(b"x").unwrap();
    }
    eventually("accepting pauses", || !proxy.accepting());
    let (mut served, mut waiting) = (Vec::new(), Vec::new());
    for mut client in clients {
        match is_served(
            &mut client,
            Duration::from_millis(if waiting.is_empty() { 300 } else { 1 }),
        ) {
            true => served.push(client),
            false => waiting.push(client),
        }
    }
    assert!(served.len() > 20 && waiting.len() > 50, "{} were served", served.len());
    assert!(
        proxy.metric("evenkeel_accept_errors_total{listener=\"plain\",reason=\"EMFILE\"}") > 0.0
    );
    assert!(proxy.get("/ready").starts_with("HTTP/1.1 200"), "ready at the limit");

    // By now the pauses are as long as they get.
    let (before, ran) = (Instant::now(), proxy.acceptor_time());
    thread::sleep(Duration::from_millis(1500));
    let share = (proxy.acceptor_time() - ran).as_secs_f64() / before.elapsed().as_secs_f64();
    assert!(share < 0.2, "a paused acceptor runs {share} of the time");
    served.iter_mut().for_each(|client| try_exchange(client, b"y").unwrap());

    // The oldest in the queue gets the place of one that leaves, long before a pause ends.
    drop(served.pop());
    let mut next = waiting.remove(0);
    assert!(is_served(&mut next, Duration::from_millis(150)), "the next in the queue");

    thread::sleep(Duration::from_millis(100));
    proxy.tell("release");
    for mut client in waiting.drain(..40) {
        assert!(is_served(&mut client, Duration::from_secs(3)), "once there are descriptors");
        served.push(client);
    }
    drop((served, waiting, next));
    eventually("accepting goes on", || proxy.accepting());
    let loads = [
        "evenkeel_shard_connections_active{shard=\"0\"}",
        "evenkeel_shard_connections_active{shard=\"1\"}",
    ];
    eventually("every load is zero", || loads.iter().all(|load| proxy.metric(load) == 0.0));
    assert!(proxy.get("/ready").starts_with("HTTP/1.1 200"));
}
