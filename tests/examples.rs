//! The examples, as somebody meets them who runs them for the first time.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::OnceLock,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

#[cfg(feature = "glommio")]
#[path = "stage/driver.rs"]
mod driver;
#[cfg(feature = "glommio")]
#[path = "stage/seccomp.rs"]
mod seccomp;

/// An example that cargo has built beside this test, or builds now if only this test was asked for.
fn example(name: &str) -> Command {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let test = env::current_exe().unwrap();
        let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
        let folder = profile.join("examples");
        let guests = [
            ("tokio", cfg!(feature = "tokio"), &["tokio_axum", "tokio_relay", "hyper"][..]),
            ("glommio", cfg!(feature = "glommio"), &["glommio_echo"]),
        ];
        let guests = guests.iter().filter(|(_, enabled, _)| *enabled);
        let of_guests = guests.clone().flat_map(|(_, _, examples)| examples.iter());
        let mut examples = ["sidecar", "relay", "mtls", "balance_policy"].iter().chain(of_guests);
        if examples.any(|name| !folder.join(name).exists()) {
            let built = Command::new(env!("CARGO"))
                .args(["build", "--quiet", "--examples"])
                .args(guests.flat_map(|(feature, _, _)| ["--features", feature]))
                .args(profile.ends_with("release").then_some("--release"))
                .status();
            assert!(built.unwrap().success());
        }
        folder
    });
    Command::new(folder.join(name))
}

/// An example that runs until it is interrupted; killed if the test fails before.
struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    fn start(command: &mut Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Running { child, lines }
    }

    /// Reads until a line contains `what`. Gives all that was read.
    fn read_until(&mut self, what: &str) -> String {
        let mut text = String::new();
        while !text.lines().last().is_some_and(|line| line.contains(what)) {
            assert_ne!(self.lines.read_line(&mut text).unwrap(), 0, "no {what:?} in {text}");
        }
        text
    }

    /// Sends SIGINT, as Ctrl-C does. Gives the exit code and what was still printed.
    fn interrupt(mut self) -> (Option<i32>, String) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn printed(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

/// The connections of each shard and the spread in the demonstration's summary.
fn summary(text: &str, balance: &str, proxy: &str) -> (Vec<u32>, u32) {
    let (_, summary) = text.split_once("Connections of each shard").unwrap();
    let mut lines = summary.lines().skip_while(|line| *line != balance).skip(1);
    let line = lines.find(|line| line.trim_start().starts_with(proxy)).unwrap();
    let (carried, spread) = line.split_once("spread").unwrap();
    let carried = carried.split_whitespace().skip(1).map(|number| number.parse().unwrap());
    (carried.collect(), spread.trim().parse().unwrap())
}

#[test]
fn the_demonstration_shows_an_uneven_and_an_even_proxy() {
    let output = example("sidecar").arg("--once").output().unwrap();
    let text = printed(&output);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(output.stderr, b"", "{output:?}");
    assert!(!text.contains('\x1b'), "no escapes where it is no terminal: {text}");
    let driver = match evenkeel::ring::Capabilities::probe() {
        Ok(_) => "Both run on io_uring.".to_owned(),
        Err(refused) => format!("Both run on epoll, since {refused}"),
    };
    assert!(text.contains(&driver), "{text}");
    for balance in ["kernel", "least-connections"] {
        for proxy in ["outbound", "inbound"] {
            let (carried, spread) = summary(text, balance, proxy);
            assert!(carried.len() >= 4, "{text}");
            let (sum, most) = (carried.iter().sum::<u32>() as usize, 3 * carried.len());
            // Outbound's pools have no more connections to inbound than were needed at a time.
            assert!(sum == most || (proxy == "inbound" && (1..most).contains(&sum)), "{text}");
            assert_eq!(spread, carried.iter().max().unwrap() - carried.iter().min().unwrap());
            assert!(balance == "kernel" || spread <= 1, "{text}");
        }
    }
    let rates = text.lines().filter(|line| line.contains("of one connection"));
    let answered = rates.filter(|line| !line.trim_start().starts_with("0 requests"));
    assert_eq!(answered.count(), 2, "{text}");
    let verified = "inbound has verified spiffe://cluster.local/ns/demo/sa/outbound, TLSv1_3";
    assert_eq!(text.matches("inbound has verified").count(), 1, "{text}");
    assert!(text.contains(verified), "{text}");
}

#[test]
fn the_demonstration_stays_up_for_curl_until_it_is_interrupted() {
    let mut demonstration = Running::start(&mut example("sidecar"));
    let text = demonstration.read_until("Ctrl-C");
    let urls: Vec<_> = text.lines().filter_map(|line| line.split("curl http://").nth(1)).collect();
    let answer = |route: &str| {
        let url = urls.iter().find(|url| url.ends_with(route)).expect(route);
        let (address, path) = url.split_once('/').unwrap();
        let path = path.split_whitespace().next().unwrap_or_default();
        get(address, path)
    };
    assert!(answer("/ready").starts_with("HTTP/1.1 200 "));
    assert_eq!(answer("/shards").matches("\"connections\":3").count(), {
        let (carried, _) = summary(&text, "least-connections", "outbound");
        carried.len()
    });
    assert!(answer("/listeners").contains("\"outbound\""));
    assert!(answer("/metrics").contains("evenkeel_"));
    assert!(answer("(through both to the origin)").ends_with("hello\n"));
    let (code, rest) = demonstration.interrupt();
    assert_eq!((code, rest.trim()), (Some(0), "drained; 0 connections were cut"));
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_relay_carries_every_byte_both_ways() {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = origin.local_addr().unwrap().to_string();
    let mut relay = Running::start(example("relay").args(["127.0.0.1:0", &upstream]));
    let line = relay.read_until("listening on");
    let mut writer = TcpStream::connect(line.trim_start_matches("listening on ").trim()).unwrap();
    let mut reader = writer.try_clone().unwrap();
    reader.set_read_timeout(Some(Duration::from_secs(10))).unwrap();

    let sent: Vec<u8> = (0..3_000_001_u32).map(|index| (index % 251) as u8).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = origin.accept().unwrap();
            let mut echo = stream.try_clone().unwrap();
            std::io::copy(&mut stream, &mut echo).unwrap();
            echo.shutdown(Shutdown::Write).unwrap();
        });
        scope.spawn(|| {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        reader.read_to_end(&mut received).unwrap();
        assert!(received == sent, "{} bytes came back of {}", received.len(), sent.len());
    });
    assert_eq!(relay.interrupt(), (Some(0), String::new()));
}

