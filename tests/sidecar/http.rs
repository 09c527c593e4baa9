//! HTTP through the sidecar: routes, clusters, limits and logs, as a configuration says.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use rustix::process::Signal;

use super::{
    origin::{echo, exchange, origin, refusing},
    process::{HEAD, Sidecar, eventually},
    web::{Client, answering, get, teller},
};

/// A listener of HTTP with these lines, and a cluster `web`.
fn web(lines: &str, origin: SocketAddr, rest: &str) -> String {
    format!(
        "{HEAD}[[listener]]\nname = 'web'\nbind = '127.0.0.1:0'\nprotocol = 'http'\n{lines}\n\
         [[cluster]]\nname = 'web'\nendpoints = ['{origin}']\n{rest}\n"
    )
}

/// Takes what comes for as long as the other side likes, and says nothing.
fn silent() -> SocketAddr {
    origin(|mut stream| {
        let mut bytes = [0; 64];
        while stream.read(&mut bytes).is_ok_and(|length| length > 0) {}
        thread::sleep(Duration::from_secs(10));
    })
}

const HOST: &str = "Host: a.example";

#[test]
fn requests_go_where_their_routes_say() {
    let routes = format!(
        r#"
        [[cluster]]
        name = 'canary'
        endpoints = ['{}']
        [[route]]
        name = 'canary'
        listener = 'web'
        path_prefix = '/v1'
        headers = {{ x-canary = '1' }}
        cluster = 'canary'
        rewrite = {{ host = 'b.example', path_prefix = '/v2' }}
        request_headers = {{ remove = ['x-canary'], set = {{ x-by = 'evenkeel' }} }}
        response_headers = {{ add = {{ x-route = 'canary' }} }}
        [[route]]
        listener = 'web'
        hosts = ['*.old.example']
        redirect = {{ scheme = 'https', host = 'new.example', status = 308 }}
        response_headers = {{ set = {{ strict-transport-security = 'max-age=1' }} }}
        [[route]]
        listener = 'web'
        path = '/teapot'
        respond = {{ status = 418, body = 'short and stout', content_type = 'text/plain' }}
        response_headers = {{ remove = ['content-type'], add = {{ x-spout = '1' }} }}
        "#,
        teller("canary")
    );
    let config = web("cluster = 'web'\nhttp.via = 'edge'", teller("web"), &routes);
    let sidecar = Sidecar::start(&config);
    let mut client = Client::connect(sidecar.address("web"));

    let answer = client.get("/v1/x?q", &[HOST]);
    assert!(answer.body.starts_with("web\nGET /v1/x?q HTTP/1.1\n"), "{answer:?}");
    assert!(answer.body.contains("a.example"), "{answer:?}");
    assert!(answer.body.to_lowercase().contains("via: 1.1 edge"), "{answer:?}");
    assert!(answer.body.to_lowercase().contains("x-forwarded-for: 127.0.0.1"), "{answer:?}");

    let answer = client.get("/v1/x?q", &[HOST, "X-Canary: 1"]);
    assert!(answer.body.starts_with("canary\nGET /v2/x?q HTTP/1.1\n"), "{answer:?}");
    let reached = answer.body.to_lowercase();
    assert!(reached.contains("host: b.example\n") && reached.contains("x-by: evenkeel\n"));
    assert!(!reached.contains("x-canary"), "{reached}");
    assert_eq!(answer.field("x-route"), Some("canary"));

    let answer = client.get("/p?q", &["Host: c.old.example"]);
    assert_eq!(answer.status(), 308);
    assert_eq!(answer.field("location"), Some("https://new.example/p?q"));
    assert_eq!(answer.field("strict-transport-security"), Some("max-age=1"));

    let answer = client.get("/teapot", &[HOST]);
    assert_eq!((answer.status(), answer.body.as_str()), (418, "short and stout"));
    assert_eq!((answer.field("content-type"), answer.field("x-spout")), (None, Some("1")));
    let requests = ["listener=\"web\"", "code=\"2xx\""];
    sidecar.metric_becomes("evenkeel_requests_total", &requests, 2.0);
    sidecar.metric_becomes("evenkeel_upstream_requests_total", &["cluster=\"canary\""], 1.0);
}

