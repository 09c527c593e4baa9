//! The acceptor: gives each connection to the shard that its policy chooses.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    balance::{Balance, Balancer, NoShard},
    command::Command,
    entrance::{Entrances, Place},
    guest_clocks::{self, Placed},
};
use crate::{
    listener::{LimitGuard, table::ListenerId},
    ring::Nanoseconds,
    runtime::{Executor, Turns, sleep, spawn, timeout},
    shard::{self, Accepted, Receiver, Shared, inbox::Refused},
    telemetry::{AcceptorCells, RejectReason},
};

/// How long to rely on shards to say that they look for more. One of ours says so with the end of its
/// turn, which a service that blocks its thread puts off; the others may have looked meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// One acceptor.
pub(crate) struct Acceptor {
    index: usize,
    shards: Arc<[Arc<shard::Remote>]>,
    balancer: RefCell<Balancer>,
    /// What the balancer's policy was made of.
    balance: RefCell<Arc<Balance>>,
    /// Shards that were given something since the last flush.
    touched: RefCell<Vec<bool>>,
    /// Connections that no inbox had room for.
    waiting: RefCell<VecDeque<(OwnedFd, ListenerId, Option<LimitGuard>)>>,
    excluded: Cell<Vec<usize>>,
    cells: Arc<AcceptorCells>,
    shared: Arc<Shared>,
    placed: Placed,
    own_thread: bool,
}

impl Acceptor {
    /// `None` where there is nothing to do for one: the kernel chooses the shards. `own_thread`: it is
    /// not a task of a shard.
    pub(crate) fn new(
        index: usize,
        shards: Arc<[Arc<shard::Remote>]>,
        shared: Arc<Shared>,
        own_thread: bool,
    ) -> Option<Acceptor> {
        let balance = Arc::clone(&shared.table.load().balance);
        let balancer = Balancer::new(shared.loads.clone(), balance.policy()?);
        Some(Acceptor {
            index,
            touched: RefCell::new(vec![false; shards.len()]),
            shards,
            balancer: RefCell::new(balancer),
            balance: RefCell::new(balance),
            waiting: RefCell::default(),
            excluded: Cell::default(),
            cells: shared.registry.acceptor(index),
            shared,
            placed: Placed::default(),
            own_thread,
        })
    }

    /// Accepts as it is told until it is told to stop.
    pub(crate) async fn run(self, commands: Receiver<Command>) {
        let index = self.index;
        let _dying = Dying { index };
        let starved = Arc::clone(&self.shared.starved_acceptors);
        // One is enough to read them.
        let _clocks = (index == 0).then(|| {
            let (shards, shared) = (Arc::clone(&self.shards), Arc::clone(&self.shared));
            spawn(guest_clocks::watch(shards, shared, self.placed.clone()))
        });
        Entrances::new(Rc::new(self), starved).obey(index, &commands).await;
    }

    /// Takes over what a reload has changed, and gives the cap on connections in all.
    fn renew(&self) -> u64 {
        let table = self.shared.table.load();
        let mut balancer = self.balancer.borrow_mut();
        balancer.cap_connections_per_shard(table.limits.connections_per_shard);
        let mut balance = self.balance.borrow_mut();
        if !Arc::ptr_eq(&balance, &table.balance) {
            *balance = Arc::clone(&table.balance);
            // What makes a policy is the embedder's code.
            match catch_unwind(AssertUnwindSafe(|| balance.policy())) {
                Ok(Some(policy)) => balancer.set_policy(policy),
                _ => tracing::error!("no policy came of {balance:?}: the one of before stays"),
            }
        }
        table.limits.connections
    }

    /// Gives a connection to the shard that `guard` counts it on, or to another one where that has
    /// no room. `Err` gives it back where none has.
    fn hand_over(&self, mut accepted: Accepted) -> Result<(), (Accepted, NoShard)> {
        let mut excluded = self.excluded.take();
        excluded.clear();
        let result = loop {
            let shard = accepted.guard.shard();
            match self.shards[shard].inbox.push(accepted) {
                Ok(()) => {
                    self.touched.borrow_mut()[shard] = true;
                    // Once for a connection, however many have refused it.
                    if !excluded.is_empty() {
                        self.cells.handoffs_redealt.increment();
                    }
                    break Ok(());
                }
                Err(Refused { item, .. }) => accepted = item,
            }
            excluded.push(shard);
            let assigned = self.balancer.borrow_mut().assign_excluding(&excluded);
            match assigned {
                Ok(guard) => accepted.guard = guard,
                Err(why) => break Err((accepted, why)),
            }
        };
        self.excluded.set(excluded);
        result
    }

