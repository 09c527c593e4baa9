//! The admin server as its clients see it, over loopback sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use evenkeel::admin::{Builder, Error, Request, Response, Server, routes};
use evenkeel::telemetry::Registry;

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

fn server() -> Builder {
    Server::builder().listen(LOOPBACK.into()).get("/ready", routes::ready(|| Ok(()))).post(
        "/drain",
        |request| {
            let exit = request.query("exit").unwrap_or("true");
            let body = String::from_utf8_lossy(request.body());
            Response::text(202, format!("exit={exit} body={body}"))
        },
    )
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        let prefix = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(&prefix))
    }
}

/// Sends `bytes` and reads to the end of the stream.
fn exchange(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(bytes).unwrap();
    read_answer(&mut stream)
}

fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

fn request(address: SocketAddr, method: &str, target: &str) -> Answer {
    exchange(address, format!("{method} {target} HTTP/1.1\r\nHost: admin\r\n\r\n").as_bytes())
}

#[test]
fn ready_tells_the_reason() {
    let server = server()
        .get("/not", routes::ready(|| Err("shard 3 does not turn".to_owned())))
        .start()
        .unwrap();
    let address = server.local_addrs()[0];
    let ready = request(address, "GET", "/ready");
    assert_eq!((ready.status, ready.body.as_str()), (200, "ready\n"));
    assert_eq!(ready.field("Content-Length"), Some("6"));
    assert_eq!(ready.field("Connection"), Some("close"));
    let not = request(address, "GET", "/not");
    assert_eq!((not.status, not.body.as_str()), (503, "not ready: shard 3 does not turn\n"));
}

#[test]
fn listeners_and_shards_are_json_of_a_fixed_shape() {
    let registry = Arc::new(Registry::new(2));
    let cells = registry.listener("out \"bound\"", 1);
    cells.connections.add(5);
    cells.active.add(2);
    let rows = || {
        let name = "out \"bound\"".to_owned();
        vec![
            routes::ListenerRow { name, bind: Some("127.0.0.1:15001".to_owned()), matches: None },
            routes::ListenerRow {
                name: "reviews".to_owned(),
                bind: None,
                matches: Some("10.0.0.7:9080".to_owned()),
            },
        ]
    };
    let shard = || routes::ShardRow {
        driver: "io_uring",
        shard: 0,
        cpu: Some(3),
        connections: 7,
        weight: 9,
        busy_ratio: 0.25,
        free_buffers: 1000,
        total: 80,
    };
    let server = server()
        .get("/listeners", routes::listeners(registry, rows))
        .get(
            "/shards",
            routes::shards(move || vec![shard(), routes::ShardRow { cpu: None, ..shard() }]),
        )
        .start()
        .unwrap();
    let address = server.local_addrs()[0];
    let listeners = request(address, "GET", "/listeners");
    assert_eq!(listeners.field("Content-Type"), Some("application/json"));
    let listeners: serde_json::Value = serde_json::from_str(&listeners.body).unwrap();
    let expected = serde_json::json!({"listeners": [
        {"name": "out \"bound\"", "bind": "127.0.0.1:15001", "match": null, "shards": [
            {"shard": 0, "active": 0, "total": 0}, {"shard": 1, "active": 2, "total": 5}]},
        {"name": "reviews", "bind": null, "match": "10.0.0.7:9080", "shards": [
            {"shard": 0, "active": 0, "total": 0}, {"shard": 1, "active": 0, "total": 0}]},
    ]});
    assert_eq!(listeners, expected);
    let shards = request(address, "GET", "/shards").body;
    let shards: serde_json::Value = serde_json::from_str(&shards).unwrap();
    let row = |cpu: Option<u64>| {
        serde_json::json!({"shard": 0, "driver": "io_uring", "cpu": cpu, "connections": 7,
        "weight": 9, "busy_ratio": 0.25, "free_buffers": 1000, "total": 80})
    };
    assert_eq!(shards, serde_json::json!({"shards": [row(Some(3)), row(None)]}));
}

#[cfg(feature = "prometheus")]
#[test]
fn scrapes_at_the_same_time_all_get_the_metrics() {
    use evenkeel::telemetry::PrometheusRenderer;
    let registry = Arc::new(Registry::new(2));
    registry.listener("web", 0).connections.add(11);
    let renderer = PrometheusRenderer::new();
    let server = server()
        .get("/metrics", routes::metrics(move || renderer.render(&registry)))
        .start()
        .unwrap();
    let address = server.local_addrs()[0];
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let metrics = request(address, "GET", "/metrics");
                    assert_eq!(metrics.status, 200);
                    let expected = Some("text/plain; version=0.0.4; charset=utf-8");
                    assert_eq!(metrics.field("Content-Type"), expected);
                    let line =
                        "evenkeel_downstream_connections_total{listener=\"web\",shard=\"0\"} 11\n";
                    assert!(metrics.body.contains(line), "{}", metrics.body);
                }
            });
        }
    });
}

