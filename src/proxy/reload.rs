//! Changing a proxy while it runs: all of it, or nothing.
//!
//! Flows in: a [`Reload`]. Flows out: a new table, which acceptors and shards follow from their next
//! connection on. What can fail is done first and on the side: sockets are bound, and the telemetry
//! server started, before anything that is in use is touched. No connection is closed by a reload.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{
    running::{Running, stop_handshakes},
    sockets::Change,
};
use crate::{
    accept::Balance,
    error::Error,
    listener::{Limits, Listener, Table},
    original_dst::Loops,
    sync::lock,
};

/// What to change of a running proxy. What is not mentioned stays as it is.
///
/// Listeners alone are a reload: `proxy.reload([inbound, outbound])`.
#[derive(Default)]
#[must_use = "give it to Proxy::reload"]
pub struct Reload {
    pub(super) listeners: Option<Vec<Listener>>,
    pub(super) limits: Option<Limits>,
    pub(super) balance: Option<Balance>,
    pub(super) telemetry: Option<Vec<String>>,
}

impl Reload {
    /// Changes nothing yet.
    pub fn new() -> Reload {
        Reload::default()
    }

    /// These are the listeners from now on; others are closed. One that has the name and the address of
    /// an old one goes on with its socket, and one that has only the address as well, so port 0 is
    /// the port of before. A socket on a new address is bound before old ones are closed, so the two
    /// must not be in each other's way.
    pub fn listeners(mut self, listeners: impl IntoIterator<Item = Listener>) -> Reload {
        self.listeners = Some(listeners.into_iter().collect());
        self
    }

    /// These are the caps on connections. Connections that are open stay, also above a lower cap.
    pub fn limits(mut self, limits: Limits) -> Reload {
        self.limits = Some(limits);
        self
    }

    /// Connections are placed by this policy, made anew for each acceptor. To or from
    /// [`Balance::Kernel`], which needs other sockets, only a restart leads.
    pub fn balance(mut self, balance: Balance) -> Reload {
        self.balance = Some(balance);
        self
    }

    /// The read-only routes are served on these addresses, and on no other; see
    /// [`Builder::telemetry`](super::Builder::telemetry). The addresses of before change nothing;
    /// where they differ, the new ones are bound before the old ones are closed.
    pub fn telemetry<A: Into<String>>(mut self, addresses: impl IntoIterator<Item = A>) -> Reload {
        self.telemetry = Some(addresses.into_iter().map(Into::into).collect());
        self
    }
}

impl<L: IntoIterator<Item = Listener>> From<L> for Reload {
    fn from(listeners: L) -> Reload {
        Reload::new().listeners(listeners)
    }
}

impl Running {
    /// Changes listeners, limits and balance.
    pub(super) fn reload(&self, reload: Reload) -> Result<(), Error> {
        // Looked at under the lock, under which a drain takes the sockets away.
        let mut sockets = lock(&self.sockets);
        if self.draining.load(Relaxed) {
            return Err(Error::Invalid("the proxy is draining".to_owned()));
        }
        if let Some(balance) = &reload.balance
            && matches!(balance, Balance::Kernel) != self.settings.kernel
        {
            return Err(Error::Invalid(
                "balance: `kernel` needs other sockets than the policies do: restart the proxy to \
                 change to it or from it"
                    .to_owned(),
            ));
        }
        let before = self.shared.table.load_full();
        let change = match reload.listeners {
            Some(new) => Some(sockets.change(new, &self.settings, &self.shared.registry)?),
            None => None,
        };
        let (mut listeners, loops) = match &change {
            Some(_) => {
                let own = Arc::clone(&before.own);
                (sockets.entries(), Loops::watching(sockets.bound_addresses(), own))
            }
            None => (before.listeners.clone(), before.loops.clone()),
        };
        let Change { opened, closed, removed } = change.unwrap_or_default();
        // Connections of removed listeners are still on their way: what serves them stays until the
        // reload after this one.
        for bound in &removed {
            if let Some(entry) = before.listeners.get(&bound.id) {
                listeners.insert(bound.id, entry.clone());
            }
        }
        self.shared.table.store(Arc::new(Table {
            listeners,
            loops,
            own: Arc::clone(&before.own),
            limits: reload.limits.unwrap_or(before.limits),
            balance: reload.balance.map_or_else(|| Arc::clone(&before.balance), Arc::new),
        }));
        stop_handshakes(&removed);
        self.stop_accepting(&closed);
        self.open(opened);
        Ok(())
    }
}
