//! Listeners: where connections come from, and which service each of them is for.
//!
//! An *accepting* listener has a socket. Where its connections are redirected to it, *destinations*
//! under it, which have no socket, are matched on the original destination. Flows in: what an
//! embedder describes with [`Listener`]. Flows out: a [`Table`], the immutable value
//! by which every shard finds the service of a connection. Load is never counted here, except
//! against a listener's own limit.

mod limit;
mod pattern;
pub(crate) mod table;

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

pub use self::{
    limit::Limits,
    pattern::{Pattern, PatternError},
};
pub(crate) use self::{
    limit::{Limit, LimitGuard, NamedLimits},
    table::{RouteOnShard, Table},
};
use crate::{
    error::Error,
    original_dst::{OriginalDestination, Redirect, Transparent},
    service::{AnyFactory, ServiceFactory},
    sys::{dial::Keepalive, listening::BindAddress},
};

/// Describes a listener. Its socket is bound when the proxy starts, or taken over from the running
/// proxy by a reload.
#[must_use = "give it to Proxy::builder().listener(…)"]
pub struct Listener {
    pub(crate) name: Option<String>,
    pub(crate) bind: Bind,
    pub(crate) lookup: Option<Arc<dyn OriginalDestination>>,
    pub(crate) transparent: bool,
    pub(crate) inbound: bool,
    pub(crate) proxy_protocol: bool,
    pub(crate) max_connections: u32,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) service: Option<Arc<dyn AnyFactory>>,
    pub(crate) fallback: Option<Arc<dyn AnyFactory>>,
    pub(crate) destinations: Vec<Destination>,
    /// The first mistake that was made in describing it.
    pub(crate) mistake: Option<String>,
}

/// Where a listener's socket comes from.
pub(crate) enum Bind {
    Address(BindAddress),
    Socket(OwnedFd),
}

/// A destination under an accepting listener.
pub(crate) struct Destination {
    pub(crate) name: String,
    pub(crate) pattern: Pattern,
    pub(crate) max_connections: u32,
    pub(crate) service: Arc<dyn AnyFactory>,
}

impl Listener {
    /// A listener on an address: `ip:port` or `[ipv6]:port`, port 0 for one of the kernel's choice;
    /// `unix:/path`; `fd:3` for a descriptor that was inherited, as systemd passes them.
    ///
    /// # Errors
    ///
    /// When the address is none of these.
    pub fn bind(address: &str) -> Result<Listener, Error> {
        let address = address.parse::<BindAddress>().map_err(|error| Error::address(&error))?;
        Ok(Listener::new(Bind::Address(address)))
    }

    /// A listener on a stream socket that listens already.
    pub fn from_socket(socket: impl Into<OwnedFd>) -> Listener {
        Listener::new(Bind::Socket(socket.into()))
    }

    fn new(bind: Bind) -> Listener {
        Listener {
            name: None,
            bind,
            lookup: None,
            transparent: false,
            inbound: false,
            proxy_protocol: false,
            max_connections: 0,
            keepalive: Some(Keepalive::default()),
            service: None,
            fallback: None,
            destinations: Vec::new(),
            mistake: None,
        }
    }

    /// The listener's name, in metrics and logs. Default: its address.
    pub fn named(mut self, name: impl Into<String>) -> Listener {
        self.name = Some(name.into());
        self
    }

    /// Its connections are redirected to it by iptables or nftables (REDIRECT, DNAT): their
    /// original destination is asked of the kernel.
    pub fn redirected(self) -> Listener {
        self.original_destination(Redirect)
    }

    /// Its connections come by TPROXY rules: the local address is the original destination. The
    /// socket is made transparent, which needs CAP_NET_ADMIN.
    pub fn transparent(mut self) -> Listener {
        self.transparent = true;
        self.original_destination(Transparent)
    }

    /// Finds the original destination in a way of your own.
    pub fn original_destination(mut self, lookup: impl OriginalDestination + 'static) -> Listener {
        self.lookup = Some(Arc::new(lookup));
        self
    }

    /// Connections are for this host: what has another original destination is refused, so that the
    /// listener is no open relay.
    pub fn inbound(mut self) -> Listener {
        self.inbound = true;
        self
    }

    /// Every connection must begin with a PROXY protocol header, version 1 or 2; others are closed.
    pub fn proxy_protocol(mut self) -> Listener {
        self.proxy_protocol = true;
        self
    }

    /// Serves at most so many connections at once; more are closed at once and counted. Default 0:
    /// no limit of its own.
    pub fn max_connections(mut self, connections: u32) -> Listener {
        self.max_connections = connections;
        self
    }

