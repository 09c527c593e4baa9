//! The handle of a running proxy.

use std::{fmt, net::SocketAddr, sync::Arc, thread::JoinHandle};

use super::{
    builder::Builder,
    drain::{Drain, Drained},
    operators::{self, Operators, Telemetry},
    reload::Reload,
    running::Running,
};
use crate::{
    accept::Command,
    admin,
    error::Error,
    ring::DriverInUse,
    shard::ShardLoad,
    sync::{Mutex, lock},
    sys::listening::LocalAddress,
    telemetry::{Registry, ReloadResult},
};

/// A running proxy. Dropping it stops it, cuts its connections, and waits for its threads; to let
/// them finish, [`drain`](Self::drain) it first.
pub struct Proxy {
    running: Arc<Running>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    operators: Operators,
    admin: Option<admin::Server>,
    /// Locked for as long as a reload takes: there is one at a time.
    telemetry: Mutex<Telemetry>,
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

    pub(super) fn new(operators: Operators) -> Proxy {
        Proxy {
            running: Arc::clone(&operators.running),
            threads: Mutex::default(),
            operators,
            admin: None,
            telemetry: Mutex::default(),
        }
    }

    pub(super) fn add_thread(&mut self, thread: JoinHandle<()>) {
        lock(&self.threads).push(thread);
    }

    pub(super) fn serve_operators(
        &mut self,
        admin: &[SocketAddr],
        telemetry: Vec<SocketAddr>,
    ) -> Result<(), Error> {
        self.admin = self.operators.admin(admin)?;
        let mut running = lock(&self.telemetry);
        if let Some(started) = self.operators.telemetry(telemetry, &running)? {
            *running = started;
        }
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

    /// The addresses of the telemetry server.
    pub fn telemetry_addrs(&self) -> Vec<SocketAddr> {
        lock(&self.telemetry).local_addrs().to_vec()
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

    /// What carries out the operations of all its threads, and why it is this.
    pub fn driver(&self) -> &DriverInUse {
        self.running.driver()
    }

    /// The metrics.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.running.shared.registry
    }

    /// Changes the proxy while it runs: all at once, or not at all. Listeners alone are a reload, in
    /// which these are the listeners from now on; [`Reload`] changes limits, balance and telemetry
    /// along with them, or alone. No connection is disturbed: those that are open go on as they are,
    /// new ones are served as the reload says.
    ///
    /// It returns when the threads follow, after some 20 ms where a listener is closed: handshakes that
    /// have begun may complete. From a handler of the telemetry server it must not be called: it may
    /// end that server, and would wait for itself.
    ///
    /// # Errors
    ///
    /// When an address cannot be listened on, the listeners contradict one another, or the proxy is
    /// draining; everything stays as it was then.
    pub fn reload(&self, reload: impl Into<Reload>) -> Result<(), Error> {
        let result = self.try_reload(reload.into());
        let outcome = match result {
            Ok(()) => ReloadResult::Accepted,
            Err(_) => ReloadResult::Refused,
        };
        self.registry().proxy().reloaded(outcome);
        result
    }

    fn try_reload(&self, mut reload: Reload) -> Result<(), Error> {
        let mut telemetry = lock(&self.telemetry);
        let started = match reload.telemetry.take() {
            Some(texts) => {
                let addresses = operators::parse("telemetry", &texts)?;
                self.operators.telemetry(addresses, &telemetry)?
            }
            None => None,
        };
        self.running.reload(reload)?;
        if let Some(started) = started {
            *telemetry = started;
        }
        Ok(())
    }

    /// Runs `task` on a shard, soon, so that it may [`spawn`](crate::runtime::spawn) there what is to
    /// run beside the connections. It must not block. On
    /// [`guests`](crate::guests) it is their executor's to spawn. Whether the shard is there to run it; shards are
    /// numbered from 0.
    pub fn run_on_shard(&self, shard: usize, task: impl FnOnce() + Send + 'static) -> bool {
        let shard = self.running.shards.get(shard);
        shard.is_some_and(|shard| shard.control.send(Command::Run(Box::new(task))).is_ok())
    }

    /// Drains: says that it is not ready, stops accepting without resetting anybody, and waits until
    /// all connections have ended or the deadline has come; then cuts what is left and ends the
    /// shards. The servers for operators live on until the proxy is dropped.
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
        *lock(&self.telemetry) = Telemetry::default();
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
