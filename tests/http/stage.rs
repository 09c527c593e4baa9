//! The stage: origins of threads that record what reaches them and answer as scripted, and an HTTP
//! proxy in front of them.

use std::{
    io::Write,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use evenkeel::{
    Listener, Proxy, ServiceFactory,
    http::{
        self, Fallback, Routes,
        route::{Action, Clusters, Match, PathRule, Route, RouteSpec, RouteTable},
    },
    telemetry::{CodeClass, HttpListenerCells, ResponseFlag},
    upstream::{
        cluster::Cluster,
        settings::{ClusterBuilder, ClusterSettings},
    },
};

pub(crate) use crate::origin::refusing_address as nowhere;

use crate::{
    kernel, transport,
    wire::{Seen, Wire},
};

/// An origin, and what has reached it on each of its connections.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Origin {
    /// Runs `script` for each connection, whose number it is told, from 0.
    pub(crate) fn new(script: impl Fn(&mut Wire, usize) + Clone + Send + 'static) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let origin = Origin { address, seen: Arc::clone(&seen) };
        thread::spawn(move || {
            for (number, stream) in listener.incoming().flatten().enumerate() {
                let bytes = Seen::default();
                seen.lock().unwrap().push(Arc::clone(&bytes));
                let script = script.clone();
                thread::spawn(move || {
                    script(&mut Wire::new(transport::accept(stream), bytes), number)
                });
            }
        });
        origin
    }

    /// Gives every request the same answer.
    pub(crate) fn answering(answer: impl Into<Vec<u8>>) -> Origin {
        let answer = answer.into();
        Origin::new(move |wire, _| {
            while wire.request().is_some() {
                wire.send(&answer);
            }
        })
    }

    /// Answers with the target of each request, and its body behind that.
    pub(crate) fn echo() -> Origin {
        Origin::new(|wire, _| {
            while let Some(request) = wire.request() {
                let body = [request.target().as_bytes(), &request.body].concat();
                wire.send(ok(&body));
            }
        })
    }

    /// What has reached each connection.
    pub(crate) fn seen(&self) -> Vec<String> {
        let text = |bytes: &Seen| bytes.lock().unwrap().iter().copied().map(char::from).collect();
        self.seen.lock().unwrap().iter().map(text).collect()
    }

    /// What has reached it altogether.
    pub(crate) fn all_seen(&self) -> String {
        self.seen().concat()
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

/// A 200 with this body.
pub(crate) fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut answer =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    answer
}

pub(crate) fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n")
}

/// The settings of a cluster with these endpoints.
pub(crate) fn settings(name: &str, origins: &[SocketAddr]) -> ClusterBuilder {
    let builder = transport::upstream(ClusterSettings::builder(name));
    origins.iter().fold(builder, |builder, origin| builder.endpoint(&origin.to_string()))
}

pub(crate) fn build(builder: ClusterBuilder) -> Arc<Cluster> {
    Cluster::new(builder.build().unwrap(), Instant::now(), 1)
}

pub(crate) fn cluster(name: &str, origin: SocketAddr) -> Arc<Cluster> {
    build(settings(name, &[origin]))
}

/// A route for a prefix to a cluster, to be refined.
pub(crate) fn route(prefix: &str, cluster: &str) -> RouteSpec {
    let path = PathRule::Prefix(prefix.to_owned());
    RouteSpec {
        matches: Match { path, ..Match::default() },
        route: Route::new(cluster, Action::Forward(Clusters::one(cluster))),
    }
}

/// Routes to clusters, and 404 for the rest.
pub(crate) fn routes(
    specs: Vec<RouteSpec>,
    clusters: impl IntoIterator<Item = Arc<Cluster>>,
) -> Routes {
    Routes::new(RouteTable::build(specs).unwrap(), clusters, Fallback::NotFound)
}

