//! The resolver's thread: what is due, what is under way, and who is told.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    rand::{GetRandomFlags, getrandom},
};

use super::{
    Incoming, Order, Orders, ResolverSettings,
    exchange::Exchange,
    lookup::{Lookup, Outcome, Query},
    message::{Family, Question, Reply},
    schedule::{Publish, Schedule},
    system::Files,
};
use crate::{telemetry::LogLimit, upstream::cluster::Cluster};

/// Lookups under way at a time.
const MOST_LOOKUPS: usize = 64;

/// How long addresses from hosts(5) are good for: the file is read again when it has changed.
const HOSTS_TTL: u32 = 5;

/// How often it is looked whether clusters have gone.
const LOOK_AFTER: Duration = Duration::from_secs(60);

pub(super) struct Worker {
    settings: ResolverSettings,
    orders: Arc<Orders>,
    files: Files,
    clusters: Vec<Weak<Cluster>>,
    names: HashMap<Arc<str>, Name>,
    /// Lookups under way, by name.
    lookups: HashMap<Arc<str>, Running>,
    /// Where to begin among the servers: with the one that answered last.
    first_server: usize,
    random: fastrand::Rng,
    complaints: LogLimit,
}

/// A name that clusters have.
struct Name {
    schedule: Schedule,
    /// As published last.
    addresses: Vec<IpAddr>,
}

struct Running {
    lookup: Lookup,
    exchanges: Vec<(Family, Exchange)>,
}

impl Worker {
    pub(super) fn new(settings: ResolverSettings, orders: Arc<Orders>) -> Worker {
        let (resolv_conf, hosts) = (settings.resolv_conf.clone(), settings.hosts.clone());
        let files = Files::new(resolv_conf, hosts, settings.servers.clone());
        let seed = unpredictable().map_or(0, u64::from_ne_bytes);
        Worker {
            settings,
            orders,
            files,
            clusters: Vec::new(),
            names: HashMap::new(),
            lookups: HashMap::new(),
            first_server: 0,
            random: fastrand::Rng::with_seed(seed),
            complaints: LogLimit::new(Duration::from_secs(10), 5),
        }
    }

    pub(super) fn run(mut self) {
        loop {
            let Incoming { clusters, end } = self.orders.take();
            if end {
                return;
            }
            let now = Instant::now();
            self.follow(clusters, now);
            self.begin_lookups(now);
            self.proceed(now);
            self.end_lookups(now);
            self.wait();
        }
    }

    /// Takes in clusters, and which names they have by now.
    fn follow(&mut self, orders: Vec<Order>, now: Instant) {
        let mut came = Vec::new();
        for order in orders {
            let (Order::Watch(cluster) | Order::Forget(cluster)) = &order;
            self.clusters.retain(|known| !known.ptr_eq(cluster));
            came.retain(|known: &Weak<Cluster>| !known.ptr_eq(cluster));
            if let Order::Watch(cluster) = order {
                self.clusters.push(Weak::clone(&cluster));
                came.push(cluster);
            }
        }
        self.clusters.retain(|cluster| cluster.strong_count() > 0);
        let mut names = HashMap::new();
        for cluster in self.clusters.iter().filter_map(Weak::upgrade) {
            for name in cluster.snapshot().settings().host_names() {
                if let Entry::Vacant(place) = names.entry(Arc::clone(name)) {
                    let new = || Name { schedule: Schedule::new(now), addresses: Vec::new() };
                    place.insert(self.names.remove(name).unwrap_or_else(new));
                }
            }
        }
        self.names = names;
        self.lookups.retain(|name, _| self.names.contains_key(name));
        // A cluster that came to a name which is known need not wait for it.
        for cluster in came.iter().filter_map(Weak::upgrade) {
            for name in cluster.unresolved() {
                if let Some(known) = self.names.get(&name).filter(|it| !it.addresses.is_empty()) {
                    cluster.set_addresses(&name, &known.addresses, now);
                }
            }
        }
    }

    fn begin_lookups(&mut self, now: Instant) {
        let mut due: Vec<_> = self
            .names
            .iter()
            .filter(|(name, known)| known.schedule.due <= now && !self.lookups.contains_key(*name))
            .map(|(name, known)| (known.schedule.due, Arc::clone(name)))
            .collect();
        due.sort_unstable();
        for (_, name) in due {
            if self.lookups.len() >= MOST_LOOKUPS {
                return;
            }
            let system = Arc::clone(self.files.read(now));
            if let Some(addresses) = system.known(&name) {
                let outcome = match of_families(&addresses, self.settings.families.asked()) {
                    wanted if wanted.is_empty() => Outcome::Nothing(Some(HOSTS_TTL)),
                    wanted => Outcome::Addresses(wanted, HOSTS_TTL),
                };
                self.publish(&name, &outcome, now);
                continue;
            }
            let first = match system.rotate {
                true => self.random.usize(..),
                false => self.first_server,
            };
            let servers = system.servers.len().max(1);
            let lookup = Lookup::new(&name, system, self.settings.families, first % servers);
            self.lookups.insert(name, Running { lookup, exchanges: Vec::new() });
        }
    }

