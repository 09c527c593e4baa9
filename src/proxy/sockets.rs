//! The listening sockets of a proxy, and the table that is made of them.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use super::running::Settings;
use crate::{
    accept::Entrance,
    error::Error,
    listener::{
        Bind, Limit, Listener, Table,
        table::{ListenerEntry, ListenerId},
    },
    original_dst::{Loops, OwnAddresses},
    sys::{
        dial::{DownstreamOptions, apply_downstream},
        listening::{BindAddress, ListenOptions, ListeningSocket, LocalAddress, listen},
    },
    telemetry::Registry,
};

/// The listening sockets, and the listeners that they are for.
pub(super) struct Sockets {
    pub(super) listeners: Vec<Bound>,
    next: u32,
}

/// A listener with its sockets: several where several threads accept.
pub(super) struct Bound {
    pub(super) id: ListenerId,
    pub(super) name: String,
    address: BindAddress,
    transparent: bool,
    max_connections: u32,
    pub(super) sockets: Vec<ListeningSocket>,
    listener: Listener,
}

/// Entrances that are to be opened, each with the thread that accepts on it.
pub(super) type Opened = Vec<(usize, Entrance)>;

/// What a reload changes.
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
        let mut sockets = Sockets { listeners: Vec::new(), next: 0 };
        let change = sockets.change(listeners, settings, registry)?;
        Ok((sockets, change.opened))
    }

    /// Makes these the listeners. Sockets on the same address are kept; nothing is changed where an
    /// error is given.
    pub(super) fn change(
        &mut self,
        listeners: Vec<Listener>,
        settings: &Settings,
        registry: &Registry,
    ) -> Result<Change, Error> {
        check(&listeners)?;
        // First what can fail, on the side; then the exchange.
        let mut fresh = HashMap::new();
        let mut duplicates = Vec::new();
        for (index, listener) in listeners.iter().enumerate() {
            let address = bind_address(listener);
            let sockets = match self.position(&address, listener.transparent) {
                Some(position) => &self.listeners[position].sockets,
                None => fresh.entry(index).or_insert(bind(listener, &address, settings)?),
            };
            let duplicate = |socket: &ListeningSocket| socket.as_fd().try_clone_to_owned();
            let of_this = sockets.iter().map(duplicate).collect::<io::Result<Vec<_>>>();
            duplicates.push(of_this.map_err(Error::system("duplicating a listening socket"))?);
        }
        let mut entrances = Vec::new();
        let mut closed = Vec::new();
        let mut bound = Vec::new();
        for (index, (listener, duplicates)) in listeners.into_iter().zip(duplicates).enumerate() {
            let address = bind_address(&listener);
            let old = self
                .position(&address, listener.transparent)
                .map(|position| self.listeners.swap_remove(position));
            let name = listener.display_name();
            let (id, sockets, same) = match old {
                Some(old) => {
                    let same = old.name == name && old.max_connections == listener.max_connections;
                    (old.id, old.sockets, same)
                }
                None => {
                    let id = ListenerId(self.next);
                    self.next += 1;
                    (id, fresh.remove(&index).unwrap_or_default(), false)
                }
            };
            let options = DownstreamOptions { nodelay: true, keepalive: listener.keepalive };
            let limit = Limit::new(listener.max_connections);
            for (thread, (socket, duplicate)) in sockets.iter().zip(duplicates).enumerate() {
                // Accepted connections inherit these; without them they work as well.
                let _ = apply_downstream(socket, &options);
                if same {
                    continue;
                }
                entrances.push((
                    thread,
                    Entrance {
                        listener: id,
                        name: name.as_str().into(),
                        socket: duplicate,
                        limit: limit.clone(),
                        inherited: socket.is_inherited(),
                        cells: registry.accept(&name, thread),
                    },
                ));
            }
            if !same {
                closed.push(id);
            }
            let transparent = listener.transparent;
            let max_connections = listener.max_connections;
            bound.push(Bound {
                id,
                name,
                address,
                transparent,
                max_connections,
                sockets,
                listener,
            });
        }
        let removed = std::mem::replace(&mut self.listeners, bound);
        closed.extend(removed.iter().map(|bound| bound.id));
        Ok(Change { opened: entrances, closed, removed })
    }

    /// The table of these listeners.
    pub(super) fn table(&self, own: OwnAddresses) -> Table {
        let bound = self.listeners.iter().flat_map(|bound| &bound.sockets);
        let addresses = bound.filter_map(|socket| match socket.local_address() {
            LocalAddress::Tcp(address) => Some(*address),
            LocalAddress::Unix(_) => None,
        });
        let listeners =
            self.listeners.iter().map(|bound| (bound.id, ListenerEntry::new(&bound.listener)));
        Table { listeners: listeners.collect(), loops: Loops::new(addresses, own.clone()), own }
    }

    fn position(&self, address: &BindAddress, transparent: bool) -> Option<usize> {
        self.listeners
            .iter()
            .position(|bound| bound.address == *address && bound.transparent == transparent)
    }
}

impl Bound {
    pub(super) fn local_address(&self) -> Option<&LocalAddress> {
        self.sockets.first().map(ListeningSocket::local_address)
    }
}

/// The addresses of this host, as they are now.
pub(super) fn own_addresses() -> Result<OwnAddresses, Error> {
    OwnAddresses::snapshot().map_err(Error::system("reading the addresses of this host"))
}

fn bind_address(listener: &Listener) -> BindAddress {
    match &listener.bind {
        Bind::Address(address) => address.clone(),
        Bind::Socket(socket) => BindAddress::Inherited(OwnedFd::as_raw_fd(socket)),
    }
}

/// Binds one socket for each thread that accepts, where the kind of socket can be bound so.
fn bind(
    listener: &Listener,
    address: &BindAddress,
    settings: &Settings,
) -> Result<Vec<ListeningSocket>, Error> {
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

impl Bound {
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
