//! CONNECT: off unless it is enabled; then a connection to an endpoint of the cluster that the request
//! is routed to, and to nothing else, whatever the client names.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use evenkeel::{
    http::{
        self, Filter, Flow, Routes,
        route::{Action, Redirect, RedirectStatus, RetryOn, RetryPolicy},
    },
    telemetry::{CodeClass, PoolState, ResponseFlag},
};

use crate::{
    stage::{Origin, Stage, build, cluster, get, nowhere, route, routes, settings},
    wire::Wire,
};

const STANDS: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

fn connect(authority: &str) -> String {
    format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")
}

/// Echoes every byte, behind its name.
fn echo(name: &'static str) -> Origin {
    Origin::new(move |wire, _| {
        wire.send(name);
        while let Some(byte) = wire.exactly(1) {
            wire.send(byte);
        }
        wire.finish();
    })
}

/// Everything goes to one origin.
fn to(origin: SocketAddr) -> Stage {
    Stage::serving(http::proxy(Routes::to(cluster("origin", origin))).connect(true))
}

fn is_over_without(client: &mut Wire, words: &str) {
    let rest = String::from_utf8(client.rest()).unwrap();
    assert!(!rest.contains(words), "{rest}");
}

#[test]
fn the_host_and_port_choose_the_cluster_and_only_bytes_get_there() {
    let (a, b) = (echo("a"), echo("b"));
    let mut first = route("/", "a");
    first.matches.hosts = vec!["db.example:5432".into()];
    first.route.response_headers.set.push(("x-route".parse().unwrap(), "first".parse().unwrap()));
    let mut second = route("/", "b");
    second.matches.hosts = vec!["db.example".into()];
    let clusters = [cluster("a", a.address), cluster("b", b.address)];
    let web = http::proxy(routes(vec![first, second], clusters)).connect(true);
    let stage = Stage::serving(web);

    let mut client = stage.client();
    client.send([connect("db.example:5432"), get("/not/a/request")].concat());
    assert_eq!(client.head().unwrap(), "HTTP/1.1 200 OK\r\nx-route: first\r\n\r\n");
    let echoed = get("/not/a/request");
    assert_eq!(client.exactly(1 + echoed.len()).unwrap(), ["a", &echoed].concat().as_bytes());
    client.send("more");
    assert_eq!(client.exactly(4).unwrap(), b"more");
    client.finish();
    assert!(client.is_over());
    assert_eq!(a.all_seen(), [&echoed, "more"].concat(), "nothing but what the client sent");

    let mut client = stage.client();
    client.send(connect("DB.example:1"));
    let expected = [STANDS, b"b"].concat();
    assert_eq!(client.exactly(expected.len()).unwrap(), expected);
    drop(client);
    stage.counted(CodeClass::Success, ResponseFlag::None, 2);
    stage.is_quiet();
}

#[test]
fn it_is_off_unless_it_is_enabled() {
    let origin = echo("");
    let stage = Stage::to(origin.address);
    let mut client = stage.client();
    assert_eq!(client.ask(connect(&origin.address.to_string())).status(), 501);
    assert!(client.is_over());
    assert_eq!(origin.connections(), 0);
}

