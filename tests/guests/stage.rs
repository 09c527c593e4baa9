//! What guests of every kind are tested with: an echo service, its clients, and what must hold.
//!
//! The service sends back what it receives, with exceptions: `panic` makes it panic, `work` keeps
//! it at work until the client goes, and `whence` is answered by the listener and the original
//! destination.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use evenkeel::{
    Builder, Drain, Limits, Listener, Proxy,
    accept::Balance,
    shard::Balanced,
    telemetry::{CloseReason, RejectReason},
};

/// What tests vary; a guest's kind makes a proxy of it.
pub(crate) struct Config {
    pub(crate) shards: usize,
    pub(crate) balance: Balance,
    pub(crate) limits: Limits,
    pub(crate) listener: Listener,
}

pub(crate) type Start = fn(Config) -> Result<Proxy, evenkeel::Error>;

impl Config {
    pub(crate) fn shards(shards: usize) -> Config {
        Config {
            shards,
            balance: Balance::default(),
            limits: Limits::default(),
            listener: listener(),
        }
    }

    pub(crate) fn builder<K>(self, builder: Builder<K>) -> Builder<K> {
        builder
            .shards(self.shards)
            .balance(self.balance)
            .limits(self.limits)
            .listener(self.listener)
    }
}

fn listener() -> Listener {
    Listener::bind("127.0.0.1:0").unwrap().named("front")
}

/// Two shards behind a rule that redirects to port 15001.
pub(crate) fn redirected() -> Config {
    let listener = Listener::bind("0.0.0.0:15001").unwrap().named("front").redirected();
    Config { listener, ..Config::shards(2) }
}

/// The answer to `whence`.
pub(crate) fn whence<S>(connection: &Balanced<S>) -> String {
    match connection.original_destination() {
        Some(destination) => format!("{} {destination}", connection.listener()),
        None => connection.listener().to_owned(),
    }
}

pub(crate) struct Running {
    pub(crate) proxy: Proxy,
    pub(crate) address: SocketAddr,
}

pub(crate) fn run(start: Start, config: Config) -> Running {
    let proxy = start(config).unwrap();
    let address = proxy.local_addr("front").unwrap();
    Running { proxy, address }
}

impl Running {
    pub(crate) fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client
    }

    pub(crate) fn connect_and_exchange(&self) -> TcpStream {
        let mut client = self.connect();
        assert_eq!(exchange(&mut client, "hello"), "hello");
        client
    }

    pub(crate) fn loads(&self) -> Vec<u32> {
        self.proxy.shards().iter().map(|load| load.connections).collect()
    }

    pub(crate) fn until_loads_are(&self, expected: &[u32]) {
        eventually(&format!("loads are {expected:?}"), || self.loads() == expected);
    }

    /// Over all shards, of the listener `front`.
    pub(crate) fn counts(&self) -> Counts {
        let registry = self.proxy.registry();
        let cells = (0..self.loads().len()).map(|shard| registry.listener("front", shard));
        cells.fold(Counts::default(), |sum, cells| Counts {
            served: sum.served + cells.connections.value(),
            active: sum.active + cells.active.value(),
            done: sum.done + cells.closed.value(CloseReason::Done),
            cut: sum.cut + cells.closed.value(CloseReason::Drain),
            bytes: sum.bytes + cells.received_bytes.value(),
        })
    }

    pub(crate) fn panics(&self) -> u64 {
        let registry = self.proxy.registry();
        (0..self.loads().len()).map(|shard| registry.shard(shard).tasks_panicked.value()).sum()
    }
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Counts {
    pub(crate) served: u64,
    pub(crate) active: i64,
    pub(crate) done: u64,
    pub(crate) cut: u64,
    pub(crate) bytes: u64,
}

