//! What a proxy is to be.

use std::{
    fmt,
    marker::PhantomData,
    num::NonZeroUsize,
    sync::{Arc, mpsc},
};

use arc_swap::ArcSwap;

use super::{
    handle::Proxy,
    operators::{self, Operators, Route},
    running::{Running, Settings},
    sockets::Sockets,
};
use crate::{
    accept::{Acceptor, AcceptorTurns, Balance, Command},
    admin,
    error::Error,
    guests::{GuestThread, RunGuest},
    listener::{Limits, Listener, Table},
    original_dst::{Loops, WatchedAddresses},
    ring::{Capabilities, Driver, Restrictions},
    runtime::{Executor, spawn},
    shard::{
        self, Loads, Mailbox, Shared,
        agreement::{Agreement, Buffers, DriverSettings, Seat},
        thread::ShardThread,
    },
    sys::{
        cpu_quota,
        cpus::{self, parse_cpu_list},
        placement::{self, Placement, ShardCount},
    },
    telemetry::Registry,
};

/// When a shard's thread is pinned to a CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pin {
    /// One to one when the shards cover the whole affinity mask or the CPUs were listed; otherwise
    /// every shard keeps the mask, so that two proxies of a node do not meet on the same first CPUs.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Where acceptors run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AcceptorPlacement {
    /// On the shard where there is only one, on a thread of its own otherwise.
    ///
    /// On a shard a new connection takes less CPU time; long-lived ones take as much either way. But
    /// where there are several shards, one of them then has more to do than the others, and accepting
    /// for all of them waits for that one's turns and its CPU: beside other busy programs, a proxy of
    /// two shards took half as many connections a second, each after a multiple of the time. A thread
    /// that does little is run at once. Choose [`OnShard`](Self::OnShard) for several shards where the
    /// CPUs are the proxy's alone and CPU time counts for more than evenness.
    #[default]
    Auto,
    /// On a thread of its own.
    OwnThread,
    /// As a task of a shard; of several acceptors, each on another one while there are enough.
    OnShard,
}

/// Shards of this crate's own executor.
#[derive(Debug)]
pub struct Native(());

/// Describes a proxy, to be started. Everything has a default but the listeners. `K` is the kind of its
/// shards, [`guests`](crate::guests) for instance.
#[must_use = "a builder does nothing until it is started"]
pub struct Builder<K = Native> {
    kind: PhantomData<fn(K)>,
    shards: usize,
    cpus: Option<String>,
    pin: Pin,
    acceptors: usize,
    acceptor_placement: AcceptorPlacement,
    balance: Balance,
    limits: Limits,
    listeners: Vec<Listener>,
    admin: Vec<String>,
    telemetry: Vec<String>,
    routes: Vec<Route>,
    driver: Driver,
    mask: Capabilities,
    restrictions: Restrictions,
    buffers: Buffers,
}

impl<K> Default for Builder<K> {
    fn default() -> Builder<K> {
        Builder {
            kind: PhantomData,
            shards: 0,
            cpus: None,
            pin: Pin::Auto,
            acceptors: 1,
            acceptor_placement: AcceptorPlacement::Auto,
            balance: Balance::default(),
            limits: Limits::default(),
            listeners: Vec::new(),
            admin: Vec::new(),
            telemetry: Vec::new(),
            routes: Vec::new(),
            driver: Driver::Auto,
            mask: Capabilities::ALL,
            restrictions: Restrictions::default(),
            buffers: Buffers::default(),
        }
    }
}

impl Builder {
    /// Small receive buffers of each shard: how many, at most 32,768, and of how many bytes.
    /// Default: 1,024 of 4 KiB. They bound what all connections of a shard can have received and not
    /// yet forwarded without a copy.
    pub fn buffers(mut self, buffers: u16, size: u32) -> Builder {
        (self.buffers.small, self.buffers.small_size) = (buffers.clamp(1, 1 << 15), size.max(64));
        self
    }

    /// Starts the proxy. It serves when this returns.
    ///
    /// # Errors
    ///
    /// When io_uring is asked for and refused, an address cannot be listened on, or the description
    /// contradicts itself. Nothing is left running then.
    pub fn start(self) -> Result<Proxy, Error> {
        self.launch(None)
    }
}

impl<K> Builder<K> {
    /// How many shards; 0, the default, is one a usable CPU (the affinity mask, cut by the cgroup's
    /// CPU quota). Each costs a thread, about 104 KiB of locked memory, and up to 12 MiB of receive
    /// buffers, of which only what was used is resident.
    pub fn shards(mut self, shards: usize) -> Builder<K> {
        self.shards = shards;
        self
    }

    /// Exactly these CPUs, one shard each: `"0-3,8"`. Instead of [`shards`](Self::shards).
    pub fn cpus(mut self, cpus: impl Into<String>) -> Builder<K> {
        self.cpus = Some(cpus.into());
        self
    }

    /// When shards are pinned. Default: [`Pin::Auto`].
    pub fn pin(mut self, pin: Pin) -> Builder<K> {
        self.pin = pin;
        self
    }