#[test]
fn what_is_no_host_with_a_port_is_refused() {
    let origin = echo("");
    let stage = to(origin.address);
    for target in ["a", "/", "*", "http://a:80/", "a:80/x", ":80", "a:"] {
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(stage.ask(request).status(), 400, "{target}");
    }
    let body = "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(stage.ask(body).status(), 400);
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_client_never_gets_where_it_says_but_where_it_is_routed() {
    let (origin, other) = (echo("origin"), echo("other"));
    let stage = to(origin.address);
    let mut client = stage.client();
    client.send(connect(&other.address.to_string()));
    assert_eq!(client.exactly(STANDS.len() + 6).unwrap(), [STANDS, b"origin"].concat());

    // Nor back to the proxy itself.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap();
    drop(listener);
    let itself = evenkeel::Listener::bind(&own.to_string()).unwrap().named("web").serve(
        crate::transport::serve(http::proxy(Routes::to(cluster("itself", own))).connect(true)),
    );
    let proxy = evenkeel::Proxy::builder().shards(1).listener(itself).start().unwrap();
    assert_eq!(Wire::connect(own).ask(connect("a:80")).status(), 508);
    drop(proxy);
    assert_eq!(other.connections(), 0);
}

#[test]
fn what_follows_a_connect_that_is_refused_is_no_request() {
    let origin = Origin::echo();
    let mut spec = route("/", "origin");
    spec.matches.hosts = vec!["origin.example".into()];
    let mut dead = route("/", "dead");
    dead.matches.hosts = vec!["dead.example".into()];
    let mut path = route("/x", "origin");
    path.matches.hosts = vec!["path.example".into()];
    let mut moved = route("/", "origin");
    moved.matches.hosts = vec!["moved.example".into()];
    let status = RedirectStatus::PermanentRedirect;
    let host = Some("new.example".to_owned());
    moved.route.action = Action::Redirect(Redirect { status, host, ..Redirect::default() });
    let clusters = [cluster("origin", origin.address), cluster("dead", nowhere())];
    let web = http::proxy(routes(vec![spec, dead, path, moved], clusters)).connect(true);
    let stage = Stage::serving(web);
    for (authority, status) in
        [("other.example:80", 404), ("path.example:80", 404), ("dead.example:80", 503)]
    {
        let mut client = stage.client();
        client.send([connect(authority), get("/smuggled")].concat());
        let answer = client.answer();
        assert_eq!(answer.status(), status, "{authority}");
        assert!(answer.closes());
        is_over_without(&mut client, "smuggled");
    }
    let answer = stage.ask(connect("moved.example:80"));
    assert_eq!((answer.status(), answer.closes()), (308, true));
    // Port 80 need not be said where it is that of the scheme.
    let location = match crate::transport::SCHEME {
        "http" => "http://new.example",
        _ => "https://new.example:80",
    };
    assert_eq!(answer.field("location"), Some(location));
    assert_eq!(origin.all_seen(), "");
    stage.counted(CodeClass::ServerError, ResponseFlag::UpstreamConnectionFailure, 1);
    stage.is_quiet();
}

#[test]
fn endpoints_are_tried_by_policy_and_idle_connections_left_alone() {
    let origin = echo("second");
    let mut spec = route("/", "origin");
    let on = RetryOn { connect_failure: true, ..RetryOn::default() };
    spec.route.retry = Some(RetryPolicy { attempts: 1, statuses: Vec::new(), on });
    let builder = settings("origin", &[nowhere(), origin.address]);
    let builder = builder.policy(evenkeel::upstream::settings::Policy::RoundRobin);
    let stage = Stage::serving(http::proxy(routes(vec![spec], [build(builder)])).connect(true));
    for _ in 0..2 {
        let mut client = stage.client();
        client.send(connect("a:80"));
        assert_eq!(client.exactly(STANDS.len() + 6).unwrap(), [STANDS, b"second"].concat());
    }

    let origin = Origin::echo();
    let stage = to(origin.address);
    assert_eq!(stage.ask(get("/pooled")).text(), "/pooled");
    let idle = || stage.proxy.registry().http_cluster("origin", 0).pool.value(PoolState::Idle);
    crate::stage::eventually("it is in the pool", || idle() == 1);
    let mut client = stage.client();
    client.send(connect("a:80"));
    assert_eq!(client.exactly(STANDS.len()).unwrap(), STANDS);
    assert_eq!(client.ask(get("/own")).text(), "/own");
    assert_eq!((origin.connections(), idle()), (2, 1));
}

struct Doorkeeper;

impl Filter for Doorkeeper {
    type State = ();

    async fn request(
        &self,
        head: &mut http::RequestHead,
        _: &evenkeel::Connection,
        (): &mut (),
    ) -> Flow {
        match head.authority() {
            "secret.example:1" => Flow::answer(403),
            _ => Flow::Continue,
        }
    }

    async fn response(&self, head: &mut http::ResponseHead, (): &mut ()) -> Flow {
        if head.headers().contains("x-late") {
            head.set_status(::http::StatusCode::FORBIDDEN);
        }
        Flow::Continue
    }
}

#[test]
fn a_filter_can_refuse_before_and_after() {
    let origin = echo("");
    let mut late = route("/", "origin");
    late.matches.hosts = vec!["late.example".into()];
    late.route.response_headers.set.push(("x-late".parse().unwrap(), "1".parse().unwrap()));
    let routes = routes(vec![late], [cluster("origin", origin.address)]);
    let web = http::proxy(routes).connect(true).filter(|_: &evenkeel::shard::Shard| Doorkeeper);
    let stage = Stage::serving(web);
    for authority in ["secret.example:1", "late.example:1"] {
        let mut client = stage.client();
        client.send([connect(authority), get("/smuggled")].concat());
        let answer = client.answer();
        assert_eq!((answer.status(), answer.closes()), (403, true), "{authority}");
        is_over_without(&mut client, "smuggled");
    }
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(origin.all_seen(), "");
}