#[test]
fn methods_and_paths() {
    let server = server().start().unwrap();
    let address = server.local_addrs()[0];
    let by_get = request(address, "GET", "/drain");
    assert_eq!((by_get.status, by_get.field("Allow")), (405, Some("POST")));
    let by_post = request(address, "POST", "/ready");
    assert_eq!((by_post.status, by_post.field("Allow")), (405, Some("GET, HEAD")));
    assert_eq!(request(address, "BREW", "/ready").status, 405);
    let unknown = request(address, "GET", "/unknown");
    assert_eq!(unknown.status, 404);
    assert!(unknown.body.contains("GET  /ready\n"), "{}", unknown.body);
    assert!(unknown.body.contains("POST /drain\n"), "{}", unknown.body);
    let head = request(address, "HEAD", "/ready");
    assert_eq!(
        (head.status, head.field("Content-Length"), head.body.as_str()),
        (200, Some("6"), "")
    );
    let old = exchange(address, b"GET /ready HTTP/1.0\r\n\r\n");
    assert_eq!((old.status, old.body.as_str()), (200, "ready\n"));
}

#[test]
fn a_post_has_its_query_and_body() {
    let server = server().start().unwrap();
    let address = server.local_addrs()[0];
    let post = |fields: &str, body: &str| {
        let length = body.len();
        let head = format!(
            "POST /drain?exit=false HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{fields}\r\n"
        );
        exchange(address, format!("{head}{body}").as_bytes())
    };
    let answer = post("", "now");
    assert_eq!((answer.status, answer.body.as_str()), (202, "exit=false body=now"));
    let largest = "x".repeat(64 * 1024);
    assert_eq!(post("", &largest).body.len(), "exit=false body=".len() + largest.len());
    assert_eq!(post("", &format!("{largest}x")).status, 413);
    assert_eq!(post("Origin: http://evil.example\r\n", "").status, 403);
}

#[test]
fn a_client_that_waits_for_100_gets_it() {
    let server = server().start().unwrap();
    let mut stream = TcpStream::connect(server.local_addrs()[0]).unwrap();
    stream
        .write_all(
            b"POST /drain HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n",
        )
        .unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"ok").unwrap();
    assert_eq!(read_answer(&mut stream).body, "exit=true body=ok");
}

#[test]
fn bad_requests_are_told_so() {
    let server = server().start().unwrap();
    let address = server.local_addrs()[0];
    for (bytes, status) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], 400),
        (b"rubbish\r\n\r\n", 400),
        (b"GET /ready HTTP/1.1\r\n\r\n", 400),
        (b"GET ready HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"POST /drain HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /drain HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
    ] {
        assert_eq!(exchange(address, bytes).status, status, "{}", bytes.escape_ascii());
    }
    let long = vec![b'a'; 100_000];
    assert_eq!(exchange(address, &[b"GET /", &long[..]].concat()).status, 431);
    assert_eq!(request(address, "GET", "/ready").status, 200);
}

#[test]
fn a_listener_can_show_a_part_of_the_routes() {
    let server = server().listen_only(LOOPBACK.into(), ["/ready", "/absent"]).start().unwrap();
    let [all, part] = server.local_addrs() else { panic!() };
    assert_eq!(request(*all, "POST", "/drain").status, 202);
    assert_eq!(request(*part, "GET", "/ready").status, 200);
    let hidden = request(*part, "POST", "/drain");
    assert_eq!(hidden.status, 404);
    assert!(!hidden.body.contains("drain"), "{}", hidden.body);
}

#[test]
fn a_handler_that_panics_answers_500_and_the_server_lives_on() {
    let server = server().get("/panic", |_| panic!("on purpose")).start().unwrap();
    let address = server.local_addrs()[0];
    for _ in 0..3 {
        assert_eq!(request(address, "GET", "/panic").status, 500);
        assert_eq!(request(address, "GET", "/ready").status, 200);
    }
}

