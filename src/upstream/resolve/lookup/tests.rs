use super::*;

const CONFIGURATION: &str =
    "nameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch a.local b.local\noptions attempts:2";

struct Fixture(Lookup);

impl Fixture {
    fn new(host: &str) -> Fixture {
        Fixture::with(host, CONFIGURATION, Families::PreferIpv4)
    }

    fn with(host: &str, configuration: &str, families: Families) -> Fixture {
        let system = Arc::new(System::parse(configuration.as_bytes(), ""));
        Fixture(Lookup::new(host, system, families, 0))
    }

    /// What is sent: `name family server`, in alphabetical order.
    fn sent(&mut self) -> Vec<String> {
        let queries = std::iter::from_fn(|| self.0.next_query());
        let text = |query: Query| {
            let family = if query.family == Family::Ipv4 { "A" } else { "AAAA" };
            let over = if query.over_tcp { " tcp" } else { "" };
            format!("{} {family} {}{over}", query.name, query.server.ip())
        };
        let mut sent: Vec<_> = queries.map(text).collect();
        sent.sort();
        sent
    }

    fn a(&mut self, reply: Reply) {
        self.0.replied(Family::Ipv4, reply);
    }

    fn aaaa(&mut self, reply: Reply) {
        self.0.replied(Family::Ipv6, reply);
    }

    fn outcome(&self) -> Option<Outcome> {
        self.0.outcome().cloned()
    }
}

fn found(address: &str, ttl: u32) -> Reply {
    Reply::Addresses(vec![address.parse().unwrap()], ttl)
}

fn is(address: &str, ttl: u32) -> Option<Outcome> {
    Some(Outcome::Addresses(vec![address.parse().unwrap()], ttl))
}

#[test]
fn both_families_are_asked_at_once_and_the_preferred_one_decides() {
    let mut lookup = Fixture::new("web.example");
    assert_eq!(lookup.sent(), ["web.example A 10.0.0.1", "web.example AAAA 10.0.0.1"]);
    lookup.aaaa(found("fd00::1", 5));
    assert_eq!(lookup.outcome(), None, "the other one may have some");
    lookup.a(found("10.1.0.1", 30));
    assert_eq!((lookup.outcome(), lookup.0.answered_by), (is("10.1.0.1", 30), Some(0)));

    let mut lookup = Fixture::new("web.example");
    lookup.aaaa(found("fd00::1", 5));
    lookup.a(Reply::NoAddress(None));
    assert_eq!(lookup.outcome(), is("fd00::1", 5));

    let mut lookup = Fixture::with("web.example", CONFIGURATION, Families::PreferIpv6);
    lookup.aaaa(found("fd00::1", 5));
    assert_eq!(lookup.outcome(), is("fd00::1", 5), "without waiting for the other one");
}

#[test]
fn only_what_is_wanted_is_asked_for() {
    let mut lookup = Fixture::with("web.example", CONFIGURATION, Families::Ipv6);
    assert_eq!(lookup.sent(), ["web.example AAAA 10.0.0.1"]);
    let no_aaaa = "nameserver 10.0.0.1\noptions no-aaaa use-vc";
    let mut lookup = Fixture::with("web.example", no_aaaa, Families::PreferIpv6);
    assert_eq!(lookup.sent(), ["web.example A 10.0.0.1 tcp"]);
}

#[test]
fn a_name_that_is_not_there_leads_to_the_next_one() {
    let mut lookup = Fixture::new("web");
    assert_eq!(lookup.sent(), ["web.a.local A 10.0.0.1", "web.a.local AAAA 10.0.0.1"]);
    lookup.a(Reply::NoSuchName(Some(60)));
    assert_eq!(lookup.sent(), ["web.b.local A 10.0.0.1", "web.b.local AAAA 10.0.0.1"], "for both");
    lookup.a(Reply::NoAddress(Some(20)));
    assert_eq!(lookup.sent(), [""; 0]);
    lookup.aaaa(Reply::NoAddress(None));
    assert_eq!(lookup.sent(), ["web A 10.0.0.1", "web AAAA 10.0.0.1"]);
    lookup.a(Reply::NoSuchName(Some(30)));
    assert_eq!(lookup.outcome(), Some(Outcome::Nothing(Some(20))));
}

#[test]
fn a_server_that_fails_is_passed_over_and_nobody_is_asked_for_ever() {
    let mut lookup = Fixture::with("web.example", CONFIGURATION, Families::Ipv4);
    let mut asked = lookup.sent();
    while lookup.outcome().is_none() {
        lookup.a(Reply::Failed("SERVFAIL"));
        asked.append(&mut lookup.sent());
    }
    let servers = ["10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.2"];
    assert_eq!(asked, servers.map(|server| format!("web.example A {server}")));
    assert_eq!(lookup.outcome(), Some(Outcome::Failed("SERVFAIL")));
    assert_eq!(lookup.0.answered_by, None);

    let mut lookup = Fixture::new("web");
    lookup.a(Reply::Failed("SERVFAIL"));
    lookup.a(found("10.1.0.1", 30));
    assert_eq!((lookup.outcome(), lookup.0.answered_by), (is("10.1.0.1", 30), Some(1)));
}

/// The address of another name must not be used since a server has a bad moment.
#[test]
fn a_failure_does_not_lead_to_the_next_name() {
    let mut lookup = Fixture::new("web");
    (0..4).for_each(|_| lookup.a(Reply::Failed("SERVFAIL")));
    assert_eq!(lookup.outcome(), Some(Outcome::Failed("SERVFAIL")));
    let mut lookup = Fixture::new("web");
    lookup.a(Reply::NoAddress(None));
    (0..4).for_each(|_| lookup.aaaa(Reply::Failed("SERVFAIL")));
    assert_eq!(lookup.outcome(), Some(Outcome::Failed("SERVFAIL")));
}

#[test]
fn the_same_server_is_asked_over_tcp() {
    let mut lookup = Fixture::with("web.example", CONFIGURATION, Families::Ipv4);
    lookup.sent();
    lookup.a(Reply::Failed("SERVFAIL"));
    lookup.sent();
    lookup.a(Reply::AskOverTcp);
    assert_eq!(lookup.sent(), ["web.example A 10.0.0.2 tcp"]);
    lookup.a(Reply::Failed("refused"));
    assert_eq!(lookup.sent(), ["web.example A 10.0.0.1"], "the next one over UDP again");
}

#[test]
fn aliases_are_asked_for_and_bounded() {
    let mut lookup = Fixture::with("web.example", CONFIGURATION, Families::Ipv4);
    lookup.sent();
    lookup.a(Reply::Alias("b.example".into(), 9));
    assert_eq!(lookup.sent(), ["b.example A 10.0.0.1"]);
    lookup.a(found("10.1.0.1", 30));
    assert_eq!(lookup.outcome(), is("10.1.0.1", 9));
    let mut lookup = Fixture::with("web.example", CONFIGURATION, Families::Ipv4);
    let mut aliases = 0;
    while lookup.outcome().is_none() {
        lookup.a(Reply::Alias("web.example".into(), 9));
        aliases += 1;
    }
    assert!(matches!(lookup.outcome(), Some(Outcome::Failed(_))));
    assert_eq!(aliases, LONGEST_CHAIN + 1);
}

#[test]
fn without_servers_a_lookup_fails() {
    let mut system = System::parse(b"", "");
    system.servers.clear();
    let lookup = Lookup::new("web.example", Arc::new(system), Families::PreferIpv4, 0);
    assert!(matches!(lookup.outcome(), Some(Outcome::Failed(_))));
}