#[test]
fn what_no_route_takes_is_not_found_or_goes_nowhere() {
    let route = "[[route]]\nlistener = 'web'\npath = '/x'\ncluster = 'web'\n";
    for (cluster, status) in [("", 404), ("cluster = 'blackhole'", 502)] {
        let sidecar = Sidecar::start(&web(cluster, teller("web"), route));
        let mut client = Client::connect(sidecar.address("web"));
        assert_eq!(client.get("/y", &[HOST]).status(), status);
        assert_eq!(client.get("/x", &[HOST]).status(), 200);
        let no_route = ["listener=\"web\"", "flag=\"NR\""];
        sidecar.metric_becomes("evenkeel_requests_total", &no_route, 1.0);
    }
}

#[test]
fn a_reload_changes_routes_and_endpoints_under_live_connections() {
    let (first, second) = (teller("first"), teller("second"));
    let config = web("cluster = 'web'", first, "");
    let sidecar = Sidecar::start(&config);
    let mut client = Client::connect(sidecar.address("web"));
    assert!(client.get("/", &[HOST]).body.starts_with("first\n"));

    let routed = format!(
        "{config}[[cluster]]\nname = 'other'\nendpoints = ['{second}']\n\
         [[route]]\nlistener = 'web'\npath = '/other'\ncluster = 'other'\n"
    );
    fs::write(sidecar.file(), &routed).unwrap();
    assert_eq!(sidecar.ask("POST", "/reload").status, 200);
    assert!(client.get("/other", &[HOST]).body.starts_with("second\n"));
    assert!(client.get("/", &[HOST]).body.starts_with("first\n"));

    fs::write(sidecar.file(), routed.replace(&first.to_string(), &second.to_string())).unwrap();
    sidecar.signal(Signal::HUP);
    sidecar.metric_becomes("evenkeel_config_reloads_total", &["result=\"accepted\""], 2.0);
    assert!(client.get("/", &[HOST]).body.starts_with("second\n"));

    // One that is refused late, by the system, changes nothing of it.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let more = format!(
        "{config}[[listener]]\nname = 'more'\nbind = '{}'\ncluster = 'blackhole'\n",
        taken.local_addr().unwrap()
    );
    fs::write(sidecar.file(), more).unwrap();
    assert_eq!(sidecar.ask("POST", "/reload").status, 400);
    assert!(client.get("/other", &[HOST]).body.starts_with("second\n"));

    // A cluster that is gone is not shown any more.
    fs::write(sidecar.file(), config).unwrap();
    assert_eq!(sidecar.ask("POST", "/reload").status, 200);
    assert!(client.get("/other", &[HOST]).body.starts_with("first\n"));
    assert_eq!(sidecar.json("/clusters")["clusters"].as_array().unwrap().len(), 1);
    assert_eq!(sidecar.metric("evenkeel_downstream_connections_total", &["listener=\"web\""]), 1.0);
}

#[test]
fn times_and_sizes_are_limited_as_the_listener_says() {
    let slow = answering(|request| {
        if request.line.contains("/slow") {
            thread::sleep(Duration::from_millis(1500));
        }
        (200, String::new())
    });
    let limits = "cluster = 'web'\n[listener.timeouts]\nhead = '300ms'\nrequest = '300ms'\n\
                  idle = '500ms'\n[listener.http]\nmax_head = '1KiB'\nmax_fields = 5\n\
                  max_body = '10B'\npaths = 'resolve'";
    let route = "[[route]]\nlistener = 'web'\npath = '/slow/but/allowed'\ncluster = 'web'\n\
                 timeout = 'off'\n";
    let sidecar = Sidecar::start(&web(limits, slow, route));
    let address = sidecar.address("web");
    assert_eq!(get(address, "/", &[HOST]).status(), 200);
    assert_eq!(get(address, "/slow", &[HOST]).status(), 504);
    assert_eq!(get(address, "/x/../slow/but/allowed", &[HOST]).status(), 200);
    assert_eq!(get(address, "/", &[HOST, &format!("x: {}", "y".repeat(1100))]).status(), 431);
    assert_eq!(get(address, "/", &[HOST, "a: 1", "b: 1", "c: 1", "d: 1", "e: 1"]).status(), 431);
    assert_eq!(get(address, "/", &[HOST, "Content-Length: 11", "", "01234567890"]).status(), 413);

    let mut dripping = Client::connect(address);
    dripping.stream().write_all(b"GET / HTTP/1.1\r\nHos").unwrap();
    assert_eq!(dripping.read().unwrap().status(), 408);
    let mut idle = Client::connect(address);
    assert_eq!(idle.get("/", &[HOST]).status(), 200);
    assert!(idle.read().is_none(), "closed when it is idle");
    let closed = ["listener=\"web\"", "reason=\"idle_timeout\""];
    sidecar.metric_becomes("evenkeel_downstream_connections_closed_total", &closed, 1.0);
}