#[test]
fn slow_clients_are_told_and_block_nobody() {
    let server = server().request_timeout(Duration::from_millis(600)).start().unwrap();
    let address = server.local_addrs()[0];
    let mut slow: Vec<TcpStream> = (0..10).map(|_| TcpStream::connect(address).unwrap()).collect();
    let began = Instant::now();
    for round in 0..3 {
        for stream in &mut slow {
            _ = stream.write_all(&b"GET"[round..=round]);
        }
        assert_eq!(request(address, "GET", "/ready").status, 200);
    }
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    for stream in &mut slow {
        assert_eq!(read_answer(stream).status, 408);
    }
    // A byte now and then does not extend the time for the whole.
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn when_slow_clients_hold_every_connection_the_oldest_is_cut() {
    let server = server().max_connections(4).start().unwrap();
    let address = server.local_addrs()[0];
    let mut slow: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(address).unwrap()).collect();
    let began = Instant::now();
    for _ in 0..3 {
        assert_eq!(request(address, "GET", "/ready").status, 200);
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(slow[0].read(&mut [0; 16]).unwrap(), 0, "the oldest is closed");
    slow[3].write_all(b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut slow[3]).status, 200, "the youngest is served");
}

#[test]
fn a_client_that_never_reads_is_cut() {
    const LARGE: usize = 64 << 20;
    let (sent, cut) = mpsc::channel();
    let server = server()
        .response_timeout(Duration::from_millis(300))
        .get("/large", move |_| {
            sent.send(()).unwrap();
            Response::text(200, "x".repeat(LARGE))
        })
        .start()
        .unwrap();
    let address = server.local_addrs()[0];
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    cut.recv().unwrap();
    assert_eq!(request(address, "GET", "/ready").status, 200);
    thread::sleep(Duration::from_millis(800));
    let mut bytes = Vec::new();
    _ = stream.read_to_end(&mut bytes);
    assert!(bytes.len() < LARGE, "{}", bytes.len());
}

#[test]
fn when_handlers_hold_every_connection_the_next_one_is_turned_away() {
    let entered = Arc::new(Barrier::new(3));
    let left = Arc::new(Barrier::new(3));
    let (inside, outside) = (Arc::clone(&entered), Arc::clone(&left));
    let server = server()
        .max_connections(2)
        .get("/slow", move |_| {
            inside.wait();
            outside.wait();
            Response::text(200, "done")
        })
        .start()
        .unwrap();
    let address = server.local_addrs()[0];
    thread::scope(|scope| {
        let slow: Vec<_> =
            (0..2).map(|_| scope.spawn(|| request(address, "GET", "/slow").status)).collect();
        entered.wait();
        assert_eq!(request(address, "GET", "/ready").status, 503);
        left.wait();
        slow.into_iter().for_each(|slow| assert_eq!(slow.join().unwrap(), 200));
    });
    assert_eq!(request(address, "GET", "/ready").status, 200);
}

#[test]
fn an_address_in_use_is_named_with_its_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = Server::builder().listen(address).start().unwrap_err();
    assert!(matches!(error, Error::Bind { address: named, .. } if named == address));
    let text = error.to_string();
    assert!(text.contains(&address.to_string()) && text.contains("ss -ltnp"), "{text}");
    let foreign = Server::builder().listen(([192, 0, 2, 1], 0).into()).start().unwrap_err();
    assert!(foreign.to_string().contains("no interface"), "{foreign}");
}

#[test]
fn an_answer_on_its_way_is_given_before_the_server_is_gone() {
    let (entered, handling) = mpsc::channel();
    let server = server()
        .get("/slow", move |_| {
            entered.send(()).unwrap();
            thread::sleep(Duration::from_millis(300));
            Response::text(200, "done")
        })
        .start()
        .unwrap();
    let address = server.local_addrs()[0];
    let client = thread::spawn(move || request(address, "GET", "/slow").body);
    handling.recv().unwrap();
    drop(server);
    assert_eq!(client.join().unwrap(), "done");
}

/// Tests that look at the whole process do so in a child of their own: other tests of this binary
/// run in the same process.
mod in_a_child {
    use super::*;
    use std::fs::{self, File};
    use std::io::{BufRead, BufReader};
    use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

    const CHILD: &str = "EVENKEEL_ADMIN_TEST_CHILD";

