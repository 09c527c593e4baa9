//! What the system says about names: resolv.conf(5) and hosts(5).
//!
//! *In:* the two files, read again when they have changed. *Out:* servers, the names to ask for in
//! turn, and addresses that need no asking. *Never:* asks anybody.

use std::{
    collections::HashMap,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use resolv_conf::{Config, ScopedIp};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The limits that resolv.conf(5) sets itself.
const MOST_SERVERS: usize = 3;
const MOST_SEARCHED: usize = 6;
const MOST_DOTS: u32 = 15;
const MOST_ATTEMPTS: u32 = 5;
const LONGEST_TIMEOUT: u32 = 30;

/// What was in the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct System {
    pub(super) servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
    /// How long each server has for each attempt.
    pub(super) timeout: Duration,
    /// How often each server is asked.
    pub(super) attempts: u32,
    /// Whether to begin with another server each time.
    pub(super) rotate: bool,
    /// Whether to ask over TCP only.
    pub(super) tcp_only: bool,
    /// Whether to leave out questions for IPv6 addresses.
    pub(super) no_aaaa: bool,
    hosts: HashMap<String, Vec<IpAddr>>,
}

impl System {
    pub(super) fn parse(resolv_conf: &[u8], hosts: &str) -> System {
        // What cannot be understood is passed over, as the C library does.
        let (config, _) = Config::parse_with_errors(resolv_conf);
        let servers = config.get_nameservers_or_local();
        let search = config.get_last_search_or_domain();
        let domain = |domain: &String| domain.trim_end_matches('.').to_ascii_lowercase();
        System {
            servers: servers.iter().filter_map(server).take(MOST_SERVERS).collect(),
            search: search.map(domain).filter(|it| !it.is_empty()).take(MOST_SEARCHED).collect(),
            ndots: config.ndots.min(MOST_DOTS) as usize,
            timeout: Duration::from_secs(config.timeout.clamp(1, LONGEST_TIMEOUT).into()),
            attempts: config.attempts.clamp(1, MOST_ATTEMPTS),
            rotate: config.rotate,
            tcp_only: config.use_vc,
            no_aaaa: config.no_aaaa,
            hosts: parse_hosts(hosts),
        }
    }

    /// The absolute names to ask for, in turn, until one is there.
    pub(super) fn candidates(&self, host: &str) -> Vec<String> {
        if let Some(absolute) = host.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let searched = self.search.iter().map(|domain| format!("{host}.{domain}"));
        let dots = host.bytes().filter(|&byte| byte == b'.').count();
        match dots >= self.ndots {
            true => std::iter::once(host.to_owned()).chain(searched).collect(),
            false => searched.chain(std::iter::once(host.to_owned())).collect(),
        }
    }