#[test]
fn a_tunnel_is_opened_where_that_is_enabled_and_ends_as_the_listener_says() {
    for (timeout, half_closes, reason) in
        [("idle", false, "idle_timeout"), ("half_close", true, "half_close_timeout")]
    {
        let lines = format!("cluster = 'web'\nhttp.connect = true\ntimeouts.{timeout} = '300ms'");
        let sidecar = Sidecar::start(&web(&lines, silent(), ""));
        let mut client = sidecar.connect("web");
        client
            .write_all(b"CONNECT any.example:443 HTTP/1.1\r\nHost: any.example\r\n\r\nhi")
            .unwrap();
        let mut stands = [0; 19];
        client.read_exact(&mut stands).unwrap();
        assert_eq!(&stands, b"HTTP/1.1 200 OK\r\n\r\n");
        if half_closes {
            client.shutdown(Shutdown::Write).unwrap();
        }
        assert!(matches!(client.read(&mut stands), Ok(0) | Err(_)), "closed when nothing moves");
        let closed = ["listener=\"web\"", &format!("reason=\"{reason}\"")];
        sidecar.metric_becomes("evenkeel_downstream_connections_closed_total", &closed, 1.0);
    }
}

#[test]
fn the_limits_of_a_cluster_hold_and_are_shown() {
    let (started, release) = (Arc::new(AtomicU16::new(0)), Arc::new(AtomicU16::new(0)));
    let (began, may_end) = (Arc::clone(&started), Arc::clone(&release));
    let slow = answering(move |_| {
        began.fetch_add(1, Relaxed);
        eventually("the test lets it go on", || may_end.load(Relaxed) > 0);
        (200, String::new())
    });
    let config = web("cluster = 'web'", slow, "limits.requests = 1\n");
    let sidecar = Sidecar::start(&config);
    let address = sidecar.address("web");
    let open = ["cluster=\"web\"", "limit=\"requests\""];
    assert_eq!(sidecar.metric("evenkeel_circuit_breaker_open", &open), 0.0);
    thread::scope(|scope| {
        let first = scope.spawn(|| get(address, "/", &[HOST]).status());
        eventually("the first is there", || started.load(Relaxed) == 1);
        assert_eq!(get(address, "/", &[HOST]).status(), 503);
        assert_eq!(sidecar.metric("evenkeel_circuit_breaker_open", &open), 1.0);
        let shown = sidecar.json("/clusters");
        let cluster = &shown["clusters"][0];
        assert_eq!(cluster["name"], "web");
        assert_eq!(cluster["endpoints"][0]["address"], slow.to_string());
        assert_eq!(cluster["endpoints"][0]["in_flight"], 1);
        assert_eq!(cluster["endpoints"][0]["healthy"], true);
        assert_eq!(cluster["endpoints"][0]["ejected"], false);
        assert_eq!(cluster["limits"][0]["limit"], "requests");
        assert_eq!(cluster["limits"][0]["open"], true);
        release.store(1, Relaxed);
        assert_eq!(first.join().unwrap(), 200);
    });
    let overflow = ["listener=\"web\"", "flag=\"UO\""];
    sidecar.metric_becomes("evenkeel_requests_total", &overflow, 1.0);
    sidecar.metric_becomes("evenkeel_circuit_breaker_open", &open, 0.0);
}

#[test]
fn endpoints_that_fail_are_ejected_and_retried_elsewhere() {
    let (good, bad) = (teller("good"), refusing());
    let config = format!(
        "{HEAD}[[listener]]\nname = 'web'\nbind = '127.0.0.1:0'\nprotocol = 'http'\n\
         cluster = 'web'\n[[cluster]]\nname = 'web'\nendpoints = ['{bad}', '{good}']\n\
         policy = 'round-robin'\noutlier.consecutive_failures = 2\nretry.attempts = 1\n"
    );
    let sidecar = Sidecar::start(&config);
    let mut client = Client::connect(sidecar.address("web"));
    for _ in 0..12 {
        assert_eq!(client.get("/", &[HOST]).status(), 200);
    }
    sidecar.metric_becomes("evenkeel_upstream_ejected_endpoints", &["cluster=\"web\""], 1.0);
    let shown = sidecar.json("/clusters");
    let endpoints = &shown["clusters"][0]["endpoints"];
    assert_eq!((&endpoints[0]["ejected"], &endpoints[1]["ejected"]), (&true.into(), &false.into()));
    assert!(endpoints[0]["ejected_for_seconds"].as_f64().unwrap() > 0.0);
    assert!(sidecar.metric("evenkeel_upstream_retries_total", &["cluster=\"web\""]) >= 2.0);
}