/// The next connection; a failed test rather than one that waits for ever.
fn accepted(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    for _ in 0..1000 {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).unwrap();
            return stream;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("nobody has connected");
}

#[test]
fn bytes_pass_two_proxies_that_know_each_other() {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = origin.local_addr().unwrap().to_string();
    let mut mtls = Running::start(example("mtls").args(["127.0.0.1:0", &upstream]));
    let line = mtls.read_until("listening on");
    let mut client = TcpStream::connect(line.trim_start_matches("listening on ").trim()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client.write_all(b"hello").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut stream = accepted(&origin);
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    assert_eq!(received, b"hello");
    stream.write_all(b"and back").unwrap();
    drop(stream);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "and back");
    let seen = mtls.read_until("a connection of");
    assert_eq!(seen, "a connection of spiffe://example.org/client\n");
    assert_eq!(mtls.interrupt(), (Some(0), String::new()));
}

#[test]
fn the_relay_says_what_is_wrong_with_its_arguments() {
    for arguments in [&[][..], &["127.0.0.1:0"], &["127.0.0.1:0", "127.0.0.1:1", "more"]] {
        let output = example("relay").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            String::from_utf8_lossy(&output.stderr).starts_with("usage: relay LISTEN UPSTREAM")
        );
    }
    let output = example("relay").args(["nowhere", "127.0.0.1:1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nowhere"), "{output:?}");
}

#[test]
fn the_policy_of_two_choices_comes_close_to_even() {
    let runs: Vec<Vec<u32>> = (0..8).map(|_| carried_by_two_choices()).collect();
    for carried in &runs {
        assert_eq!((carried.len(), carried.iter().sum::<u32>()), (4, 100), "{carried:?}");
        // Pure chance would have a shard outside of this in every third run, two choices in fewer
        // than one of 10,000.
        assert!(carried.iter().all(|connections| (19..=31).contains(connections)), "{carried:?}");
    }
    // It is this policy that places connections, not the one that steps in for a broken one.
    assert!(runs.iter().any(|carried| *carried != [25; 4]), "{runs:?}");
}

