//! The process that is measured: this test binary once more, as a relay, or an HTTP proxy, and nothing
//! else.
//!
//! Flows in: an upstream address, a number of shards, and what the process may lock; later lines that
//! ask for its allocations, or for a drain. Flows out: a line for each thing that has happened. It owns
//! the child, which ends with its standard input and so never outlives the test.

use std::{
    alloc::System,
    env, fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use evenkeel::{Drain, Listener, Proxy, Relay, ring::Capabilities};
use rustix::{
    process::{Gid, Resource, Rlimit, Uid, getrlimit, setrlimit},
    thread::{set_thread_res_gid, set_thread_res_uid},
};
use socket2::SockRef;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const UPSTREAM: &str = "EVENKEEL_BUDGETS_UPSTREAM";
const SERVICE: &str = "EVENKEEL_BUDGETS_SERVICE";
/// What it shows to clients of TLS: a certificate and its key.
#[cfg(feature = "tls")]
const CERTIFICATE: &str = "EVENKEEL_BUDGETS_CERTIFICATE";
const SHARDS: &str = "EVENKEEL_BUDGETS_SHARDS";
/// RLIMIT_MEMLOCK in bytes, for a user without privileges whose number this process picks.
const LOCKED_MEMORY: &str = "EVENKEEL_BUDGETS_LOCKED_MEMORY";

/// What it does.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "nobody asks for HTTP"))]
pub(crate) enum Does {
    Relay,
    Http,
    /// With an access log in the default format, whose lines nobody keeps.
    LoggedHttp,
    /// Relays what is inside of TLS.
    #[cfg(feature = "tls")]
    Tls,
}

impl Does {
    fn from_name(name: &str) -> Does {
        let all = [
            Does::Relay,
            Does::Http,
            Does::LoggedHttp,
            #[cfg(feature = "tls")]
            Does::Tls,
        ];
        all.into_iter().find(|does| format!("{does:?}") == name).unwrap()
    }
}

/// A relay, or what it said when it could not start.
pub(crate) type Started = Result<RelayProcess, String>;

pub(crate) struct RelayProcess {
    child: Child,
    lines: BufReader<ChildStdout>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Where it connects to.
    pub(crate) upstream: TcpListener,
}

impl RelayProcess {
    /// With every privilege that the test has.
    pub(crate) fn start(shards: usize) -> RelayProcess {
        RelayProcess::start_as(Does::Relay, shards)
    }

    /// The same, with another service.
    pub(crate) fn start_as(does: Does, shards: usize) -> RelayProcess {
        RelayProcess::start_with(does, shards, None, None).unwrap()
    }

    /// As a relay that terminates TLS with a certificate and its key, in PEM.
    #[cfg(feature = "tls")]
    pub(crate) fn start_tls(shards: usize, pem: &str) -> RelayProcess {
        RelayProcess::start_with(Does::Tls, shards, None, Some((CERTIFICATE, pem))).unwrap()
    }

    /// As a user that runs nothing else, without privileges, which may lock so many bytes.
    pub(crate) fn start_unprivileged(shards: usize, locked_memory: u64) -> Started {
        RelayProcess::start_with(Does::Relay, shards, Some(locked_memory), None)
    }

    fn start_with(
        does: Does,
        shards: usize,
        locked_memory: Option<u64>,
        certificate: Option<(&str, &str)>,
    ) -> Started {
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        // A longer queue than a listener has by itself: thousands may connect at once.
        SockRef::from(&upstream).listen(4096).unwrap();
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(["--exact", "process::relay", "--ignored", "--nocapture"])
            .env(UPSTREAM, upstream.local_addr().unwrap().to_string())
            .env(SHARDS, shards.to_string())
            .env(SERVICE, format!("{does:?}"))
            .envs(certificate)
            .envs(locked_memory.map(|bytes| (LOCKED_MEMORY, bytes.to_string())))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut relay = RelayProcess { child, lines, address: nowhere, upstream };
        let outcome = relay.wait_for("relay: ");
        match outcome.strip_prefix("listening on ") {
            Some(address) => relay.address = address.parse().unwrap(),
            None => return Err(outcome),
        }
        Ok(relay)
    }

    /// What stands behind `mark` in the first line that has it.
    fn wait_for(&mut self, mark: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "the relay ended");
            if let Some((_, rest)) = line.split_once(mark) {
                return rest.trim().to_owned();
            }
        }
    }

    /// Ends what is open, and stays there to be looked at.
    pub(crate) fn drain(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"drain\n").unwrap();
        assert_eq!(self.wait_for("relay: "), "drained");
    }

    /// How often all its threads together have allocated since it started. Asking costs a few itself,
    /// the same number each time.
    #[cfg(feature = "http")]
    pub(crate) fn allocations(&mut self) -> u64 {
        self.child.stdin.as_mut().unwrap().write_all(b"allocations\n").unwrap();
        self.wait_for("relay: ").parse().unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Anonymous memory that is resident, in bytes.
    pub(crate) fn anonymous_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    /// The names of its threads, of those that the kernel runs for it as well.
    pub(crate) fn threads(&self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
        let names = tasks.filter_map(Result::ok).filter_map(name);
        names.map(|name| name.trim().to_owned()).collect()
    }
}