#[test]
fn endpoints_that_are_not_well_get_no_requests() {
    let status = Arc::new(AtomicU16::new(503));
    let answers = Arc::clone(&status);
    let sick = answering(move |request| match request.line.contains("/healthz") {
        true => (answers.load(Relaxed), String::new()),
        false => (200, "sick".into()),
    });
    let config = format!(
        "{HEAD}[[listener]]\nname = 'web'\nbind = '127.0.0.1:0'\nprotocol = 'http'\n\
         cluster = 'web'\n[[cluster]]\nname = 'web'\nendpoints = ['{sick}', '{}']\n\
         policy = 'round-robin'\n[cluster.health]\npath = '/healthz'\ninterval = '20ms'\n\
         healthy = 1\nunhealthy = 1\n",
        answering(|_| (200, "well".into()))
    );
    let sidecar = Sidecar::start(&config);
    let healthy = |sidecar: &Sidecar| {
        let shown = sidecar.json("/clusters");
        shown["clusters"][0]["endpoints"][0]["healthy"].as_bool().unwrap()
    };
    eventually("it is found out", || !healthy(&sidecar));
    let mut client = Client::connect(sidecar.address("web"));
    for _ in 0..4 {
        assert_eq!(client.get("/", &[HOST]).body, "well");
    }
    status.store(204, Relaxed);
    eventually("it is well again", || healthy(&sidecar));
    status.store(503, Relaxed);
    eventually("and sick", || !healthy(&sidecar));
    // Without checks all are taken for well, and a reload is noticed in either direction.
    let unchecked = config.split("[cluster.health]").next().unwrap();
    fs::write(sidecar.file(), unchecked).unwrap();
    assert_eq!(sidecar.ask("POST", "/reload").status, 200);
    assert!(healthy(&sidecar));
    fs::write(sidecar.file(), &config).unwrap();
    assert_eq!(sidecar.ask("POST", "/reload").status, 200);
    eventually("it is found out again", || !healthy(&sidecar));
}

#[test]
fn names_of_endpoints_are_resolved() {
    let port = teller("named").port();
    let origin: SocketAddr = ([127, 0, 0, 1], port).into();
    let config = web("cluster = 'web'", origin, "");
    let named = config.replace(&origin.to_string(), &format!("localhost:{port}"));
    let sidecar = Sidecar::start(&named);
    assert!(get(sidecar.address("web"), "/", &[HOST]).body.starts_with("named\n"));
    let endpoint = &sidecar.json("/clusters")["clusters"][0]["endpoints"][0];
    assert_eq!(endpoint["name"], format!("localhost:{port}"));
    assert_eq!(endpoint["address"], origin.to_string());
}

#[test]
fn names_are_resolved_for_relayed_connections_too() {
    let port = echo().port();
    for protocol in ["tcp", "auto"] {
        let config = format!(
            "{HEAD}[[listener]]\nname = 'l'\nbind = '127.0.0.1:0'\nprotocol = '{protocol}'\n\
             cluster = 'echo'\n[[cluster]]\nname = 'echo'\nendpoints = ['{}', 'localhost:{port}']\n",
            refusing()
        );
        let sidecar = Sidecar::start(&config);
        // Sooner than an HTTP client would be, and no request.
        exchange(&mut sidecar.connect("l"), b"\0 hello");
        let failures = ["cluster=\"echo\"", "reason=\"refused\""];
        sidecar.metric_becomes("evenkeel_upstream_connect_failures_total", &failures, 1.0);
        let endpoint = &sidecar.json("/clusters")["clusters"][0]["endpoints"][1];
        assert_eq!(endpoint["name"], format!("localhost:{port}"));
        assert_eq!(endpoint["address"], format!("127.0.0.1:{port}"));
    }
}

/// The lines of a log once there are as many.
fn lines(log: &Path, count: usize) -> Vec<String> {
    let read = || fs::read_to_string(log).unwrap_or_default();
    eventually("the lines are written", || read().lines().count() == count);
    read().lines().map(str::to_owned).collect()
}