    /// How many acceptors. Default: 1, which carries some 80,000 new connections a second. More
    /// listen on sockets of their own (SO_REUSEPORT), over the same loads.
    pub fn acceptors(mut self, acceptors: usize) -> Builder<K> {
        self.acceptors = acceptors.max(1);
        self
    }

    /// Where acceptors run. Default: [`AcceptorPlacement::Auto`].
    pub fn acceptor_placement(mut self, placement: AcceptorPlacement) -> Builder<K> {
        self.acceptor_placement = placement;
        self
    }

    /// Who gets a connection. Default: [`Balance::LeastConnections`].
    pub fn balance(mut self, balance: Balance) -> Builder<K> {
        self.balance = balance;
        self
    }

    /// Caps on connections. Default: none.
    pub fn limits(mut self, limits: Limits) -> Builder<K> {
        self.limits = limits;
        self
    }

    /// Adds a listener.
    pub fn listener(mut self, listener: Listener) -> Builder<K> {
        self.listeners.push(listener);
        self
    }

    /// Serves the admin routes on this address: `/ready`, `/metrics`, `/stats/prometheus`,
    /// `/listeners`, `/shards`, and what [`get`](Self::get) and [`post`](Self::post) add. It belongs
    /// on loopback. Default: off.
    pub fn admin(mut self, address: impl Into<String>) -> Builder<K> {
        self.admin.push(address.into());
        self
    }

    /// Serves the read-only routes on this address, for those who cannot reach loopback: `/ready`,
    /// `/metrics`, `/stats/prometheus`. Default: off.
    pub fn telemetry(mut self, address: impl Into<String>) -> Builder<K> {
        self.telemetry.push(address.into());
        self
    }

    /// Adds a GET route to the admin server.
    pub fn get(
        mut self,
        path: impl Into<String>,
        handler: impl Fn(&admin::Request) -> admin::Response + Send + Sync + 'static,
    ) -> Builder<K> {
        self.routes.push(Route::Get(path.into(), Arc::new(handler)));
        self
    }

    /// Adds a POST route to the admin server. A handler must not drop the proxy, whose admin server
    /// would wait for it.
    pub fn post(
        mut self,
        path: impl Into<String>,
        handler: impl Fn(&admin::Request) -> admin::Response + Send + Sync + 'static,
    ) -> Builder<K> {
        self.routes.push(Route::Post(path.into(), Arc::new(handler)));
        self
    }

    /// What carries out the operations of all threads. Default: [`Driver::Auto`].
    pub fn driver(mut self, driver: Driver) -> Builder<K> {
        self.driver = driver;
        self
    }

    /// Uses no more of io_uring than this, as on an older kernel. Default: everything there is.
    pub fn capabilities(mut self, mask: Capabilities) -> Builder<K> {
        self.mask = mask;
        self
    }

    /// What the rings may be asked to do. Default: what this crate uses.
    pub fn restrictions(mut self, restrictions: Restrictions) -> Builder<K> {
        self.restrictions = restrictions;
        self
    }

    /// Starts the proxy, with shards of our own or with guests.
    pub(crate) fn launch(self, guest: Option<Arc<dyn RunGuest>>) -> Result<Proxy, Error> {
        let admin = operators::parse("admin", &self.admin)?;
        let telemetry = operators::parse("telemetry", &self.telemetry)?;
        let placements = self.placements()?;
        let shard_count = placements.len();
        let settings = Settings {
            per_listener: match self.balance {
                Balance::Kernel => shard_count,
                _ => self.acceptors,
            },
            kernel: matches!(self.balance, Balance::Kernel),
            guests: guest.is_some(),
        };
        if settings.kernel && settings.guests {
            return Err(Error::Invalid(
                "balance: guest shards do not accept, so `kernel` is not for them; use another one"
                    .to_owned(),
            ));
        }
        let registry = Arc::new(Registry::new(shard_count));
        let own = WatchedAddresses::start()
            .map_err(Error::system("reading the addresses of this host"))
            .map(Arc::new)?;
        let (mut sockets, opened) = Sockets::open(self.listeners, &settings, &registry)?;
        let table = Table {
            listeners: sockets.entries(),
            loops: Loops::watching(sockets.bound_addresses(), Arc::clone(&own)),
            own,
            limits: self.limits,
            balance: Arc::new(self.balance),
        };
        let shared = Arc::new(Shared {
            table: ArcSwap::from_pointee(table),
            loads: Loads::new(shard_count),
            registry,
            starved_acceptors: Default::default(),
            acceptors_ahead: Default::default(),
        });
        let shards: Arc<[Arc<shard::Remote>]> =
            (0..shard_count).map(|index| Arc::new(shard::Remote::new(index, &shared))).collect();
        let acceptor_count = if settings.kernel { 0 } else { self.acceptors };
        let acceptors: Vec<_> =
            (0..acceptor_count).map(|_| Arc::new(Mailbox::new(usize::MAX))).collect();
        let cpus = placements.iter().map(|placement| match placement {
            Placement::Pinned(cpu) => Some(*cpu),
            _ => None,
        });
        let running = Arc::new(Running::new(
            Arc::clone(&shared),
            Arc::clone(&shards),
            acceptors,
            cpus.collect(),
            settings,
            sockets,
        ));
        // From here on, dropping the proxy stops what was started.
        let mut proxy = Proxy::new(Operators::new(Arc::clone(&running), self.routes));
        let (started, starts) = mpsc::channel();
        let mut agreement = Agreement::new(DriverSettings {
            driver: self.driver,
            mask: self.mask,
            restrictions: self.restrictions,
            buffers: self.buffers,
        });
        for (placement, remote) in placements.into_iter().zip(shards.iter()) {
            let (remote, all) = (Arc::clone(remote), Arc::clone(&shards));
            let shared = Arc::clone(&shared);
            let thread = match &guest {
                None => {
                    let seat = agreement.seat();
                    ShardThread { remote, all, shared, placement, seat }.start()
                }
                Some(guest) => {
                    let guest = Arc::clone(guest);
                    GuestThread { remote, all, shared, placement, guest }.start(started.clone())
                }
            };
            proxy.add_thread(thread?);
        }
        drop(started);
        // Shards of our own have a say in the agreement instead.
        for _ in 0..guest.as_ref().map_or(0, |_| shard_count) {
            starts.recv().map_err(|_| died_starting())??;
        }
        for index in 0..acceptor_count {
            let start = StartAcceptor { index, running: Arc::clone(&running) };
            let on_shard = match self.acceptor_placement {
                _ if guest.is_some() => false,
                AcceptorPlacement::OnShard => true,
                AcceptorPlacement::OwnThread => false,
                AcceptorPlacement::Auto => shard_count == 1,
            };
            if on_shard {
                start.on_shard(&shards[index % shard_count]);
            } else {
                proxy.add_thread(start.on_thread(agreement.seat())?);
            }
        }
        let _ = running.driver.set(agreement.conclude()?);
        running.add_sources();
        running.open(opened);
        proxy.serve_operators(&admin, telemetry)?;
        Ok(proxy)
    }