    /// Runs the test `name` again in a child with `CHILD` set, where it must pass. Whether this is
    /// the child.
    fn is_child(name: &str) -> bool {
        if std::env::var_os(CHILD).is_some() {
            return true;
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture", "--test-threads=1"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        false
    }

    fn threads() -> usize {
        fs::read_dir("/proc/self/task").unwrap().count()
    }

    fn descriptors() -> usize {
        fs::read_dir("/proc/self/fd").unwrap().count()
    }

    #[test]
    fn a_dropped_server_leaves_no_thread_and_no_descriptor() {
        if !is_child("in_a_child::a_dropped_server_leaves_no_thread_and_no_descriptor") {
            return;
        }
        let before = (threads(), descriptors());
        let server = server().start().unwrap();
        let address = server.local_addrs()[0];
        assert_eq!(request(address, "GET", "/ready").status, 200);
        let idle = TcpStream::connect(address).unwrap();
        assert_eq!(request(address, "GET", "/ready").status, 200);
        let began = Instant::now();
        drop(server);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        drop(idle);
        assert_eq!((threads(), descriptors()), before);
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn a_process_without_descriptors_still_answers() {
        let name = "in_a_child::a_process_without_descriptors_still_answers";
        if std::env::var_os(CHILD).is_some() {
            return exhaust_descriptors();
        }
        let mut child = Exhausted::start(name);
        let address = child.tell("start").parse().unwrap();
        assert_eq!(request(address, "GET", "/ready").status, 200);
        // The first time, the connection just served may still be closing.
        _ = child.tell("exhaust");
        thread::sleep(Duration::from_millis(200));
        _ = child.tell("exhaust");
        for _ in 0..20 {
            assert_eq!(request(address, "GET", "/ready").status, 200);
            assert_eq!(child.tell("exhaust"), "exhausted", "the reserve was not free to be taken");
        }
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(request(address, "GET", "/ready").status, 200));
            }
        });
        // One who holds the only descriptor and says nothing.
        let silent = TcpStream::connect(address).unwrap();
        let began = Instant::now();
        for _ in 0..3 {
            assert_eq!(request(address, "GET", "/ready").status, 200);
        }
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        drop(silent);
        // While a handler holds the only descriptor, the next client waits, without a busy loop.
        thread::scope(|scope| {
            let hold = scope.spawn(|| request(address, "GET", "/hold").status);
            thread::sleep(Duration::from_millis(100));
            let next = scope.spawn(|| request(address, "GET", "/ready").status);
            let cpu: u64 = child.tell("cpu").parse().unwrap();
            assert!(cpu < 100, "{cpu} of 500 ms");
            assert_eq!((hold.join().unwrap(), next.join().unwrap()), (200, 200));
        });
        assert_eq!(child.tell("recover"), "recovered");
        assert_eq!(request(address, "GET", "/ready").status, 200);
        assert!(child.process.wait().unwrap().success());
    }

    /// The child of a test, which does what it is told by lines on its standard input.
    struct Exhausted {
        process: Child,
        input: ChildStdin,
        output: BufReader<ChildStdout>,
    }

    impl Exhausted {
        fn start(name: &str) -> Self {
            let mut process = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", name, "--nocapture", "--test-threads=1"])
                .env(CHILD, "1")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let input = process.stdin.take().unwrap();
            let output = BufReader::new(process.stdout.take().unwrap());
            Self { process, input, output }
        }

        /// The child's answer; the test harness writes lines of its own between.
        fn tell(&mut self, command: &str) -> String {
            writeln!(self.input, "{command}").unwrap();
            let mut line = String::new();
            loop {
                line.clear();
                assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "the child has ended");
                if let Some((_, answer)) = line.split_once('@') {
                    return answer.trim().to_owned();
                }
            }
        }
    }

    fn exhaust_descriptors() {
        use rustix::process::{Resource, Rlimit, setrlimit};
        let mut server = None;
        let mut hoard = Vec::new();
        for command in std::io::stdin().lines() {
            let answer = match command.unwrap().as_str() {
                "start" => {
                    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: Some(64) })
                        .unwrap();
                    let hold = |_: &Request| {
                        thread::sleep(Duration::from_secs(1));
                        Response::text(200, "held")
                    };
                    let started = self::server().get("/hold", hold).start().unwrap();
                    server.insert(started).local_addrs()[0].to_string()
                }
                "exhaust" => {
                    let before = hoard.len();
                    while let Ok(file) = File::open("/dev/null") {
                        hoard.push(file);
                    }
                    let grown = before > 0 && hoard.len() > before;
                    if grown { "took more" } else { "exhausted" }.to_owned()
                }
                "cpu" => {
                    let before = cpu_time();
                    thread::sleep(Duration::from_millis(500));
                    (cpu_time() - before).as_millis().to_string()
                }
                "recover" => {
                    hoard.clear();
                    println!("@recovered");
                    // Long enough for the last request.
                    thread::sleep(Duration::from_millis(500));
                    return;
                }
                other => panic!("{other}"),
            };
            println!("@{answer}");
        }
    }

    fn cpu_time() -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::try_from(time).unwrap()
    }
}
