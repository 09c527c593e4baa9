//! One lookup: from a host's name to its addresses, over all names to try and servers to ask.
//!
//! *In:* replies, and questions that nobody answered. *Out:* queries to send, and in the end an
//! outcome. *Owns:* what has been heard so far. *Never:* touches a socket, a clock or randomness.
//!
//! ```text
//!  names to try:  web.default.svc.cluster.local, web.svc.cluster.local, …     in turn
//!    families:    A and AAAA                                                  at the same time
//!      servers:   each as often as resolv.conf(5) says; one that answers with a failure is passed
//!                 over at once; one whose answer is cut short is asked again over TCP
//! ```
//!
//! The next name is tried only where a server has said that there is no such name, or nothing at
//! it. Where none has answered the lookup fails as a whole: going on would give the addresses of
//! another name whenever a server has a bad moment.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use super::{
    Families,
    message::{Family, LONGEST_CHAIN, Reply},
    system::System,
};

/// A question to send to a server. It takes the place of an earlier one for the same family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) name: String,
    pub(super) family: Family,
    pub(super) server: SocketAddr,
    pub(super) over_tcp: bool,
}

/// How a lookup ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// These addresses, for so many seconds.
    Addresses(Vec<IpAddr>, u32),
    /// There are none, as a server says, for so many seconds if it said so.
    Nothing(Option<u32>),
    /// Nobody could say.
    Failed(&'static str),
}

/// A lookup under way.
#[derive(Debug)]
pub(super) struct Lookup {
    system: Arc<System>,
    /// Names to try; the current one, and those after it, from the end.
    names: Vec<String>,
    /// The preferred family first.
    asks: Vec<Ask>,
    families: &'static [Family],
    first_server: usize,
    /// The server that answered last.
    pub(super) answered_by: Option<usize>,
    /// The shortest time that a server gave for there being nothing.
    nothing_for: Option<u32>,
    queries: Vec<Query>,
    outcome: Option<Outcome>,
}

/// The question for one family.
#[derive(Debug)]
struct Ask {
    family: Family,
    /// The name, or where its aliases have led so far.
    name: String,
    aliases: usize,
    /// The shortest time that the aliases are good for.
    alias_ttl: u32,
    tries: usize,
    over_tcp: bool,
    reply: Option<Reply>,
}

impl Lookup {
    /// Begins. `first_server` is where to begin among the servers.
    pub(super) fn new(
        host: &str,
        system: Arc<System>,
        families: Families,
        first_server: usize,
    ) -> Lookup {
        let mut names = system.candidates(host);
        names.reverse();
        let families = match families.asked() {
            // Nothing else is wanted, whatever resolv.conf(5) says.
            [Family::Ipv6] => families.asked(),
            _ if system.no_aaaa => &[Family::Ipv4],
            both => both,
        };
        let mut lookup = Lookup {
            system,
            names,
            asks: Vec::new(),
            families,
            first_server,
            answered_by: None,
            nothing_for: None,
            queries: Vec::new(),
            outcome: None,
        };
        lookup.begin_name();
        lookup
    }

    /// A query to send now.
    pub(super) fn next_query(&mut self) -> Option<Query> {
        self.queries.pop()
    }

    /// How it ended, once it has.
    pub(super) fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// How long a server may take to answer.
    pub(super) fn timeout(&self) -> Duration {
        self.system.timeout
    }

    /// Takes in what the last query for `family` came to.
    pub(super) fn replied(&mut self, family: Family, reply: Reply) {
        let Some(at) = self.asks.iter().position(|ask| ask.family == family) else { return };
        if self.outcome.is_some() || self.asks[at].reply.is_some() {
            return;
        }
        let server = self.server_of(&self.asks[at]);
        let ask = &mut self.asks[at];
        match reply {
            Reply::NotMine => {}
            Reply::AskOverTcp => {
                ask.over_tcp = true;
                self.send(at);
            }
            Reply::Failed(why) => self.try_next_server(at, why),
            Reply::Alias(name, ttl) => {
                self.answered_by = Some(server);
                ask.alias_ttl = ask.alias_ttl.min(ttl);
                ask.aliases += 1;
                if ask.aliases > LONGEST_CHAIN {
                    ask.reply = Some(Reply::Failed("a chain of aliases that is too long"));
                } else {
                    (ask.name, ask.tries, ask.over_tcp) = (name, 0, self.system.tcp_only);
                    self.send(at);
                }
            }
            Reply::Addresses(addresses, ttl) => {
                self.answered_by = Some(server);
                ask.reply = Some(Reply::Addresses(addresses, ttl.min(ask.alias_ttl)));
            }
            negative => {
                self.answered_by = Some(server);
                ask.reply = Some(negative);
            }
        }
        self.settle();
    }

    fn begin_name(&mut self) {
        let Some(name) = self.names.last() else {
            self.outcome = Some(Outcome::Nothing(self.nothing_for));
            return;
        };
        let ask = |&family: &Family| Ask {
            family,
            name: name.clone(),
            aliases: 0,
            alias_ttl: u32::MAX,
            tries: 0,
            over_tcp: self.system.tcp_only,
            reply: None,
        };
        self.asks = self.families.iter().map(ask).collect();
        self.queries.clear();
        (0..self.asks.len()).for_each(|at| self.send(at));
        if self.asks.iter().any(|ask| ask.reply.is_some()) {
            self.settle();
        }
    }

    fn send(&mut self, at: usize) {
        let ask = &self.asks[at];
        match self.system.servers.get(self.server_of(ask)) {
            Some(&server) => self.queries.push(Query {
                name: ask.name.clone(),
                family: ask.family,
                server,
                over_tcp: ask.over_tcp,
            }),
            None => self.asks[at].reply = Some(Reply::Failed("there is no server to ask")),
        }
    }

    fn server_of(&self, ask: &Ask) -> usize {
        (self.first_server + ask.tries) % self.system.servers.len().max(1)
    }

    fn try_next_server(&mut self, at: usize, why: &'static str) {
        let most = self.system.attempts as usize * self.system.servers.len();
        let ask = &mut self.asks[at];
        ask.tries += 1;
        if ask.tries < most {
            ask.over_tcp = self.system.tcp_only;
            self.send(at);
        } else {
            ask.reply = Some(Reply::Failed(why));
        }
    }

    /// Whether enough has been heard to end, or to go on to the next name.
    fn settle(&mut self) {
        // In the order of preference: what the first family says decides, unless it says that it
        // has nothing.
        for ask in &self.asks {
            match &ask.reply {
                None => return,
                Some(Reply::Addresses(addresses, ttl)) => {
                    self.outcome = Some(Outcome::Addresses(addresses.clone(), *ttl));
                    return;
                }
                Some(Reply::Failed(why)) => {
                    self.outcome = Some(Outcome::Failed(why));
                    return;
                }
                Some(Reply::NoSuchName(ttl)) => {
                    // That holds for every family.
                    self.nothing_for = shorter(self.nothing_for, *ttl);
                    break;
                }
                Some(Reply::NoAddress(ttl)) => {
                    self.nothing_for = shorter(self.nothing_for, *ttl);
                }
                Some(Reply::NotMine | Reply::AskOverTcp | Reply::Alias(..)) => {}
            }
        }
        self.names.pop();
        self.begin_name();
    }
}

fn shorter(one: Option<u32>, other: Option<u32>) -> Option<u32> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