/// A proxy that serves HTTP on a listener called `web`.
pub(crate) struct Stage {
    pub(crate) proxy: Proxy,
    pub(crate) address: SocketAddr,
    shards: usize,
}

impl Stage {
    /// All requests go to one origin.
    pub(crate) fn to(origin: SocketAddr) -> Stage {
        Stage::serving(http::proxy(Routes::to(cluster("origin", origin))))
    }

    pub(crate) fn of_cluster(builder: ClusterBuilder) -> Stage {
        Stage::serving(http::proxy(Routes::to(build(builder))))
    }

    pub(crate) fn serving(web: impl ServiceFactory) -> Stage {
        Stage::on(1, web)
    }

    pub(crate) fn on(shards: usize, web: impl ServiceFactory) -> Stage {
        let listener = Listener::bind("127.0.0.1:0").unwrap().named("web");
        let listener = listener.serve(transport::serve(web));
        let builder = Proxy::builder().capabilities(kernel::capabilities()).shards(shards);
        let proxy = builder.listener(listener).start().unwrap();
        let address = proxy.local_addr("web").unwrap();
        Stage { proxy, address, shards }
    }

    pub(crate) fn client(&self) -> Wire {
        Wire::connect(self.address)
    }

    fn cells(&self) -> Vec<Arc<HttpListenerCells>> {
        let registry = self.proxy.registry();
        (0..self.shards).map(|shard| registry.http_listener("web", shard)).collect()
    }

    /// Requests that have ended so.
    pub(crate) fn ended(&self, code: CodeClass, flag: ResponseFlag) -> u64 {
        self.cells().iter().map(|cells| cells.requests.value(code, flag)).sum()
    }

    /// Waits until one request more than `before` has ended so: it may be counted after its answer
    /// has been read.
    pub(crate) fn counted(&self, code: CodeClass, flag: ResponseFlag, count: u64) {
        eventually(&format!("{count} requests have ended with {code:?} and {flag:?}"), || {
            self.ended(code, flag) == count
        });
    }

    /// Waits until nothing is in flight or open any more, by the gauges and the loads.
    pub(crate) fn is_quiet(&self) {
        eventually("no request is active", || {
            self.cells().iter().all(|cells| cells.active.value() == 0)
        });
        eventually("no shard has a load", || {
            let idle =
                |load: &evenkeel::shard::ShardLoad| (load.connections, load.weight) == (0, 0);
            self.proxy.shards().iter().all(idle)
        });
    }

    /// Sends one request over a connection of its own.
    pub(crate) fn ask(&self, request: impl AsRef<[u8]>) -> crate::wire::Message {
        self.client().ask(request)
    }
}

/// Waits until a condition holds, for at most 20 s: a busy machine is no failure.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// What an origin has seen without the fields that the proxy adds to each request, each of which
/// must be there once in every head.
pub(crate) fn without_added(seen: &str) -> String {
    let scheme = format!("X-Forwarded-Proto: {}\r\n", transport::SCHEME);
    let is_added = |line: &str| {
        line == "X-Forwarded-For: 127.0.0.1\r\n"
            || line == scheme
            || line.strip_prefix("X-Request-Id: ").is_some_and(|id| id.len() == 36 + 2)
    };
    let lines: Vec<&str> = seen.split_inclusive("\r\n").collect();
    let added = lines.iter().filter(|line| is_added(line)).count();
    let heads = lines.iter().filter(|line| line.ends_with(" HTTP/1.1\r\n")).count();
    assert_eq!(added, 3 * heads, "{seen:?}");
    lines.into_iter().filter(|line| !is_added(line)).collect()
}

/// Sends bytes in pieces, so that each arrives for itself as far as that can be made sure of.
pub(crate) fn send_apart<'b>(wire: &mut Wire, pieces: impl IntoIterator<Item = &'b [u8]>) {
    for piece in pieces {
        if wire.stream.write_all(piece).is_err() {
            return;
        }
        thread::sleep(Duration::from_micros(300));
    }
}