    fn placements(&self) -> Result<Vec<Placement>, Error> {
        let count = match (&self.cpus, NonZeroUsize::new(self.shards)) {
            (Some(_), Some(_)) => {
                return Err(Error::Invalid("set either `shards` or `cpus`, not both".to_owned()));
            }
            (Some(list), None) => {
                ShardCount::On(parse_cpu_list(list).map_err(|error| Error::address(&error))?)
            }
            (None, Some(shards)) => ShardCount::Exactly(shards),
            (None, None) => ShardCount::Auto,
        };
        let mask = cpus::affinity().map_err(Error::system("reading the CPU affinity mask"))?;
        let pin = match self.pin {
            Pin::Auto => placement::Pin::Auto,
            Pin::Always => placement::Pin::Always,
            Pin::Never => placement::Pin::Never,
        };
        let layout = placement::layout(&mask, cpu_quota::current(), &count, pin)?;
        if layout.is_oversubscribed() {
            tracing::warn!(
                shards = layout.shards.len(),
                cpus = layout.usable,
                "there are more shards than CPUs to run them"
            );
        }
        Ok(layout.shards)
    }
}

fn died_starting() -> Error {
    Error::Invalid("a shard's thread ended while it started".to_owned())
}

struct StartAcceptor {
    index: usize,
    running: Arc<Running>,
}

impl StartAcceptor {
    fn make(&self, own_thread: bool) -> Option<Acceptor> {
        let Running { shards, shared, .. } = &*self.running;
        Acceptor::new(self.index, Arc::clone(shards), Arc::clone(shared), own_thread)
    }

    fn on_shard(self, shard: &shard::Remote) {
        let commands = self.running.acceptors[self.index].receiver();
        let start = move || {
            if let Some(acceptor) = self.make(false) {
                let cells = self.running.shared.registry.acceptor(self.index);
                Executor::current().observe_turns(Box::new(AcceptorTurns(cells)));
                spawn(acceptor.run(commands)).detach();
            }
        };
        let _ = shard.control.send(Command::Run(Box::new(start)));
    }

    fn on_thread(self, seat: Seat) -> Result<std::thread::JoinHandle<()>, Error> {
        let name = format!("evenkeel-acc-{}", self.index);
        let commands = self.running.acceptors[self.index].receiver();
        let run = move || {
            let Some(executor) = seat.executor(false) else { return };
            let cells = self.running.shared.registry.acceptor(self.index);
            executor.observe_turns(Box::new(AcceptorTurns(cells)));
            if let Some(acceptor) = self.make(true) {
                // The thread holds nothing that keeps the proxy alive.
                drop(self);
                drop(seat);
                if let Err(error) = executor.run(acceptor.run(commands)) {
                    tracing::error!("an acceptor died: {error}");
                }
            }
        };
        std::thread::Builder::new()
            .name(name)
            .spawn(run)
            .map_err(Error::system("starting an acceptor's thread"))
    }
}

impl<K> fmt::Debug for Builder<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("shards", &self.shards)
            .field("balance", &self.balance)
            .field("listeners", &self.listeners.len())
            .finish_non_exhaustive()
    }
}