pub(crate) fn exchange(client: &mut TcpStream, message: &str) -> String {
    client.write_all(message.as_bytes()).unwrap();
    let mut answer = [0; 64];
    let length = read(client, &mut answer).unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

/// Whether the connection has ended, one way or the other.
pub(crate) fn has_ended(client: &mut TcpStream) -> bool {
    matches!(read(client, &mut [0; 64]), Ok(0) | Err(_))
}

/// Executors may use signals, which interrupt a read that has a timeout (signal(7)).
fn read(client: &mut TcpStream, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match client.read(into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// Waits until a condition holds, for at most 20 s: a busy machine is no failure.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// For guests that need nothing special of the machine.
pub(crate) fn anywhere(_: &str) -> bool {
    true
}

/// The tests that a guest of any kind passes; `$can_run` says whether the one of that name can run
/// here.
macro_rules! every_guest {
    ($start:path) => {
        crate::stage::every_guest!($start, crate::stage::anywhere);
    };
    ($start:path, $can_run:path) => {
        #[test]
        fn connections_are_spread_evenly_and_counted_until_they_end() {
            if !$can_run(concat!(
                module_path!(),
                "::connections_are_spread_evenly_and_counted_until_they_end"
            )) {
                return;
            }
            crate::stage::spreads_evenly($start);
        }

        #[test]
        fn a_service_that_panics_ends_its_connection_only() {
            if !$can_run(concat!(
                module_path!(),
                "::a_service_that_panics_ends_its_connection_only"
            )) {
                return;
            }
            crate::stage::survives_a_panic($start);
        }

        #[test]
        fn a_shard_that_is_killed_leaves_the_rest_to_the_others() {
            if !$can_run(concat!(
                module_path!(),
                "::a_shard_that_is_killed_leaves_the_rest_to_the_others"
            )) {
                return;
            }
            crate::stage::survives_a_killed_shard($start);
        }

        #[test]
        fn caps_hold() {
            if !$can_run(concat!(module_path!(), "::caps_hold")) {
                return;
            }
            crate::stage::holds_caps($start);
        }

        #[test]
        fn a_drain_lets_connections_finish_and_cuts_the_rest() {
            if !$can_run(concat!(
                module_path!(),
                "::a_drain_lets_connections_finish_and_cuts_the_rest"
            )) {
                return;
            }
            crate::stage::drains($start);
        }

        #[test]
        fn dropping_the_proxy_ends_everything() {
            if !$can_run(concat!(module_path!(), "::dropping_the_proxy_ends_everything")) {
                return;
            }
            crate::stage::ends_when_dropped($start);
        }

        #[test]
        fn listeners_come_and_go_by_reload() {
            if !$can_run(concat!(module_path!(), "::listeners_come_and_go_by_reload")) {
                return;
            }
            crate::stage::reloads($start);
        }

        #[test]
        fn a_busy_shard_is_avoided_under_least_busy() {
            if !$can_run(concat!(module_path!(), "::a_busy_shard_is_avoided_under_least_busy")) {
                return;
            }
            crate::stage::avoids_the_busy($start);
        }

        #[test]
        fn what_guests_do_not_have_is_refused_by_name() {
            if !$can_run(concat!(module_path!(), "::what_guests_do_not_have_is_refused_by_name")) {
                return;
            }
            crate::stage::refuses($start);
        }

        #[test]
        fn the_original_destination_is_told() {
            if !$can_run(concat!(module_path!(), "::the_original_destination_is_told")) {
                return;
            }
            let module = module_path!().split_once("::").unwrap().1;
            let test = format!("{module}::the_original_destination_is_told");
            crate::redirected::tells_the_original_destination(&test, $start);
        }
    };
}
pub(crate) use every_guest;

pub(crate) fn spreads_evenly(start: Start) {
    let running = run(start, Config::shards(8));
    let mut clients = Vec::new();
    for opened in 1..=64 {
        clients.push(running.connect_and_exchange());
        let loads = running.loads();
        assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1, "{loads:?}");
        assert_eq!(loads.iter().sum::<u32>(), opened);
    }
    running.proxy.ready().unwrap();
    assert_eq!(exchange(&mut clients[0], "whence"), "front");
    let bytes = 64 * 5 + 6;
    assert_eq!(running.counts(), Counts { served: 64, active: 64, bytes, ..Counts::default() });
    drop(clients);
    running.until_loads_are(&[0; 8]);
    assert_eq!(running.counts(), Counts { served: 64, done: 64, bytes, ..Counts::default() });
}

pub(crate) fn survives_a_panic(start: Start) {
    let running = run(start, Config::shards(1));
    let mut bystander = running.connect_and_exchange();
    for panics in 1..=3 {
        let mut client = running.connect();
        client.write_all(b"panic").unwrap();
        assert!(has_ended(&mut client));
        running.until_loads_are(&[1]);
        eventually("the panic is counted", || running.panics() == panics);
    }
    assert_eq!(exchange(&mut bystander, "hello"), "hello");
    running.proxy.ready().unwrap();
}

pub(crate) fn survives_a_killed_shard(start: Start) {
    let running = run(start, Config::shards(2));
    let mut clients: Vec<_> = (0..8).map(|_| running.connect_and_exchange()).collect();
    assert_eq!(running.loads(), [4, 4]);
    running.proxy.kill_shard(0);
    eventually("it is not ready", || running.proxy.ready().is_err());
    assert_eq!(running.proxy.registry().proxy().shards_failed.value(), 1);
    let mut later: Vec<_> = (0..8).map(|_| running.connect_and_exchange()).collect();
    assert_eq!(running.loads()[1], 12);
    assert!(later.iter_mut().all(|client| exchange(client, "hello") == "hello"));
    let survivors = clients.iter_mut().filter_map(|client| {
        client.write_all(b"hello").ok()?;
        client.read_exact(&mut [0; 5]).ok()
    });
    assert_eq!(survivors.count(), 4, "those of the shard that lives");
    drop((clients, later));
    running.until_loads_are(&[0, 0]);
}

pub(crate) fn holds_caps(start: Start) {
    let config = Config {
        limits: Limits::new(0, 2),
        listener: listener().max_connections(3),
        ..Config::shards(1)
    };
    let running = run(start, config);
    let first = running.connect_and_exchange();
    let second = running.connect_and_exchange();
    assert!(has_ended(&mut running.connect()), "the shard has two");
    drop(first);
    running.until_loads_are(&[1]);
    let third = running.connect_and_exchange();
    let rejected = &running.proxy.registry().accept("front", 0).rejected;
    assert_eq!(rejected.value(RejectReason::ShardLimit), 1);
    drop((second, third));
    running.until_loads_are(&[0]);

    let config = Config { listener: listener().max_connections(1), ..Config::shards(1) };
    let running = run(start, config);
    let only = running.connect_and_exchange();
    assert!(has_ended(&mut running.connect()), "the listener has one");
    drop(only);
    running.until_loads_are(&[0]);
    eventually("its place is free", || {
        let mut client = running.connect();
        client.write_all(b"hello").is_ok() && client.read_exact(&mut [0; 5]).is_ok()
    });
}

pub(crate) fn drains(start: Start) {
    let running = run(start, Config::shards(2));
    let mut finishes = running.connect_and_exchange();
    let mut stays = running.connect_and_exchange();
    let finish = thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        exchange(&mut finishes, "hello")
    });
    let drained = running.proxy.drain(Drain::within(Duration::from_millis(500)));
    assert_eq!((drained.open, drained.cut), (2, 1));
    assert_eq!(finish.join().unwrap(), "hello", "served while it drains");
    assert!(has_ended(&mut stays));
    assert!(TcpStream::connect(running.address).is_err());
    let Counts { active, done, cut, .. } = running.counts();
    assert_eq!((active, done, cut), (0, 1, 1));
    assert_eq!(running.loads(), [0, 0]);
}

