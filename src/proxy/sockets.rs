//! The listening sockets of a proxy, and what the table has of them.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::Arc,
};

use super::running::Settings;
use crate::{
    accept::Entrance,
    error::Error,
    guests::ToInbox,
    listener::{
        Bind, Listener, NamedLimits,
        table::{ListenerEntry, ListenerId},
    },
    sys::{
        dial::{DownstreamOptions, apply_downstream},
        listening::{BindAddress, ListenOptions, ListeningSocket, LocalAddress, listen},
    },
    telemetry::Registry,
};

/// The listening sockets, and the listeners that they are for.
pub(super) struct Sockets {
    pub(super) listeners: Vec<Bound>,
    limits: NamedLimits,
    next: u32,
}

/// A listener with its sockets: several where several threads accept.
pub(super) struct Bound {
    pub(super) id: ListenerId,
    pub(super) name: String,
    pub(super) sockets: Vec<ListeningSocket>,
    listener: Listener,
}

/// Entrances that are to be opened, each with the thread that accepts on it.
pub(super) type Opened = Vec<(usize, Entrance)>;

/// What a reload changes.
#[derive(Default)]
pub(super) struct Change {
    pub(super) opened: Opened,
    /// Listeners that are accepted for by other means than before, or not at all.
    pub(super) closed: Vec<ListenerId>,
    pub(super) removed: Vec<Bound>,
}

impl Sockets {
    /// Binds the sockets of a proxy that starts.
    pub(super) fn open(
        listeners: Vec<Listener>,
        settings: &Settings,
        registry: &Registry,
    ) -> Result<(Sockets, Opened), Error> {
        let mut sockets =
            Sockets { listeners: Vec::new(), limits: NamedLimits::default(), next: 0 };
        let change = sockets.change(listeners, settings, registry)?;
        Ok((sockets, change.opened))
    }

    /// Makes these the listeners. Sockets are kept where one of them is on the same address; nothing
    /// is changed where an error is given.
    pub(super) fn change(
        &mut self,
        mut listeners: Vec<Listener>,
        settings: &Settings,
        registry: &Registry,
    ) -> Result<Change, Error> {
        if settings.guests {
            for listener in &mut listeners {
                listener.serve_by_guests(Arc::new(ToInbox))?;
            }
        }
        check(&listeners)?;
        // First what can fail, on the side; then the exchange.
        let pairs = self.pair(&listeners);
        let mut fresh = HashMap::new();
        let mut duplicates = Vec::new();
        for (index, (listener, pair)) in listeners.iter().zip(&pairs).enumerate() {
            let sockets = match pair {
                Some(place) => &self.listeners[*place].sockets,
                None => fresh.entry(index).or_insert(bind(listener, settings)?),
            };
            let duplicate = |socket: &ListeningSocket| socket.as_fd().try_clone_to_owned();
            let of_this = sockets.iter().map(duplicate).collect::<io::Result<Vec<_>>>();
            duplicates.push(of_this.map_err(Error::system("duplicating a listening socket"))?);
        }
        self.make_transparent(&listeners, &pairs)?;
        let mut old: Vec<_> = std::mem::take(&mut self.listeners).into_iter().map(Some).collect();
        let mut change = Change::default();
        for (index, (listener, duplicates)) in listeners.into_iter().zip(duplicates).enumerate() {
            let kept = pairs[index].and_then(|place| old[place].take());
            let name = listener.display_name();
            let (id, sockets, same) = match kept {
                Some(old) => {
                    let same = old.name == name
                        && old.listener.max_connections == listener.max_connections;
                    (old.id, old.sockets, same)
                }
                None => (self.next_id(), fresh.remove(&index).unwrap_or_default(), false),
            };
            let bound = Bound { id, name, sockets, listener };
            bound.set_options();
            if !same {
                change.closed.push(id);
                change.opened.extend(bound.entrances(duplicates, &mut self.limits, registry));
            }
            self.listeners.push(bound);
        }
        change.removed.extend(old.into_iter().flatten());
        change.closed.extend(change.removed.iter().map(|bound| bound.id));
        Ok(change)
    }

    /// For each listener the place of the old one whose sockets it takes over, which is one on the same
    /// address: that of the same name if there is one, since several may be on port 0, or else any
    /// that is not wanted by its own name.
    fn pair(&self, listeners: &[Listener]) -> Vec<Option<usize>> {
        let mut pairs = vec![None; listeners.len()];
        let mut taken = vec![false; self.listeners.len()];
        for by_name in [true, false] {
            for (listener, pair) in listeners.iter().zip(&mut pairs) {
                let address = bind_address(listener);
                let fits = |(place, bound): (usize, &Bound)| {
                    !taken[place]
                        && bind_address(&bound.listener) == address
                        && (!by_name || bound.name == listener.display_name())
                };
                if pair.is_none() {
                    *pair = self.listeners.iter().enumerate().position(fits);
                }
                if let Some(place) = *pair {
                    taken[place] = true;
                }
            }
        }
        pairs
    }