impl Drop for RelayProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "it is the process that the others measure"]
fn relay() {
    let Ok(upstream) = env::var(UPSTREAM) else { return };
    let shards = env::var(SHARDS).unwrap().parse().unwrap();
    raise_file_limit();
    if let Ok(bytes) = env::var(LOCKED_MEMORY) {
        give_up_privileges(bytes.parse().unwrap());
    }
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    let listener = match Does::from_name(&env::var(SERVICE).unwrap()) {
        Does::Relay => listener.serve(Relay::to([upstream])),
        Does::Http => serve_http(listener, &upstream, false),
        Does::LoggedHttp => serve_http(listener, &upstream, true),
        #[cfg(feature = "tls")]
        Does::Tls => serve_tls(listener, &upstream),
    };
    let proxy = match Proxy::builder().shards(shards).listener(listener).start() {
        Ok(proxy) => proxy,
        Err(refused) => return say(&refused.to_string()),
    };
    say(&format!("listening on {}", proxy.local_addrs()[0].address));
    for line in std::io::stdin().lines() {
        if line.unwrap() == "allocations" {
            let stats = ALLOCATOR.stats();
            say(&(stats.allocations + stats.reallocations).to_string());
        } else {
            let _ = proxy.drain(Drain::within(Duration::from_millis(200)));
            say("drained");
        }
    }
}

#[cfg(feature = "http")]
fn serve_http(listener: Listener, upstream: &str, logs: bool) -> Listener {
    use evenkeel::{
        http::{
            Fallback, Routes, proxy,
            route::{Action, Clusters, Match, PathChange, PathRule, Route, RouteSpec, RouteTable},
        },
        telemetry::access_log::AccessLog,
        upstream::{cluster::Cluster, settings::ClusterSettings},
    };
    let settings = ClusterSettings::builder("origin").endpoint(upstream).build().unwrap();
    let cluster = Cluster::new(settings, std::time::Instant::now(), 1);
    let mut route = Route::new("reviews", Action::Forward(Clusters::one("origin")));
    route.rewrite.path = Some(PathChange::prefix("/v2"));
    let path = PathRule::Prefix("/reviews".to_owned());
    let matches = Match { path, ..Match::default() };
    let table = RouteTable::build(vec![RouteSpec { matches, route }]).unwrap();
    let fallback = Fallback::Cluster(cluster.clone());
    let web = proxy(Routes::new(table, [cluster], fallback));
    listener.serve(if logs {
        web.access_log(AccessLog::to(|_: &[u8]| Ok(())).unwrap())
    } else {
        web
    })
}

#[cfg(not(feature = "http"))]
fn serve_http(_: Listener, _: &str, _: bool) -> Listener {
    unreachable!("nobody asks for it")
}

#[cfg(feature = "tls")]
fn serve_tls(listener: Listener, upstream: &str) -> Listener {
    use evenkeel::tls::{
        ServerCredentials,
        credentials::{OwnCertificate, ServerSettings, Source},
        terminate,
    };
    let pem = Source::memory("the certificate and its key", env::var(CERTIFICATE).unwrap());
    let own = OwnCertificate { certificate: pem.clone(), key: pem };
    let credentials = ServerCredentials::load("tls", ServerSettings::new(own)).unwrap();
    listener.serve(terminate(credentials, Relay::to([upstream])))
}

fn say(what: &str) {
    println!("relay: {what}");
}

/// Makes this thread, and those that it will start, a user's that nothing else is charged to.
fn give_up_privileges(locked_memory: u64) {
    let limit = Rlimit { current: Some(locked_memory), maximum: Some(locked_memory) };
    setrlimit(Resource::Memlock, limit).unwrap();
    // Between the users of people and 65,534, which many containers end at.
    let user = 60_000 + std::process::id() % 5_000;
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    set_thread_res_gid(gid, gid, gid).unwrap();
    set_thread_res_uid(uid, uid, uid).unwrap();
}

/// Allows this process as many files as it may allow itself, and gives the limit.
pub(crate) fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    limit.maximum.unwrap_or(u64::MAX)
}

/// Whether the test that runs on this thread can run here; `refused` says why not. Where not, says
/// so, and fails in CI.
pub(crate) fn possible(refused: Option<String>) -> bool {
    let refused = refused.or_else(|| Some(Capabilities::probe().err()?.to_string()));
    let Some(refused) = refused else { return true };
    let test = thread::current().name().unwrap_or("budgets").to_owned();
    assert!(env::var_os("CI").is_none_or(|ci| ci != "true"), "{test} cannot run: {refused}");
    // Not eprintln!, which the test runner would keep to itself.
    std::io::stderr().write_all(format!("SKIPPED {test}: {refused}\n").as_bytes()).unwrap();
    false
}