/// Runs the example. Gives the connections of each shard.
fn carried_by_two_choices() -> Vec<u32> {
    let output = example("balance_policy").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let connections = printed(&output).lines().map(|line| {
        let (_, carried) = line.split_once(": ").unwrap();
        carried.strip_suffix(" connections").unwrap().parse().unwrap()
    });
    connections.collect()
}

/// An example of guests, with two shards. Gives the address on which it listens.
#[cfg(any(feature = "tokio", feature = "glommio"))]
fn guests(name: &str, variables: &[(&str, &str)]) -> (Running, String) {
    let mut command = example(name);
    command.envs([("EVENKEEL_LISTEN", "127.0.0.1:0"), ("EVENKEEL_SHARDS", "2")]);
    let mut running = Running::start(command.envs(variables.iter().copied()));
    let line = running.read_until("listening on");
    (running, line.trim_start_matches("listening on ").trim().to_owned())
}

#[cfg(any(feature = "tokio", feature = "glommio"))]
fn comes_back(address: &str) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(b"hello").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "hello");
}

#[cfg(feature = "tokio")]
#[test]
fn axum_answers_on_every_shard_and_shows_its_metrics() {
    // Free a moment ago; the example does not say which port its operators get.
    let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (axum, address) = guests("tokio_axum", &[("EVENKEEL_ADMIN", &admin)]);
    let answers: Vec<_> = (0..4).map(|_| get(&address, "")).collect();
    assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 200 ")), "{answers:?}");
    // Ties rotate.
    for greeting in ["hello from shard 0\n", "hello from shard 1\n"] {
        assert!(answers.iter().any(|answer| answer.ends_with(greeting)), "{answers:?}");
    }
    let metrics = get(&admin, "metrics");
    for shard in ["0", "1"] {
        let gauge = format!("evenkeel_shard_connections_active{{shard=\"{shard}\"}}");
        assert!(metrics.contains(&gauge), "{metrics}");
    }
    assert_eq!(axum.interrupt(), (Some(0), String::new()));
}

#[cfg(feature = "tokio")]
#[test]
fn hyper_answers_on_our_own_shards() {
    let mut hyper = Running::start(example("hyper").arg("127.0.0.1:0"));
    let line = hyper.read_until("listening on");
    let answer = get(line.trim_start_matches("listening on ").trim(), "reviews");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with(", for /reviews\n"), "{answer}");
    assert_eq!(hyper.interrupt(), (Some(0), String::new()));
}

#[cfg(feature = "tokio")]
#[test]
fn the_relay_of_tokio_relays() {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = origin.local_addr().unwrap().to_string();
    let (relay, address) = guests("tokio_relay", &[("EVENKEEL_UPSTREAM", &upstream)]);
    let echo = thread::spawn(move || {
        let (mut stream, _) = origin.accept().unwrap();
        std::io::copy(&mut stream.try_clone().unwrap(), &mut stream).unwrap();
    });
    comes_back(&address);
    echo.join().unwrap();
    assert_eq!(relay.interrupt(), (Some(0), String::new()));
}

#[cfg(feature = "glommio")]
#[test]
fn glommio_echoes() {
    if !driver::has_io_uring("glommio_echoes") {
        return;
    }
    let (echo, address) = guests("glommio_echo", &[("EVENKEEL_BALANCE", "round-robin")]);
    comes_back(&address);
    assert_eq!(echo.interrupt(), (Some(0), String::new()));
}

/// glommio itself would end the process, by a panic or without a word.
#[cfg(feature = "glommio")]
#[test]
fn glommio_is_not_touched_where_io_uring_is_refused() {
    use std::os::unix::process::CommandExt;
    let mut command = example("glommio_echo");
    command.env("EVENKEEL_LISTEN", "127.0.0.1:0");
    #[allow(unsafe_code, reason = "a seccomp filter is installed between fork and exec")]
    // SAFETY: what runs there only makes system calls.
    unsafe {
        command.pre_exec(|| seccomp::refuse_io_uring(libc::EPERM));
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("io_uring") && !said.contains("panicked"), "{said}");
}
