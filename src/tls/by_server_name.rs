//! A service for each server name, without a look inside of the TLS.
//!
//! Flows in: connections, whose clients begin with TLS. Flows out: the same connections, each to the
//! service for the name that its client asks for (SNI, RFC 6066 section 3), which receives its first
//! bytes as if nobody had looked. It holds the bytes of one ClientHello, for a bounded time, and no
//! certificate: it ends no TLS, and answers nothing.

use std::{collections::HashMap, pin::Pin, sync::Arc, time::Duration};

use super::{
    client_hello::{ClientHello, Reader},
    terminate::HANDSHAKE_RECORD,
};
use crate::{
    connection::Connection,
    net::Stream,
    runtime::timeout,
    service::{Service, ServiceFactory},
    shard::Shard,
    telemetry::CloseReason,
};

/// How long a ClientHello may take unless it is told.
const WITHIN: Duration = Duration::from_secs(10);

/// The longest that a DNS name can be in text (RFC 1035 section 2.3.4).
const LONGEST_NAME: usize = 253;

/// Gives each connection to the service for the server name that its client asks for, with TLS as the
/// client speaks it, and all others to another service.
///
/// Names are exact (`a.example`), or stand for all names that end so (`*.a.example`). An exact one goes
/// first, then the longest. Upper and lower case are the same.
///
/// To the other service goes what asks for no name or another one, what does not begin like TLS, and a
/// connection on which nothing arrives within a time, 10 s unless it is told, since its server may be
/// the one to speak first. A connection that begins like TLS, and whose ClientHello is not complete
/// within that time and the first 64 KiB, or is none, is closed.
///
/// ```no_run
/// # use evenkeel::{Listener, Relay, tls};
/// # fn listener() -> evenkeel::Result<Listener> {
/// let by_name = tls::ByServerName::new([
///     ("shop.example", Relay::to(["10.0.0.1:443"])),
///     ("*.shop.example", Relay::to(["10.0.0.2:443"])),
/// ])
/// .or(Relay::to(["10.0.0.3:443"]));
/// # Listener::bind("0.0.0.0:443").map(|listener| listener.serve(by_name))
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "give it to a listener"]
pub struct ByServerName<S, O> {
    names: Arc<Names>,
    services: Vec<S>,
    other: O,
    within: Duration,
    mistake: Option<Box<str>>,
}

impl<S> ByServerName<S, ()> {
    /// A connection whose client asks for this name goes to this service.
    pub fn new<N: AsRef<str>>(services: impl IntoIterator<Item = (N, S)>) -> ByServerName<S, ()> {
        let mut by_name = ByServerName {
            names: Arc::default(),
            services: Vec::new(),
            other: (),
            within: WITHIN,
            mistake: None,
        };
        let mut names = Names::default();
        for (name, service) in services {
            if let Err(mistake) = names.add(name.as_ref(), by_name.services.len()) {
                by_name.mistake.get_or_insert(mistake.into());
            }
            by_name.services.push(service);
        }
        by_name.names = Arc::new(names);
        by_name
    }

    /// Any other goes to this one.
    pub fn or<O>(self, other: O) -> ByServerName<S, O> {
        let ByServerName { names, services, within, mistake, .. } = self;
        ByServerName { names, services, other, within, mistake }
    }
}

impl<S, O> ByServerName<S, O> {
    /// How long a ClientHello may take.
    pub fn within(mut self, within: Duration) -> ByServerName<S, O> {
        self.within = within;
        self
    }
}

impl<S: ServiceFactory, O: ServiceFactory> ServiceFactory for ByServerName<S, O> {
    type Service = ByServerNameOnShard<S::Service, O::Service>;

    fn make(&self, shard: &Shard) -> Self::Service {
        ByServerNameOnShard {
            names: Arc::clone(&self.names),
            services: self.services.iter().map(|service| service.make(shard)).collect(),
            other: self.other.make(shard),
            within: self.within,
        }
    }

    fn needs_original_destination(&self) -> bool {
        self.services.iter().any(ServiceFactory::needs_original_destination)
            || self.other.needs_original_destination()
    }

    fn check(&self) -> Result<(), String> {
        if let Some(mistake) = &self.mistake {
            return Err(mistake.to_string());
        }
        self.services.iter().try_for_each(ServiceFactory::check)?;
        self.other.check()
    }
}

/// A [`ByServerName`] on one shard.
#[derive(Debug)]
pub struct ByServerNameOnShard<S, O> {
    names: Arc<Names>,
    services: Vec<S>,
    other: O,
    within: Duration,
}