    /// The addresses of a name that is not asked for: from hosts(5), or of this host (RFC 6761,
    /// section 6.3).
    pub(super) fn known(&self, host: &str) -> Option<Vec<IpAddr>> {
        let host = host.strip_suffix('.').unwrap_or(host);
        if let Some(addresses) = self.hosts.get(host) {
            return Some(addresses.clone());
        }
        let is_this_host = host == "localhost" || host.ends_with(".localhost");
        is_this_host.then(|| vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
    }
}

fn server(server: &ScopedIp) -> Option<SocketAddr> {
    const PORT: u16 = 53;
    match server {
        ScopedIp::V4(ip) => Some(SocketAddr::from((*ip, PORT))),
        ScopedIp::V6(ip, None) => Some(SocketAddr::from((*ip, PORT))),
        ScopedIp::V6(ip, Some(interface)) => {
            let index = match interface.parse() {
                Ok(index) => index,
                Err(_) => nix::net::if_::if_nametoindex(interface.as_str()).ok()?,
            };
            Some(SocketAddrV6::new(*ip, PORT, 0, index).into())
        }
    }
}

fn parse_hosts(text: &str) -> HashMap<String, Vec<IpAddr>> {
    let mut hosts: HashMap<String, Vec<IpAddr>> = HashMap::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
        for name in words {
            let addresses = hosts.entry(name.to_ascii_lowercase()).or_default();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    hosts
}

/// The files, and what was in them when they were last read.
#[derive(Debug)]
pub(super) struct Files {
    resolv_conf: PathBuf,
    hosts: PathBuf,
    /// Servers to ask instead of those in the file.
    servers: Option<Vec<SocketAddr>>,
    looked: Option<Instant>,
    seen: [Option<Stamp>; 2],
    system: Arc<System>,
}

/// What changes when a file does.
type Stamp = (SystemTime, u64);

impl Files {
    pub(super) fn new(
        resolv_conf: PathBuf,
        hosts: PathBuf,
        servers: Option<Vec<SocketAddr>>,
    ) -> Files {
        let system = Arc::new(System::parse(b"", ""));
        Files { resolv_conf, hosts, servers, looked: None, seen: [None; 2], system }
    }

    /// What the files say. They are looked at once a second at most, and read when they have
    /// changed; one that cannot be read counts as empty.
    pub(super) fn read(&mut self, now: Instant) -> &Arc<System> {
        let is_due = self.looked.is_none_or(|looked| now >= looked + LOOK_EVERY);
        let seen = || [stamp(&self.resolv_conf), stamp(&self.hosts)];
        if is_due {
            let seen = seen();
            if self.looked.is_none() || seen != self.seen {
                let resolv_conf = contents(&self.resolv_conf);
                let hosts = contents(&self.hosts);
                let mut system = System::parse(&resolv_conf, &String::from_utf8_lossy(&hosts));
                if let Some(servers) = &self.servers {
                    system.servers.clone_from(servers);
                }
                self.system = Arc::new(system);
                self.seen = seen;
            }
            self.looked = Some(now);
        }
        &self.system
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn contents(path: &Path) -> Vec<u8> {
    match fs::read(path) {
        Ok(contents) => contents,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error, "cannot be read: names are resolved without it");
            }
            Vec::new()
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn options_are_taken_from_the_file_within_their_limits() {
        let text = b"nameserver 10.0.0.10\nnameserver fd00::10\n; comment\nnonsense here\n\
            search default.svc.cluster.local. svc.cluster.local\n\
            options ndots:5 timeout:2 attempts:9 rotate use-vc no-aaaa";
        let system = System::parse(text, "");
        let servers = ["10.0.0.10:53", "[fd00::10]:53"].map(|it| it.parse().unwrap());
        assert_eq!(system.servers, servers);
        assert_eq!(system.search, ["default.svc.cluster.local", "svc.cluster.local"]);
        assert_eq!((system.ndots, system.timeout, system.attempts), (5, Duration::from_secs(2), 5));
        assert!(system.rotate && system.tcp_only && system.no_aaaa);
        let bare = System::parse(b"", "");
        assert_eq!(bare.servers, ["127.0.0.1:53", "[::1]:53"].map(|it| it.parse().unwrap()));
        assert_eq!((bare.timeout, bare.attempts, bare.ndots), (Duration::from_secs(5), 2, 1));
        let none = System::parse(b"options timeout:0 attempts:0", "");
        assert_eq!((none.timeout, none.attempts), (Duration::from_secs(1), 1));
    }

    #[test]
    fn a_name_with_few_dots_is_searched_first() {
        let system = System::parse(b"search a.local b.local\noptions ndots:2", "");
        assert_eq!(system.candidates("web"), ["web.a.local", "web.b.local", "web"]);
        assert_eq!(system.candidates("x.web"), ["x.web.a.local", "x.web.b.local", "x.web"]);
        assert_eq!(system.candidates("y.x.web"), ["y.x.web", "y.x.web.a.local", "y.x.web.b.local"]);
        assert_eq!(system.candidates("web."), ["web"]);
    }

    #[test]
    fn hosts_are_known_without_asking() {
        let hosts = "127.0.0.1 localhost\n10.0.0.5\tWeb web.local # the web\nfd00::5 web\n\
            10.0.0.5 web\nnonsense x\n#10.0.0.6 y\n10.0.0.7";
        let system = System::parse(b"", hosts);
        assert_eq!(system.known("web"), Some(vec![ip("10.0.0.5"), ip("fd00::5")]));
        assert_eq!(system.known("web.local."), Some(vec![ip("10.0.0.5")]));
        assert_eq!(system.known("localhost"), Some(vec![ip("127.0.0.1")]), "as the file has it");
        assert_eq!(system.known("a.localhost"), Some(vec![ip("127.0.0.1"), ip("::1")]));
        assert_eq!((system.known("x"), system.known("y"), system.known("b")), (None, None, None));
    }

    #[test]
    fn files_are_read_again_when_they_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        let mut files = Files::new(path("resolv.conf"), path("hosts"), None);
        let mut now = Instant::now();
        assert_eq!(files.read(now).known("web"), None, "there is no file");
        fs::write(path("hosts"), "10.0.0.1 web").unwrap();
        assert_eq!(files.read(now).known("web"), None, "not looked at again so soon");
        now += LOOK_EVERY;
        let known = files.read(now).clone();
        assert_eq!(known.known("web"), Some(vec![ip("10.0.0.1")]));
        now += LOOK_EVERY;
        assert!(Arc::ptr_eq(files.read(now), &known), "nothing has changed");
        fs::write(path("resolv.conf"), "options attempts:4").unwrap();
        now += LOOK_EVERY;
        assert_eq!(files.read(now).attempts, 4);
    }
}