    /// Sends what is to be sent, and takes in what has come or timed out.
    fn proceed(&mut self, now: Instant) {
        for running in self.lookups.values_mut() {
            running.take_in(now);
            while let Some(query) = running.lookup.next_query() {
                running.send(query, now);
            }
        }
    }

    fn end_lookups(&mut self, now: Instant) {
        let is_done = |(name, running): (&Arc<str>, &Running)| {
            let outcome = running.lookup.outcome()?.clone();
            Some((Arc::clone(name), outcome, running.lookup.answered_by))
        };
        let done: Vec<_> = self.lookups.iter().filter_map(is_done).collect();
        for (name, outcome, answered_by) in done {
            self.lookups.remove(&name);
            if let Some(server) = answered_by {
                self.first_server = server;
            }
            self.publish(&name, &outcome, now);
        }
    }

    fn publish(&mut self, name: &Arc<str>, outcome: &Outcome, now: Instant) {
        let Some(known) = self.names.get_mut(name) else { return };
        let random = self.random.f64();
        let publish = known.schedule.take(outcome, &self.settings.refresh, now, random);
        let addresses = match outcome {
            Outcome::Addresses(addresses, _) => &addresses[..],
            Outcome::Nothing(_) => {
                self.complain(name, "there is no such name, or it has no address", now);
                &[]
            }
            Outcome::Failed(why) => {
                self.complain(name, why, now);
                &[]
            }
        };
        if publish == Publish::Keep {
            return;
        }
        for cluster in self.clusters.iter().filter_map(Weak::upgrade) {
            cluster.set_addresses(name, addresses, now);
        }
        if let Some(known) = self.names.get_mut(name) {
            known.addresses = addresses.to_vec();
        }
    }

    fn complain(&self, name: &str, why: &str, now: Instant) {
        if self.complaints.allow(now) {
            let suppressed = self.complaints.take_suppressed();
            tracing::warn!(name, why, suppressed, "a name of an upstream cluster is not resolved");
        }
    }

    /// Waits until a socket is ready, something is due, or the bell rings.
    fn wait(&self) {
        let exchanges = || self.lookups.values().flat_map(|running| &running.exchanges);
        let deadlines = exchanges().map(|(_, exchange)| exchange.deadline);
        let has_room = self.lookups.len() < MOST_LOOKUPS;
        let idle =
            self.names.iter().filter(|(name, _)| has_room && !self.lookups.contains_key(*name));
        let due = idle.map(|(_, known)| known.schedule.due);
        // The clock is read anew: what was begun meanwhile counts.
        let now = Instant::now();
        let until = deadlines.chain(due).min().unwrap_or(now + LOOK_AFTER).min(now + LOOK_AFTER);
        let left = until.saturating_duration_since(now);
        let mut sockets = vec![PollFd::new(&self.orders.bell, PollFlags::IN)];
        for (_, exchange) in exchanges() {
            let flags = if exchange.wants_to_send() { PollFlags::OUT } else { PollFlags::IN };
            sockets.push(PollFd::from_borrowed_fd(exchange.socket(), flags));
        }
        let timeout = Timespec::try_from(left).ok();
        // An interruption is a turn in vain; any other error would be one of memory, and the next
        // turn finds out by itself what has come.
        if poll(&mut sockets, timeout.as_ref()).is_err_and(|error| error != rustix::io::Errno::INTR)
        {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Running {
    fn take_in(&mut self, now: Instant) {
        for at in (0..self.exchanges.len()).rev() {
            let (family, exchange) = &mut self.exchanges[at];
            let family = *family;
            let reply = match exchange.proceed() {
                Some(Ok(reply)) => reply,
                Some(Err(_)) => Reply::Failed("the servers cannot be reached"),
                None if exchange.deadline <= now => Reply::Failed("the servers do not answer"),
                None => continue,
            };
            self.exchanges.swap_remove(at);
            self.lookup.replied(family, reply);
        }
    }

    fn send(&mut self, query: Query, now: Instant) {
        let Query { name, family, server, over_tcp } = query;
        self.exchanges.retain(|(other, _)| *other != family);
        let Ok(random) = unpredictable() else {
            return self.lookup.replied(family, Reply::Failed("no randomness"));
        };
        let Some(question) = Question::new(&name, family, random) else {
            // A name that is too long with a domain of the search list behind it.
            return self.lookup.replied(family, Reply::NoSuchName(None));
        };
        let deadline = now + self.lookup.timeout();
        match Exchange::start(question, server, over_tcp, deadline) {
            Ok(exchange) => self.exchanges.push((family, exchange)),
            Err(_) => self.lookup.replied(family, Reply::Failed("the servers cannot be reached")),
        }
    }
}

/// The addresses of the first family that there are any of.
fn of_families(addresses: &[IpAddr], families: &[Family]) -> Vec<IpAddr> {
    let of = |family: &Family| {
        let is_ipv4 = *family == Family::Ipv4;
        let of_family = addresses.iter().copied().filter(|address| address.is_ipv4() == is_ipv4);
        of_family.collect::<Vec<_>>()
    };
    families.iter().map(of).find(|found| !found.is_empty()).unwrap_or_default()
}

/// Bytes that nobody can guess.
fn unpredictable<const N: usize>() -> rustix::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    // Up to 256 bytes come at once, and without interruption (getrandom(2)).
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(bytes)
}