    /// Tries to place what waits. False: something still does.
    fn place_waiting(&self) -> bool {
        let mut left = self.waiting.borrow().len();
        while let Some((socket, listener, limit)) = self.pop_waiting() {
            // It was counted as accepted, and is closed if a limit was reached meanwhile.
            if let Err(reason) = self.place(socket, listener, limit) {
                self.count_rejected(listener, reason);
            }
            left -= 1;
            if self.waiting.borrow().len() > left {
                // It waits again: nobody has room.
                return false;
            }
        }
        true
    }

    /// Whether a shard has taken all that it was given, or is gone. While none has, a connection
    /// would wait in an inbox as it does in the kernel's queue, and accepting it costs more: this
    /// thread takes a CPU from a shard each time it is woken, for one connection then and for many
    /// later. A shard that is stuck does not count, unless all are.
    fn is_awaited(&self) -> bool {
        !self.own_thread || self.shards.iter().any(|shard| shard.inbox.is_taken())
    }

    /// As [`is_awaited`](Self::is_awaited), and wakes the task once it is.
    fn poll_awaited(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.is_awaited() {
            self.shared.acceptors_ahead.wait(cx.waker());
        }
        // A shard may have looked in between.
        if self.is_awaited() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn count_rejected(&self, listener: ListenerId, reason: RejectReason) {
        if let Some(entry) = self.shared.table.load().listeners.get(&listener) {
            self.shared.registry.accept(&entry.name, self.index).rejected.increment(reason);
        }
    }

    fn pop_waiting(&self) -> Option<(OwnedFd, ListenerId, Option<LimitGuard>)> {
        self.waiting.borrow_mut().pop_front()
    }
}

impl Place for Acceptor {
    fn place(
        &self,
        socket: OwnedFd,
        listener: ListenerId,
        limit: Option<LimitGuard>,
    ) -> Result<(), RejectReason> {
        let max_connections = self.renew();
        let assigned = self.balancer.borrow_mut().assign();
        let (accepted, why) = match assigned {
            Ok(guard) => {
                // Claimed first and compared then, so that acceptors cannot exceed it together.
                if max_connections > 0 && self.shared.loads.total() > max_connections {
                    return Err(RejectReason::Limit);
                }
                match self.hand_over(Accepted { socket, listener, guard, limit }) {
                    Ok(()) => return Ok(()),
                    Err((accepted, why)) => ((accepted.socket, accepted.limit), why),
                }
            }
            Err(why) => ((socket, limit), why),
        };
        match why {
            NoShard::AtCap => Err(RejectReason::ShardLimit),
            NoShard::Excluded => {
                self.waiting.borrow_mut().push_back((accepted.0, listener, accepted.1));
                Ok(())
            }
            // Every shard has died: the process is not ready, and nobody can serve.
            NoShard::Unavailable => Err(RejectReason::ShardLimit),
        }
    }

    fn flush(&self) {
        self.placed.tell();
        for (shard, touched) in self.shards.iter().zip(self.touched.borrow_mut().iter_mut()) {
            if std::mem::take(touched) {
                shard.inbox.wake();
            }
        }
    }

    fn is_behind(&self) -> bool {
        !self.waiting.borrow().is_empty() || !self.is_awaited()
    }

    async fn room(&self) {
        self.settle().await;
        while timeout(LOOK_AGAIN, poll_fn(|cx| self.poll_awaited(cx))).await.is_err() {}
    }

    async fn settle(&self) {
        while !self.place_waiting() {
            self.flush();
            sleep(Duration::from_millis(1)).await;
        }
        self.flush();
    }
}

/// Says so when an acceptor dies, on a thread of its own or as a task of a shard.
struct Dying {
    index: usize,
}

impl Drop for Dying {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!(
                acceptor = self.index,
                "the acceptor died; nothing accepts in its place"
            );
        }
    }
}

/// Notes when an acceptor's loop turned.
pub(crate) struct AcceptorTurns(pub(crate) Arc<AcceptorCells>);

impl Turns for AcceptorTurns {
    fn turned(&self, _: &Executor, _: Nanoseconds, _: Nanoseconds) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.0.last_turn_unix_micros.set(now.as_micros() as i64);
    }
}