    /// TCP keepalive on its connections; `None` switches it off. Default: the first probe after
    /// 180 s without a sign of life, then as the host has it: 9 more, 75 s apart, by default.
    pub fn keepalive(mut self, idle: Option<Duration>) -> Listener {
        self.keepalive = idle.map(|idle| Keepalive { idle });
        self
    }

    /// Serves all its connections; with an original destination those that no destination matches,
    /// and those that were made to the listener itself.
    pub fn serve(mut self, service: impl ServiceFactory) -> Listener {
        self.service = Some(Arc::new(service));
        self
    }

    /// Serves redirected connections that no destination matches. Unlike [`serve`](Self::serve) it
    /// leaves those refused that were made to the listener itself.
    pub fn fallback(mut self, service: impl ServiceFactory) -> Listener {
        self.fallback = Some(Arc::new(service));
        self
    }

    /// Adds a destination: serves the connections whose original destination matches. Patterns are
    /// `ip:port`, `*:port`, `0.0.0.0:port` and `[::]:port`; the most specific one wins. Its name is
    /// the pattern.
    pub fn destination(self, pattern: &str, service: impl ServiceFactory) -> Listener {
        self.named_destination(pattern, pattern, 0, service)
    }

    /// Adds a destination with a name and a limit of connections (0: none).
    pub fn named_destination(
        mut self,
        name: impl Into<String>,
        pattern: &str,
        max_connections: u32,
        service: impl ServiceFactory,
    ) -> Listener {
        match pattern.parse() {
            Ok(pattern) => self.destinations.push(Destination {
                name: name.into(),
                pattern,
                max_connections,
                service: Arc::new(service),
            }),
            Err(error) => self.mistake(format!("destination {pattern:?}: {error}")),
        }
        self
    }

    /// Lets guest shards serve it, all of it.
    ///
    /// # Errors
    ///
    /// Where it describes what guests do not have.
    pub(crate) fn serve_by_guests(&mut self, service: Arc<dyn AnyFactory>) -> Result<(), Error> {
        let wrong = if self.proxy_protocol {
            "guest shards read no PROXY headers: leave `proxy_protocol` out, and read the header in \
             the service"
        } else if self.service.is_some() || self.fallback.is_some() || !self.destinations.is_empty()
        {
            "guest shards serve it by what `start` was given: leave out `serve`, `fallback` and \
             destinations, and look at the connection's original destination in the service"
        } else {
            self.service = Some(service);
            return Ok(());
        };
        Err(Error::Invalid(format!("listener {:?}: {wrong}", self.display_name())))
    }

    fn mistake(&mut self, mistake: String) {
        self.mistake.get_or_insert(mistake);
    }

    pub(crate) fn display_name(&self) -> String {
        match (&self.name, &self.bind) {
            (Some(name), _) => name.clone(),
            (None, Bind::Address(address)) => address.to_string(),
            (None, Bind::Socket(socket)) => socket_name(socket)
                .ok()
                .and_then(|address| address.as_socket())
                .map_or_else(|| "socket".to_owned(), |address| address.to_string()),
        }
    }

    /// # Errors
    ///
    /// What was found wrong in the description.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let name = self.display_name();
        let invalid = |text: String| Err(Error::Invalid(format!("listener {name:?}: {text}")));
        if let Some(mistake) = &self.mistake {
            return invalid(mistake.clone());
        }
        if self.service.is_some() && self.fallback.is_some() {
            return invalid("give it either `serve` or `fallback`".to_owned());
        }
        if self.lookup.is_none() {
            if !self.destinations.is_empty() || self.fallback.is_some() {
                return invalid(
                    "destinations and a fallback need an original destination: add `redirected()` \
                     or `transparent()`"
                        .to_owned(),
                );
            }
            let Some(service) = &self.service else {
                return invalid("nothing serves it: add `serve(…)`".to_owned());
            };
            if service.needs_original_destination() {
                return invalid(
                    "its service forwards to the original destination: add `redirected()` or \
                     `transparent()`"
                        .to_owned(),
                );
            }
        }
        let destinations = self.destinations.iter().map(|destination| &destination.service);
        for service in destinations.chain(&self.service).chain(&self.fallback) {
            if let Err(text) = service.check() {
                return invalid(text);
            }
        }
        for (index, destination) in self.destinations.iter().enumerate() {
            if self.destinations[..index].iter().any(|other| other.pattern == destination.pattern) {
                return invalid(format!("two destinations match {}", destination.pattern));
            }
        }
        Ok(())
    }
}

fn socket_name(socket: &OwnedFd) -> io::Result<socket2::SockAddr> {
    socket2::SockRef::from(&socket.as_fd()).local_addr()
}
