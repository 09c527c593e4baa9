//! The resolver against a server on loopback, over UDP and TCP.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, TcpListener, UdpSocket},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    time::{Duration, Instant},
};

use simple_dns::RCODE;

use super::{
    message::{Family, tests::Answer},
    *,
};
use crate::upstream::settings::{ClusterBuilder, ClusterSettings};

/// What a server answers to a question, given how often it has been asked so far; several messages
/// go out one after the other, none means silence.
type Answers = dyn Fn(&[u8], Asked) -> Vec<Vec<u8>> + Send + Sync;

#[derive(Clone, Debug)]
struct Asked {
    name: String,
    family: Family,
    over_tcp: bool,
    question: Vec<u8>,
    /// Who asked, over UDP.
    from: Option<SocketAddr>,
    /// How many questions for this family came before it.
    before: usize,
}

struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    fn start(answers: impl Fn(&[u8], Asked) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Server {
        let answers: Arc<Answers> = Arc::new(answers);
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            match TcpListener::bind(udp.local_addr().unwrap()) {
                Ok(tcp) => break (udp, tcp),
                Err(error) => assert_eq!(error.kind(), ErrorKind::AddrInUse),
            }
        };
        let address = udp.local_addr().unwrap();
        let (asked, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let serve_udp = {
            let (answers, asked, stop) =
                (Arc::clone(&answers), Arc::clone(&asked), Arc::clone(&stop));
            udp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            move || {
                while !stop.load(SeqCst) {
                    let mut buffer = [0; 512];
                    let Ok((length, from)) = udp.recv_from(&mut buffer) else { continue };
                    for answer in
                        answers(&buffer[..length], note(&asked, &buffer[..length], Some(from)))
                    {
                        udp.send_to(&answer, from).unwrap();
                    }
                }
            }
        };
        let serve_tcp = {
            let (asked, stop) = (Arc::clone(&asked), Arc::clone(&stop));
            tcp.set_nonblocking(true).unwrap();
            move || {
                while !stop.load(SeqCst) {
                    let Ok((mut stream, _)) = tcp.accept() else {
                        thread::sleep(Duration::from_millis(5));
                        continue;
                    };
                    stream.set_nonblocking(false).unwrap();
                    let mut length = [0; 2];
                    stream.read_exact(&mut length).unwrap();
                    let mut question = vec![0; u16::from_be_bytes(length).into()];
                    stream.read_exact(&mut question).unwrap();
                    for answer in answers(&question, note(&asked, &question, None)) {
                        // In two pieces, so that one of them is not the whole.
                        let (first, second) = answer.split_at(answer.len() / 2);
                        stream.write_all(&(answer.len() as u16).to_be_bytes()).unwrap();
                        stream.write_all(first).unwrap();
                        thread::sleep(Duration::from_millis(10));
                        stream.write_all(second).unwrap();
                    }
                }
            }
        };
        let threads = vec![thread::spawn(serve_udp), thread::spawn(serve_tcp)];
        Server { address, asked, stop, threads }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn resolver(&self) -> Resolver {
        resolver(&[self.address], "options timeout:1 attempts:1")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

fn note(asked: &Mutex<Vec<Asked>>, question: &[u8], from: Option<SocketAddr>) -> Asked {
    let (name, family) = Answer::to(question).asked();
    let mut all = asked.lock().unwrap();
    let before = all.iter().filter(|other| other.family == family).count();
    let question = question.to_vec();
    let this = Asked { name, family, over_tcp: from.is_none(), question, from, before };
    all.push(this.clone());
    this
}

/// Answers with an address for a while, and with nothing for the other family.
fn with(question: &[u8], asked: &Asked, address: &str, ttl: u32) -> Vec<u8> {
    let is_ipv4 = address.parse::<IpAddr>().unwrap().is_ipv4();
    match is_ipv4 == (asked.family == Family::Ipv4) {
        true => Answer::to(question).address(&asked.name, ttl, address).bytes(),
        false => Answer::to(question).bytes(),
    }
}

fn resolver(servers: &[SocketAddr], options: &str) -> Resolver {
    let folder = tempfile::tempdir().unwrap();
    let resolv_conf = folder.path().join("resolv.conf");
    std::fs::write(&resolv_conf, options).unwrap();
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, "10.9.9.9 in-hosts.example").unwrap();
    // The files are read by the thread: they stay until the process ends.
    let _ = folder.keep();
    let refresh = Refresh {
        shortest: Duration::from_millis(50),
        retry: Duration::from_millis(50),
        longest_retry: Duration::from_millis(50),
        keep_gone: Duration::from_millis(200),
        ..Refresh::default()
    };
    Resolver::new(ResolverSettings {
        resolv_conf,
        hosts,
        servers: Some(servers.to_vec()),
        refresh,
        ..ResolverSettings::default()
    })
}

fn cluster(builder: ClusterBuilder) -> Arc<Cluster> {
    Cluster::new(builder.build().unwrap(), Instant::now(), 1)
}

fn named(host: &str) -> Arc<Cluster> {
    cluster(ClusterSettings::builder("reviews").endpoint(&format!("{host}:80")))
}

fn addresses(cluster: &Cluster) -> Vec<String> {
    cluster.snapshot().endpoints().iter().map(|it| it.address().ip().to_string()).collect()
}

/// Waits until the cluster has these addresses.
fn await_addresses(cluster: &Cluster, expected: &[&str]) {
    let start = Instant::now();
    while addresses(cluster) != expected {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{:?}, not {expected:?}",
            addresses(cluster)
        );
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn addresses_follow_the_server_as_the_ttl_ends() {
    let server = Server::start(|question, asked| {
        let address = if asked.before < 2 { "10.0.0.1" } else { "10.0.0.2" };
        vec![with(question, &asked, address, 0)]
    });
    let (resolver, cluster) = (server.resolver(), named("web.example"));
    resolver.watch(&cluster).unwrap();
    await_addresses(&cluster, &["10.0.0.1"]);
    await_addresses(&cluster, &["10.0.0.2"]);
    assert!(cluster.unresolved().is_empty());
}

#[test]
fn a_long_ttl_is_kept_and_one_answer_serves_all_clusters() {
    let server = Server::start(|question, asked| vec![with(question, &asked, "fd00::1", 60)]);
    let (resolver, first, second) = (server.resolver(), named("web.example"), named("web.example"));
    resolver.watch(&first).unwrap();
    await_addresses(&first, &["fd00::1"]);
    resolver.watch(&second).unwrap();
    resolver.watch(&second).unwrap();
    await_addresses(&second, &["fd00::1"]);
    thread::sleep(Duration::from_millis(200));
    assert_eq!(server.asked().len(), 2, "A and AAAA, once");
}

#[test]
fn the_last_addresses_stay_while_the_server_fails_and_go_when_the_name_has_gone() {
    static GONE: AtomicBool = AtomicBool::new(false);
    let server = Server::start(|question, asked| match asked.before {
        0 => vec![with(question, &asked, "10.0.0.1", 0)],
        _ if GONE.load(SeqCst) => vec![Answer::to(question).code(RCODE::NameError).bytes()],
        _ => vec![Answer::to(question).code(RCODE::ServerFailure).bytes()],
    });
    let (resolver, cluster) = (server.resolver(), named("web.example"));
    resolver.watch(&cluster).unwrap();
    await_addresses(&cluster, &["10.0.0.1"]);
    while server.asked().len() < 10 {
        assert_eq!(addresses(&cluster), ["10.0.0.1"]);
        thread::sleep(Duration::from_millis(2));
    }
    let gone = Instant::now();
    GONE.store(true, SeqCst);
    await_addresses(&cluster, &[]);
    assert!(gone.elapsed() >= Duration::from_millis(200), "kept for a while");
    assert!(cluster.unresolved().is_empty(), "it is known to have none");
}

#[test]
fn forged_answers_are_passed_over() {
    let server = Server::start(|question, asked| {
        let good = with(question, &asked, "10.0.0.1", 60);
        let forged = with(question, &asked, "10.6.6.6", 60);
        let mut other_id = forged.clone();
        other_id[1] ^= 1;
        let mut other_name = forged.clone();
        other_name[13] = b'x';
        vec![other_id, other_name, b"noise".to_vec(), question.to_vec(), good, forged]
    });
    let (resolver, cluster) = (server.resolver(), named("web.example"));
    resolver.watch(&cluster).unwrap();
    await_addresses(&cluster, &["10.0.0.1"]);
    assert_eq!(server.asked().len(), 2, "there was no need to ask again");
}

#[test]
fn an_answer_from_elsewhere_does_not_arrive() {
    let server = Server::start(|question, asked| match asked.before {
        0 => vec![],
        _ => vec![with(question, &asked, "10.0.0.1", 60)],
    });
    let (resolver, cluster) = (server.resolver(), named("web.example"));
    resolver.watch(&cluster).unwrap();
    while server.asked().len() < 2 {
        thread::sleep(Duration::from_millis(2));
    }
    // The port, the id, the name and its case are known here: only the sender is wrong.
    let elsewhere = UdpSocket::bind("127.0.0.1:0").unwrap();
    let asked = server.asked();
    for asked in &asked {
        let answer = with(&asked.question, asked, "10.6.6.6", 60);
        elsewhere.send_to(&answer, asked.from.unwrap()).unwrap();
    }
    assert_ne!(asked[0].from, asked[1].from, "a port for each question");
    await_addresses(&cluster, &["10.0.0.1"]);
}

#[test]
fn a_changed_case_or_a_cut_answer_is_asked_for_over_tcp() {
    for cut in [false, true] {
        let server = Server::start(move |question, asked| {
            let good = with(question, &asked, "10.0.0.1", 60);
            match (asked.over_tcp, cut) {
                (true, _) => vec![good],
                (false, true) => vec![Answer::to(question).cut().bytes()],
                (false, false) => {
                    let mut forged = with(question, &asked, "10.6.6.6", 60);
                    forged[13] ^= 0x20;
                    vec![forged]
                }
            }
        });
        let (resolver, cluster) = (server.resolver(), named("web.example"));
        resolver.watch(&cluster).unwrap();
        await_addresses(&cluster, &["10.0.0.1"]);
        assert!(server.asked().iter().any(|asked| asked.over_tcp));
    }
}

#[test]
fn a_silent_server_is_passed_over_in_time_and_the_one_that_answers_comes_first_then() {
    let silent = Server::start(|_, _| vec![]);
    let server = Server::start(|question, asked| vec![with(question, &asked, "10.0.0.1", 0)]);
    let servers = [silent.address, server.address];
    let (resolver, cluster) = (resolver(&servers, "options timeout:1"), named("web.example"));
    let start = Instant::now();
    resolver.watch(&cluster).unwrap();
    await_addresses(&cluster, &["10.0.0.1"]);
    assert!(start.elapsed() >= Duration::from_secs(1));
    let so_far = server.asked().len();
    while server.asked().len() < so_far + 6 {
        assert!(start.elapsed() < Duration::from_secs(10));
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(silent.asked().len(), 2);
}

#[test]
fn a_name_that_nobody_answers_for_does_not_hold_up_the_others() {
    let server = Server::start(|question, asked| match asked.name.starts_with("slow") {
        true => vec![],
        false => vec![with(question, &asked, "10.0.0.1", 0)],
    });
    let slow = ClusterSettings::builder("slow");
    let slow = (0..20).fold(slow, |it, n| it.endpoint(&format!("slow{n}.example:80")));
    let (resolver, slow, quick) = (server.resolver(), cluster(slow), named("web.example"));
    let start = Instant::now();
    resolver.watch(&slow).unwrap();
    resolver.watch(&quick).unwrap();
    await_addresses(&quick, &["10.0.0.1"]);
    // One after the other the slow ones would take 20 s.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(slow.unresolved().len(), 20);
}

#[test]
fn search_list_and_hosts_are_honoured() {
    let server = Server::start(|question, asked| match &*asked.name {
        "web.b.local" => vec![with(question, &asked, "10.0.0.2", 60)],
        _ => vec![Answer::to(question).code(RCODE::NameError).bytes()],
    });
    let options = "search a.local b.local\noptions ndots:2";
    let resolver = resolver(&[server.address], options);
    let (searched, in_hosts) = (named("web"), named("in-hosts.example"));
    resolver.watch(&searched).unwrap();
    resolver.watch(&in_hosts).unwrap();
    await_addresses(&searched, &["10.0.0.2"]);
    await_addresses(&in_hosts, &["10.9.9.9"]);
    assert!(
        server.asked().iter().all(|asked| asked.name.starts_with("web.")),
        "hosts are not asked for"
    );
}

#[test]
fn a_reload_and_the_end_of_a_cluster_are_noticed() {
    static ASKED_FOR_OLD: AtomicUsize = AtomicUsize::new(0);
    let server = Server::start(|question, asked| {
        if asked.name.starts_with("old") {
            ASKED_FOR_OLD.fetch_add(1, SeqCst);
        }
        let address = if asked.name.starts_with("old") { "10.0.0.1" } else { "10.0.0.2" };
        vec![with(question, &asked, address, 0)]
    });
    let (resolver, cluster) = (server.resolver(), named("old.example"));
    resolver.watch(&cluster).unwrap();
    await_addresses(&cluster, &["10.0.0.1"]);
    let after = ClusterSettings::builder("reviews").endpoint("new.example:80").build().unwrap();
    cluster.apply(after, Instant::now());
    resolver.watch(&cluster).unwrap();
    await_addresses(&cluster, &["10.0.0.2"]);
    let so_far = ASKED_FOR_OLD.load(SeqCst);
    thread::sleep(Duration::from_millis(200));
    assert_eq!(ASKED_FOR_OLD.load(SeqCst), so_far);
    drop(cluster);
    // It was asked for every 50 ms; nobody needs it any more.
    let start = Instant::now();
    let asked_in_a_while = || {
        let so_far = server.asked().len();
        thread::sleep(Duration::from_millis(300));
        server.asked().len() - so_far
    };
    while asked_in_a_while() > 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "it is asked for without end");
    }
}

#[test]
fn a_cluster_that_is_forgotten_is_asked_for_no_more_though_it_lives() {
    let server = Server::start(|question, asked| vec![with(question, &asked, "10.0.0.1", 0)]);
    let resolver = server.resolver();
    let (gone, stays) = (named("gone.example"), named("stays.example"));
    for cluster in [&gone, &stays] {
        resolver.watch(cluster).unwrap();
        await_addresses(cluster, &["10.0.0.1"]);
    }
    resolver.forget(&gone);
    let asked = |name: &str| server.asked().iter().filter(|it| it.name.starts_with(name)).count();
    let start = Instant::now();
    loop {
        let before = (asked("gone"), asked("stays"));
        thread::sleep(Duration::from_millis(300));
        if asked("gone") == before.0 && asked("stays") > before.1 {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{before:?}");
    }
    assert_eq!(addresses(&gone), ["10.0.0.1"], "who has it goes on");
    let before = asked("gone");
    resolver.watch(&gone).unwrap();
    while asked("gone") == before {
        assert!(start.elapsed() < Duration::from_secs(20), "it can come back");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn without_names_there_is_no_thread_and_with_them_it_ends() {
    let idle = Resolver::new(ResolverSettings::default());
    let plain = cluster(ClusterSettings::builder("plain").endpoint("10.0.0.1:80"));
    idle.watch(&plain).unwrap();
    assert!(idle.running.lock().unwrap().is_none());
    let silent = Server::start(|_, _| vec![]);
    let (resolver, cluster) =
        (resolver(&[silent.address], "options timeout:30"), named("web.example"));
    resolver.watch(&cluster).unwrap();
    while silent.asked().is_empty() {
        thread::sleep(Duration::from_millis(2));
    }
    let start = Instant::now();
    drop(resolver);
    assert!(start.elapsed() < Duration::from_secs(10), "it does not wait for answers");
}
