//! A shard's thread: where it runs, its driver, its main loop, and what happens when it dies.

use std::{
    collections::VecDeque,
    os::fd::OwnedFd,
    rc::Rc,
    sync::Arc,
    thread::{self, JoinHandle},
};

use super::{
    Accepted, Arrivals, Remote, Shard, Shared, agreement::Seat, inbox::Refused, turns::ShardTurns,
};
use crate::{
    accept::{Balancer, Entrances, LeastConnections, Place},
    error::Error,
    listener::{LimitGuard, table::ListenerId},
    runtime::spawn,
    sys::placement::Placement,
    telemetry::RejectReason,
};

/// Everything that a shard's thread starts with.
pub(crate) struct ShardThread {
    pub(crate) remote: Arc<Remote>,
    pub(crate) all: Arc<[Arc<Remote>]>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) placement: Placement,
    pub(crate) seat: Seat,
}

impl ShardThread {
    /// Starts the thread. It serves once all threads have agreed on a driver.
    pub(crate) fn start(self) -> Result<JoinHandle<()>, Error> {
        let name = format!("evenkeel-{}", self.remote.index);
        thread::Builder::new()
            .name(name)
            .spawn(move || self.run())
            .map_err(Error::system("starting a shard's thread"))
    }

    fn run(self) {
        if let Err(error) = self.placement.apply() {
            // It serves as well where the kernel puts it.
            tracing::warn!(shard = self.remote.index, "cannot place the shard: {error}");
        }
        let Some(executor) = self.seat.executor(true) else { return };
        let cpu = match &self.placement {
            Placement::Pinned(cpu) => Some(*cpu),
            _ => None,
        };
        let index = self.remote.index;
        let cells = self.shared.registry.shard(index);
        cells.free_buffers.set(executor.reactor().free_buffers() as i64);
        executor.observe_turns(Box::new(ShardTurns::new(index, self.shared.loads.clone(), cells)));
        let mut leaving = Leaving::new(&self.remote, &self.all, &self.shared);
        let shard = Shard::new(index, cpu, Arc::clone(&self.shared));
        let ShardThread { remote, shared, seat, .. } = self;
        let main = main(remote, shared, shard);
        drop(seat);
        match executor.run(main) {
            Ok(()) => leaving.expect(),
            Err(error) => tracing::error!(shard = index, "the shard died: {error}"),
        }
    }
}

/// The main task of a shard.
async fn main(remote: Arc<Remote>, shared: Arc<Shared>, shard: Shard) {
    let arrivals = Rc::new(Arrivals::new(shard.clone()));
    let inbox = spawn(take_arrivals(Arc::clone(&remote), Rc::clone(&arrivals)));
    let own = OwnEntrance { shard: shard.clone(), arrivals };
    let starved = Arc::clone(&shared.starved_acceptors);
    let entrances = Entrances::new(Rc::new(own), starved);
    entrances.obey(shard.index(), &remote.control).await;
    shard.cut();
    drop(inbox);
}

async fn take_arrivals(remote: Arc<Remote>, arrivals: Rc<Arrivals>) {
    let mut accepted = VecDeque::new();
    loop {
        remote.inbox.receive(&mut accepted).await;
        for accepted in accepted.drain(..) {
            arrivals.arrive(accepted);
        }
    }
}

/// A shard that accepts for itself, from sockets that the kernel spreads connections over.
struct OwnEntrance {
    shard: Shard,
    arrivals: Rc<Arrivals>,
}

impl Place for OwnEntrance {
    fn drain(&self) {
        self.shard.drain();
    }

    fn place(
        &self,
        socket: OwnedFd,
        listener: ListenerId,
        limit: Option<LimitGuard>,
    ) -> Result<(), RejectReason> {
        let loads = self.shard.loads();
        let index = self.shard.index();
        let limits = self.shard.shared().table.load().limits;
        let guard = loads.claim(index).ok_or(RejectReason::ShardLimit)?;
        let carried = loads.read(index).map_or(0, |load| load.connections);
        if limits.connections_per_shard > 0 && carried > limits.connections_per_shard {
            return Err(RejectReason::ShardLimit);
        }
        if limits.connections > 0 && loads.total() > limits.connections {
            return Err(RejectReason::Limit);
        }
        self.arrivals.arrive(Accepted { socket, listener, guard, limit });
        Ok(())
    }
}

/// Takes a shard out of the balance when its thread ends, however it does, and deals what waited
/// for it to the others.
pub(crate) struct Leaving {
    remote: Arc<Remote>,
    all: Arc<[Arc<Remote>]>,
    shared: Arc<Shared>,
    /// It was told to stop.
    expected: bool,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let index = self.remote.index;
        if !self.expected {
            self.shared.registry.proxy().shards_failed.increment();
        }
        self.shared.loads.set_available(index, false);
        let waiting = self.remote.inbox.close();
        drop(self.remote.control.close());
        if self.expected {
            return;
        }
        let policy = Box::new(LeastConnections::default());
        let mut balancer = Balancer::new(self.shared.loads.clone(), policy);
        for accepted in waiting {
            if let Err(accepted) = self.redeal(accepted, &mut balancer) {
                self.count_rejected(&accepted);
            }
        }
    }
}

impl Leaving {
    pub(crate) fn new(
        remote: &Arc<Remote>,
        all: &Arc<[Arc<Remote>]>,
        shared: &Arc<Shared>,
    ) -> Leaving {
        Leaving {
            remote: Arc::clone(remote),
            all: Arc::clone(all),
            shared: Arc::clone(shared),
            expected: false,
        }
    }

    /// The shard ends because it was told to.
    pub(crate) fn expect(&mut self) {
        self.expected = true;
    }

    /// Gives a connection to another shard. Back comes one for which none has room.
    fn redeal(&self, mut accepted: Accepted, balancer: &mut Balancer) -> Result<(), Accepted> {
        let mut excluded = vec![self.remote.index];
        while let Ok(guard) = balancer.assign_excluding(&excluded) {
            let shard = guard.shard();
            accepted.guard = guard;
            match self.all[shard].inbox.send(accepted) {
                Ok(()) => {
                    self.shared.registry.acceptor(0).handoffs_redealt.increment();
                    return Ok(());
                }
                Err(Refused { item, .. }) => accepted = item,
            }
            excluded.push(shard);
        }
        Err(accepted)
    }

    fn count_rejected(&self, accepted: &Accepted) {
        let table = self.shared.table.load();
        if let Some(entry) = table.listeners.get(&accepted.listener) {
            let cells = self.shared.registry.listener(&entry.name, self.remote.index);
            cells.rejected.increment(RejectReason::ShardLimit);
        }
    }
}