#[test]
fn requests_and_relayed_connections_are_logged() {
    let more = format!(
        "[[route]]\nname = 'teapot'\nlistener = 'web'\npath = '/teapot'\nrespond.status = 418\n\
         [[listener]]\nname = 'tcp'\nbind = '127.0.0.1:0'\ncluster = 'echo'\n\
         access_log = 'access.log'\n[[cluster]]\nname = 'echo'\nendpoints = ['{}']\n",
        echo()
    );
    let log = "cluster = 'web'\naccess_log = 'access.log'";
    let config = web(log, teller("web"), &more);
    let mut sidecar = Sidecar::start(&config);
    let file = sidecar.file().with_file_name("access.log");
    let moved = sidecar.file().with_file_name("access.log.1");
    assert_eq!(get(sidecar.address("web"), "/x?y", &[HOST]).status(), 200);
    assert!(lines(&file, 1)[0].contains("\"GET /x?y HTTP/1.1\" 200 - "));
    exchange(&mut sidecar.connect("tcp"), b"12345");
    let relayed = &lines(&file, 2)[1];
    assert!(relayed.contains(" 5 5 ") && relayed.contains(" echo "), "{relayed}");

    fs::rename(&file, &moved).unwrap();
    sidecar.signal(Signal::USR1);
    eventually("it is opened again", || file.exists());
    assert_eq!(get(sidecar.address("web"), "/teapot", &[HOST]).status(), 418);
    assert!(lines(&file, 1)[0].ends_with(" teapot"));
    assert_eq!(lines(&moved, 2).len(), 2);

    // The format changes, and the file stays.
    let json = config.replacen(log, &format!("{log}\naccess_log_format = 'json'"), 1);
    fs::write(sidecar.file(), json).unwrap();
    assert_eq!(sidecar.ask("POST", "/reload").status, 200);
    assert_eq!(get(sidecar.address("web"), "/json", &[HOST]).status(), 200);
    let line: serde_json::Value = serde_json::from_str(&lines(&file, 2)[1]).unwrap();
    assert_eq!((&line["path"], &line["response_code"]), (&"/json".into(), &200.into()));

    // The last line is there when it has ended.
    let mut client = Client::connect(sidecar.address("web"));
    assert_eq!(client.get("/last", &[HOST]).status(), 200);
    drop(client);
    sidecar.signal(Signal::TERM);
    assert!(sidecar.wait().success());
    assert!(fs::read_to_string(&file).unwrap().contains("/last"));
}

#[test]
fn only_what_is_asked_for_is_logged() {
    let slow = answering(|request| {
        if request.line.contains("/slow") {
            thread::sleep(Duration::from_millis(300));
        }
        (200, String::new())
    });
    let log = "cluster = 'web'\naccess_log = 'access.log'\n\
               access_log_only = { errors = true, slower_than = '200ms' }";
    let config = web(log, slow, "");
    let sidecar = Sidecar::start(&config);
    let file = sidecar.file().with_file_name("access.log");
    let address = sidecar.address("web");
    for (target, status) in [("/fine", 200), ("/a/../wrong", 400), ("/fine", 200), ("/slow", 200)] {
        assert_eq!(get(address, target, &[HOST]).status(), status);
    }
    let logged = lines(&file, 2);
    assert!(logged[0].contains("/wrong") && logged[1].contains("/slow"), "{logged:?}");

    let sampled =
        config.replacen("access_log_only", "access_log_sample = 1e-9\naccess_log_only", 1);
    fs::write(sidecar.file(), sampled).unwrap();
    assert_eq!(sidecar.ask("POST", "/reload").status, 200);
    for _ in 0..20 {
        assert_eq!(get(address, "/a/../wrong", &[HOST]).status(), 400);
    }
    fs::write(sidecar.file(), config).unwrap();
    assert_eq!(sidecar.ask("POST", "/reload").status, 200);
    assert_eq!(get(address, "/b/../wrong", &[HOST]).status(), 400);
    assert!(lines(&file, 3)[2].contains("/b/"), "none of the twenty");
}

#[test]
fn a_log_that_cannot_be_opened_is_refused() {
    let config = web("cluster = 'web'", teller("web"), "");
    let sidecar = Sidecar::start(&config);
    let log = "cluster = 'web'\naccess_log = 'nowhere/access.log'";
    fs::write(sidecar.file(), config.replacen("cluster = 'web'", log, 1)).unwrap();
    let answer = sidecar.ask("POST", "/reload");
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("nowhere/access.log: cannot be opened"), "{}", answer.body);
    sidecar.metric_becomes("evenkeel_config_reloads_total", &["result=\"refused\""], 1.0);
    assert_eq!(get(sidecar.address("web"), "/", &[HOST]).status(), 200);
}
