//! The handle of a running proxy.

use std::{fmt, net::SocketAddr, sync::Arc, thread::JoinHandle};

use super::{
    builder::{Builder, Route},
    drain::{Drain, Drained},
    running::Running,
};
use crate::{
    accept::Command,
    admin::{self, routes},
    error::Error,
    listener::Listener,
    shard::ShardLoad,
    sync::{Mutex, lock},
    sys::listening::LocalAddress,
    telemetry::Registry,
};

/// A running proxy. Dropping it stops it, cuts its connections, and waits for its threads; to let
/// them finish, [`drain`](Self::drain) it first.
pub struct Proxy {
    running: Arc<Running>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    admin: Option<admin::Server>,
}

/// A listener's name and the address on which it really listens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BoundListener {
    /// Its name.
    pub name: String,
    /// Its address, with the port that the kernel chose where 0 was asked for.
    pub address: String,
    /// The same, where it is an IP address.
    pub socket: Option<SocketAddr>,
}

impl Proxy {
    /// Describes a proxy.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(super) fn new(running: Arc<Running>) -> Proxy {
        Proxy { running, threads: Mutex::default(), admin: None }
    }

    pub(super) fn add_thread(&mut self, thread: JoinHandle<()>) {
        lock(&self.threads).push(thread);
    }

    pub(super) fn serve_admin(
        &mut self,
        admin: &[SocketAddr],
        telemetry: &[SocketAddr],
        extra: Vec<Route>,
    ) -> Result<(), Error> {
        if admin.is_empty() && telemetry.is_empty() {
            return Ok(());
        }
        let mut builder = admin::Server::builder();
        for address in admin {
            builder = builder.listen(*address);
        }
        for address in telemetry {
            let read_only = ["/ready", "/metrics", "/stats/prometheus"];
            builder = builder.listen_only(*address, read_only);
        }
        let registry = Arc::clone(self.registry());
        let (ready, listeners, shards) =
            (Arc::clone(&self.running), Arc::clone(&self.running), Arc::clone(&self.running));
        builder = builder
            .get("/ready", routes::ready(move || ready.ready()))
            .get("/listeners", routes::listeners(registry, move || listeners.listener_rows()))
            .get("/shards", routes::shards(move || shards.shard_rows()));
        #[cfg(feature = "prometheus")]
        {
            let renderer = Arc::new(crate::telemetry::PrometheusRenderer::new());
            for path in ["/metrics", "/stats/prometheus"] {
                let renderer = Arc::clone(&renderer);
                let registry = Arc::clone(self.registry());
                builder = builder.get(path, routes::metrics(move || renderer.render(&registry)));
            }
        }
        for route in extra {
            builder = match route {
                Route::Get(path, handler) => builder.get(path, handler),
                Route::Post(path, handler) => builder.post(path, handler),
            };
        }
        self.admin = Some(builder.start()?);
        Ok(())
    }

    /// The listeners and the addresses on which they really listen.
    pub fn local_addrs(&self) -> Vec<BoundListener> {
        let sockets = lock(&self.running.sockets);
        let bound = sockets.listeners.iter().filter_map(|bound| {
            let address = bound.local_address()?;
            let socket = match address {
                LocalAddress::Tcp(address) => Some(*address),
                LocalAddress::Unix(_) => None,
            };
            Some(BoundListener { name: bound.name.clone(), address: address.to_string(), socket })
        });
        bound.collect()
    }

    /// The IP address of the listener of this name.
    pub fn local_addr(&self, listener: &str) -> Option<SocketAddr> {
        self.local_addrs().into_iter().find(|bound| bound.name == listener)?.socket
    }

    /// The addresses of the admin server.
    pub fn admin_addrs(&self) -> &[SocketAddr] {
        self.admin.as_ref().map_or(&[], admin::Server::local_addrs)
    }

    /// Whether it can serve: every shard and acceptor was asked and answered within a second.
    ///
    /// # Errors
    ///
    /// Why it is not ready.
    pub fn ready(&self) -> Result<(), String> {
        self.running.ready()
    }

    /// The load of each shard, now.
    pub fn shards(&self) -> Vec<ShardLoad> {
        let mut loads = Vec::new();
        self.running.shared.loads.snapshot(&mut loads);
        loads
    }

    /// The metrics.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.running.shared.registry
    }

    /// Makes these the listeners, all at once. Sockets whose address stays are kept, and no
    /// connection is disturbed: those that are open go on as they are, new ones are served by the
    /// new listeners.
    ///
    /// # Errors
    ///
    /// When an address cannot be listened on or the listeners contradict one another; everything
    /// stays as it was then.
    pub fn reload(&self, listeners: impl IntoIterator<Item = Listener>) -> Result<(), Error> {
        self.running.reload(listeners.into_iter().collect())
    }

    /// Drains: says that it is not ready, stops accepting without resetting anybody, and waits until
    /// all connections have ended or the deadline has come; then cuts what is left and ends the
    /// shards. The admin server lives on until the proxy is dropped.
    pub fn drain(&self, drain: impl Into<Drain>) -> Drained {
        let drained = self.running.drain(drain.into());
        self.running.stop();
        self.wait();
        drained
    }

    /// Waits until the proxy's threads have ended.
    pub fn wait(&self) {
        loop {
            let thread = lock(&self.threads).pop();
            let Some(thread) = thread else { return };
            let _ = thread.join();
        }
    }

    /// Kills an acceptor, to see what the proxy says of it.
    #[doc(hidden)]
    pub fn kill_acceptor(&self, acceptor: usize) {
        if let Some(acceptor) = self.running.acceptors.get(acceptor) {
            let _ = acceptor.send(Command::Die);
        }
    }

    /// Kills a shard's thread, to see the others go on.
    #[doc(hidden)]
    pub fn kill_shard(&self, shard: usize) {
        if let Some(shard) = self.running.shards.get(shard) {
            let _ = shard.control.send(Command::Die);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.running.stop();
        self.wait();
        self.admin = None;
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("listeners", &self.local_addrs())
            .field("shards", &self.shards())
            .finish_non_exhaustive()
    }
}