pub(crate) fn ends_when_dropped(start: Start) {
    let running = run(start, Config::shards(2));
    let mut clients: Vec<_> = (0..16).map(|_| running.connect_and_exchange()).collect();
    let began = Instant::now();
    drop(running);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(clients.iter_mut().all(has_ended));
}

pub(crate) fn reloads(start: Start) {
    let running = run(start, Config::shards(2));
    let mut before = running.connect_and_exchange();
    running.proxy.reload([listener(), listener().named("second")]).unwrap();
    let second = running.proxy.local_addr("second").unwrap();
    let mut client = TcpStream::connect(second).unwrap();
    assert_eq!(exchange(&mut client, "whence"), "second");
    assert_eq!(exchange(&mut before, "whence"), "front");
    assert_eq!(running.proxy.local_addr("front"), Some(running.address));
}

pub(crate) fn avoids_the_busy(start: Start) {
    let running = run(start, Config { balance: Balance::LeastBusy, ..Config::shards(2) });
    let mut client = running.connect_and_exchange();
    let busy = running.loads().iter().position(|connections| *connections == 1).unwrap();
    client.write_all(b"work").unwrap();
    eventually("its shard is busy", || running.proxy.shards()[busy].busy_permille > 200);
    let clients: Vec<_> = (0..4).map(|_| running.connect()).collect();
    eventually("they are with the other", || running.loads()[1 - busy] == 4);
    assert_eq!(running.loads()[busy], 1);
    drop((client, clients));
    running.until_loads_are(&[0, 0]);
    eventually("both are idle", || {
        running.proxy.shards().iter().all(|load| load.busy_permille == 0)
    });
}

pub(crate) fn refuses(start: Start) {
    let refused = |config: Config| start(config).unwrap_err().to_string();
    let kernel = Config { balance: Balance::Kernel, ..Config::shards(2) };
    assert!(refused(kernel).contains("kernel"));
    let served = listener().serve(evenkeel::Relay::to(["127.0.0.1:1"]));
    let served = Config { listener: served, ..Config::shards(1) };
    assert!(refused(served).contains("\"front\""));
    let proxied = Config { listener: listener().proxy_protocol(), ..Config::shards(1) };
    assert!(refused(proxied).contains("PROXY"));
}