    /// Makes sockets that are kept transparent, or no longer so, as their listeners want it: all or none.
    fn make_transparent(
        &self,
        listeners: &[Listener],
        pairs: &[Option<usize>],
    ) -> Result<(), Error> {
        let mut changed = Vec::new();
        for (listener, pair) in listeners.iter().zip(pairs) {
            let Some(bound) = pair.map(|place| &self.listeners[place]) else { continue };
            let (was, wanted) = (bound.listener.transparent, listener.transparent);
            if was == wanted {
                continue;
            }
            for socket in bound.own_tcp_sockets() {
                if let Err(error) = socket.set_transparent(wanted) {
                    let back =
                        |(socket, was): (&ListeningSocket, bool)| socket.set_transparent(was);
                    let _ = changed.into_iter().try_for_each(back);
                    let doing = "making a listening socket transparent, which needs CAP_NET_ADMIN";
                    return Err(Error::system(doing)(error));
                }
                changed.push((socket, was));
            }
        }
        Ok(())
    }

    fn next_id(&mut self) -> ListenerId {
        self.next += 1;
        ListenerId(self.next)
    }

    /// The entries of these listeners in the table.
    pub(super) fn entries(&mut self) -> HashMap<ListenerId, ListenerEntry> {
        let limits = &mut self.limits;
        let entry = |bound: &Bound| (bound.id, ListenerEntry::new(&bound.listener, limits));
        self.listeners.iter().map(entry).collect()
    }

    /// The IP addresses on which they really listen.
    pub(super) fn bound_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let sockets = self.listeners.iter().flat_map(|bound| &bound.sockets);
        sockets.filter_map(|socket| match socket.local_address() {
            LocalAddress::Tcp(address) => Some(*address),
            LocalAddress::Unix(_) => None,
        })
    }
}

impl Bound {
    pub(super) fn local_address(&self) -> Option<&LocalAddress> {
        self.sockets.first().map(ListeningSocket::local_address)
    }

    /// Sets what accepted connections inherit; without it they work as well.
    fn set_options(&self) {
        let options = DownstreamOptions { nodelay: true, keepalive: self.listener.keepalive };
        for socket in &self.sockets {
            let _ = apply_downstream(socket, &options);
        }
    }

    /// An entrance for each thread that accepts, on duplicates of the sockets.
    fn entrances(
        &self,
        duplicates: Vec<OwnedFd>,
        limits: &mut NamedLimits,
        registry: &Registry,
    ) -> Opened {
        let limit = limits.limit(&self.name, self.listener.max_connections);
        let entrance = |(thread, (socket, duplicate)): (usize, (&ListeningSocket, OwnedFd))| {
            let entrance = Entrance {
                listener: self.id,
                name: self.name.as_str().into(),
                socket: duplicate,
                limit: limit.clone(),
                inherited: socket.is_inherited(),
                cells: registry.accept(&self.name, thread),
            };
            (thread, entrance)
        };
        self.sockets.iter().zip(duplicates).enumerate().map(entrance).collect()
    }

    /// The sockets that nobody else holds, and on which new handshakes can be stopped.
    pub(super) fn own_tcp_sockets(&self) -> impl Iterator<Item = &ListeningSocket> {
        self.sockets.iter().filter(|socket| {
            !socket.is_inherited() && matches!(socket.local_address(), LocalAddress::Tcp(_))
        })
    }

    pub(super) fn destinations(&self) -> impl Iterator<Item = (String, String)> {
        self.listener
            .destinations
            .iter()
            .map(|destination| (destination.name.clone(), destination.pattern.to_string()))
    }
}

fn bind_address(listener: &Listener) -> BindAddress {
    match &listener.bind {
        Bind::Address(address) => address.clone(),
        Bind::Socket(socket) => BindAddress::Inherited(OwnedFd::as_raw_fd(socket)),
    }
}

/// Binds one socket for each thread that accepts, where the kind of socket can be bound so.
fn bind(listener: &Listener, settings: &Settings) -> Result<Vec<ListeningSocket>, Error> {
    let address = &bind_address(listener);
    let several = settings.per_listener > 1 && matches!(address, BindAddress::Tcp(_));
    if settings.kernel && !matches!(address, BindAddress::Tcp(_)) && settings.per_listener > 1 {
        return Err(Error::Invalid(format!(
            "listener {:?}: the kernel balances TCP sockets that this process binds; use another \
             balance, or another address",
            listener.display_name()
        )));
    }
    let options = ListenOptions {
        reuse_port: several,
        transparent: listener.transparent,
        ..ListenOptions::default()
    };
    let mut sockets = vec![listen(address, &options)?];
    // The others share the port that the first one was given.
    if several && let LocalAddress::Tcp(real) = *sockets[0].local_address() {
        for _ in 1..settings.per_listener {
            sockets.push(listen(&BindAddress::Tcp(real), &options)?);
        }
    }
    Ok(sockets)
}

fn check(listeners: &[Listener]) -> Result<(), Error> {
    let mut names = HashSet::new();
    let mut places = HashSet::new();
    for listener in listeners {
        listener.check()?;
        let destinations = listener.destinations.iter().map(|destination| &destination.name);
        for name in destinations.cloned().chain([listener.display_name()]) {
            if !names.insert(name.clone()) {
                return Err(Error::Invalid(format!("two listeners are called {name:?}")));
            }
        }
        let address = bind_address(listener);
        let fixed = !matches!(address, BindAddress::Tcp(address) if address.port() == 0);
        if fixed && !places.insert(address.to_string()) {
            return Err(Error::Invalid(format!("two listeners bind {address}")));
        }
    }
    Ok(())
}
