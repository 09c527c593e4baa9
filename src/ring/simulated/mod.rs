//! The driver of the tests: a kernel and a network in memory, on a virtual clock, where a seed
//! decides what happens when.
//!
//! Flows in: what the slots ask of any driver, and through a [`World`] what a test wants to be the
//! case. Flows out: completions, in an order and in portions that a real kernel could choose, and
//! the list of what the code above did wrong. It owns the network and the descriptors that stand
//! for its sockets until they are handed over; like any driver it never owns an operation's memory.
//!
//! **Time** stands still while there is something to do, and jumps to the next event, or to the end
//! of the wait, when there is not. Waiting for ever with no event to come is a deadlock: the turn
//! fails and says what is in flight.
//!
//! **Descriptors** are real ones, each a Unix socket that nobody uses, so that owning and closing
//! them works as ever; their numbers are mapped to simulated sockets. One that its owner dropped is
//! found out at the next turn by its inode, as its number may have been given out again.
//!
//! **What is noticed**: operations on descriptors that are closed, or closed under an operation;
//! tokens used twice at a time; memory that changed or was freed under an operation; buffers
//! written to while lent; completions that nobody took; descriptors that nobody closed.
//!
//! [`World`] is what tests see; `kernel.rs` has time and what happens in it, `flight.rs` the
//! attempts at an operation, `custom.rs` operations of an embedder's, `descriptors.rs` the numbers,
//! `network.rs` the sockets, `elsewhere.rs` other threads, and `driver.rs` puts it all behind the
//! seam.

mod behaviour;
mod custom;
mod descriptors;
mod driver;
mod elsewhere;
mod flight;
mod kernel;
mod network;

use std::{cell::RefCell, net::SocketAddr, os::fd::OwnedFd, rc::Rc};

pub(crate) use self::{
    behaviour::{Behaviour, Random},
    custom::{Alarm, Nop},
};
use self::{driver::SimulatedDriver, kernel::Simulation};
use super::{buffers::Pool, driver::Nanoseconds};

/// A simulated kernel, as the tests see it.
#[derive(Clone)]
pub(crate) struct World(Rc<RefCell<Simulation>>);

impl World {
    pub(crate) fn new(random: Random, behaviour: Behaviour, pools: Vec<Rc<Pool>>) -> World {
        World(Rc::new(RefCell::new(Simulation::new(random, behaviour, pools))))
    }

    pub(crate) fn driver(&self) -> SimulatedDriver {
        SimulatedDriver::new(self.clone())
    }

    /// Changes how the kernel behaves from now on.
    pub(crate) fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.0.borrow_mut().behaviour);
    }

    pub(crate) fn behaviour(&self) -> Behaviour {
        self.0.borrow().behaviour.clone()
    }

    /// About so many bytes one operation moves, on average.
    pub(crate) fn stride(&self) -> u64 {
        let simulation = self.0.borrow();
        let whole = u64::from(simulation.pools[0].buffer_size());
        let whole = whole.min(simulation.behaviour.window as u64);
        if simulation.behaviour.partly > 50 { whole.div_ceil(4) } else { whole }
    }

    /// A random generator for what a test decides.
    pub(crate) fn random(&self) -> Random {
        self.0.borrow_mut().random.fork()
    }

    pub(crate) fn now(&self) -> Nanoseconds {
        self.0.borrow().now
    }

    /// A socket that listens at an address.
    pub(crate) fn listen(&self, address: SocketAddr) -> OwnedFd {
        let simulation = &mut *self.0.borrow_mut();
        let (id, fd) = simulation.socket();
        simulation.network.listen(id, address);
        fd
    }

    /// Two sockets that are connected.
    pub(crate) fn pair(&self) -> (OwnedFd, OwnedFd) {
        let simulation = &mut *self.0.borrow_mut();
        let ((client, client_fd), (server, server_fd)) = (simulation.socket(), simulation.socket());
        simulation.network.join(client, server, SocketAddr::from(([127, 0, 0, 1], 80)));
        (client_fd, server_fd)
    }

    /// From now on nobody answers at an address.
    pub(crate) fn silence(&self, address: SocketAddr) {
        self.0.borrow_mut().network.silence(address);
    }

    /// Keeps all completions from being taken, or lets them be taken again.
    pub(crate) fn hold_back(&self, held_back: bool) {
        self.0.borrow_mut().held_back = held_back;
    }

    /// Completions that are there and were not taken.
    pub(crate) fn untaken(&self) -> usize {
        self.0.borrow().ready.len()
    }

    pub(crate) fn in_flight(&self) -> usize {
        let simulation = self.0.borrow();
        simulation.flights.len() + simulation.customs.len()
    }

    /// Descriptors that are open.
    pub(crate) fn open(&self) -> usize {
        let simulation = &mut *self.0.borrow_mut();
        simulation.notice_closed();
        simulation.descriptors.len()
    }

    /// What was done wrong, up to now.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.0.borrow().violations.clone()
    }
}