impl<S: Service, O: Service> Service for ByServerNameOnShard<S, O> {
    async fn serve(&self, mut connection: Connection) {
        let hello = match Box::pin(look(connection.uncounted(), self.within)).await {
            Seen::Hello(hello) => Some(hello),
            Seen::NoTls => None,
            Seen::BrokenTls => {
                connection.set_close_reason(CloseReason::Protocol);
                return;
            }
        };
        let name = hello.as_ref().and_then(|hello| hello.server_name.as_deref());
        let chosen = name.and_then(|name| self.services.get(self.names.find(name)?));
        // Each in memory of its own, so that no connection takes what only the other kind needs.
        let served: Pin<Box<dyn Future<Output = ()>>> = match chosen {
            Some(service) => Box::pin(service.serve(connection)),
            None => Box::pin(self.other.serve(connection)),
        };
        drop(hello);
        served.await;
    }
}

/// What a connection begins with.
enum Seen {
    Hello(ClientHello),
    NoTls,
    /// It begins like TLS, and does not go on like it.
    BrokenTls,
}

/// Reads a ClientHello. All that it has looked at is received again.
async fn look(stream: &mut Stream, within: Duration) -> Seen {
    let mut seen = Vec::new();
    let mut begun = false;
    let read = async {
        let mut reader = Reader::default();
        while let Ok(Some(chunk)) = stream.receive().await {
            let first = chunk.first().copied();
            if !begun && first.is_some_and(|first| first != HANDSHAKE_RECORD[0]) {
                seen.push(chunk);
                return Seen::NoTls;
            }
            begun = true;
            let read = reader.push(&chunk);
            seen.push(chunk);
            match read {
                Ok(None) => {}
                Ok(Some(hello)) => return Seen::Hello(hello),
                Err(_) => return Seen::BrokenTls,
            }
        }
        if begun { Seen::BrokenTls } else { Seen::NoTls }
    };
    let read = timeout(within, read).await;
    let result = read.unwrap_or(if begun { Seen::BrokenTls } else { Seen::NoTls });
    for chunk in seen.into_iter().rev() {
        stream.unreceive(chunk);
    }
    result
}

/// Names, and the places of their services.
#[derive(Default, Debug)]
struct Names {
    exact: HashMap<Box<str>, usize>,
    /// By what follows the `*.`.
    below: HashMap<Box<str>, usize>,
}

impl Names {
    fn add(&mut self, name: &str, service: usize) -> Result<(), String> {
        let lower = name.to_ascii_lowercase();
        let (names, rest) = match lower.strip_prefix("*.") {
            Some(suffix) => (&mut self.below, suffix),
            None => (&mut self.exact, lower.as_str()),
        };
        if !is_dns_name(rest) {
            return Err(format!(
                "{name:?} is no server name: write one such as \"a.example\" or \"*.a.example\""
            ));
        }
        match names.insert(rest.into(), service) {
            None => Ok(()),
            Some(_) => Err(format!("the server name {name:?} is there twice: leave one")),
        }
    }

    /// `name` is in lower case.
    fn find(&self, name: &str) -> Option<usize> {
        let exact = self.exact.get(name);
        let mut suffixes = name.match_indices('.').map(|(dot, _)| &name[dot + 1..]);
        exact.or_else(|| suffixes.find_map(|suffix| self.below.get(suffix))).copied()
    }
}

/// As a client may ask for it: an address may not be one (RFC 6066 section 3).
fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    name.len() <= LONGEST_NAME
        && name.split('.').all(is_label)
        && !name.rsplit('.').next().is_some_and(is_number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names<'n>(all: impl IntoIterator<Item = &'n str>) -> Names {
        let mut names = Names::default();
        for (place, name) in all.into_iter().enumerate() {
            names.add(name, place).unwrap();
        }
        names
    }

    #[test]
    fn an_exact_name_goes_first_and_then_the_longest() {
        let names = names(["*.example", "*.a.example", "a.example", "B.example"]);
        for (name, expected) in [
            ("a.example", Some(2)),
            ("b.example", Some(3)),
            ("c.example", Some(0)),
            ("x.a.example", Some(1)),
            ("x.y.a.example", Some(1)),
            ("x.b.example", Some(0)),
            ("example", None),
            ("aexample", None),
            ("a.example.org", None),
            ("", None),
        ] {
            assert_eq!(names.find(name), expected, "{name}");
        }
    }

    #[test]
    fn what_is_no_name_or_there_twice_is_refused() {
        let long = format!("{}.example", "a".repeat(64));
        for name in
            ["", "*", "*.", "a..b", ".a", "a.", "*a.example", "a.*.b", "127.0.0.1", "a b", &long]
        {
            assert!(Names::default().add(name, 0).is_err(), "{name}");
        }
        let mut names = names(["a.example"]);
        assert!(names.add("A.example", 1).is_err());
        assert!(names.add("*.a.example", 1).is_ok());
    }

    proptest! {
        #[test]
        fn a_suffix_takes_what_is_below_it_and_nothing_else(
            suffix in "[ab]{1,2}(\\.[ab]{1,2}){0,2}",
            name in "[ab]{1,2}(\\.[ab]{1,2}){0,4}",
        ) {
            let names = names([format!("*.{suffix}").as_str()]);
            prop_assert_eq!(names.find(&name).is_some(), name.ends_with(&format!(".{suffix}")));
        }
    }
}
