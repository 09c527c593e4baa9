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

mod behaviour;
mod flight;
mod network;

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd},
    ptr::NonNull,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

pub(crate) use self::behaviour::{Behaviour, Random};
use self::{
    flight::Flight,
    network::{Network, SocketId},
};
use super::{
    buffers::Pool,
    driver::{Completion, Doorbell, Driver, Kind, Nanoseconds, Operation, Token, Wait},
};
use crate::sys::dial::{DialError, UpstreamOptions};

/// What lent buffers are filled with.
const POISON: u8 = 0xa5;

/// More turns than any simulation needs that gets anywhere.
const TURNS: u64 = 2_000_000;

enum Event {
    Attempt { token: Token, serial: u64 },
    Cancel { token: Token },
    Close { fd: OwnedFd },
    Reset { socket: SocketId },
}

struct Simulation {
    now: Nanoseconds,
    random: Random,
    behaviour: Behaviour,
    network: Network,
    /// By the number of their descriptors.
    descriptors: BTreeMap<RawFd, SocketId>,
    flights: BTreeMap<u64, Flight>,
    /// By time, and in the order in which they were scheduled.
    events: BTreeMap<(Nanoseconds, u64), Event>,
    serial: u64,
    /// Completions that are there, and were not handed over yet.
    ready: VecDeque<Completion>,
    held_back: bool,
    pools: Vec<Rc<Pool>>,
    lent: Vec<VecDeque<(u16, NonNull<u8>)>>,
    violations: Vec<String>,
    turns: u64,
}

/// A simulated kernel, as the tests see it.
#[derive(Clone)]
pub(crate) struct World(Rc<RefCell<Simulation>>);

impl World {
    pub(crate) fn new(mut random: Random, behaviour: Behaviour, pools: Vec<Rc<Pool>>) -> World {
        let lent = pools.iter().map(|_| VecDeque::new()).collect();
        World(Rc::new(RefCell::new(Simulation {
            now: random.below(10_000_000_000),
            random,
            behaviour,
            network: Network::default(),
            descriptors: BTreeMap::new(),
            flights: BTreeMap::new(),
            events: BTreeMap::new(),
            serial: 0,
            ready: VecDeque::new(),
            held_back: false,
            pools,
            lent,
            violations: Vec::new(),
            turns: 0,
        })))
    }

    pub(crate) fn driver(&self) -> SimulatedDriver {
        SimulatedDriver { world: self.clone(), rung: Arc::default() }
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
        self.0.borrow().flights.len()
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

impl Simulation {
    fn violation(&mut self, what: String) {
        self.violations.push(format!("at {} ns: {what}", self.now));
    }

    fn schedule(&mut self, at: Nanoseconds, event: Event) {
        self.serial += 1;
        self.events.insert((at, self.serial), event);
    }

    fn soon(&mut self) -> Nanoseconds {
        self.now + self.random.below(self.behaviour.latency + 1)
    }

    fn schedule_attempt(&mut self, token: Token, serial: u64) {
        let Some(flight) = self.flights.get_mut(&token.0) else { return };
        if std::mem::replace(&mut flight.scheduled, true) {
            return;
        }
        let at = self.soon();
        self.schedule(at, Event::Attempt { token, serial });
    }

    fn schedule_reset(&mut self, socket: SocketId) {
        let at = self.soon();
        self.schedule(at, Event::Reset { socket });
    }

    fn socket(&mut self) -> (SocketId, OwnedFd) {
        let id = self.network.socket(self.behaviour.window);
        let fd = self.stand_in(id);
        (id, fd)
    }

    /// Makes the descriptor that stands for a socket.
    fn stand_in(&mut self, id: SocketId) -> OwnedFd {
        let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let fd = fd.expect("a test may have a few descriptors");
        let number = fd.as_raw_fd();
        // Its number may have been that of a descriptor that was dropped a moment ago.
        self.notice_closed();
        let inode = inode(number).expect("it was just made");
        self.network.sockets[id].descriptor = Some((number, inode));
        self.descriptors.insert(number, id);
        fd
    }

    fn give_descriptor(&mut self, id: SocketId) -> i32 {
        self.stand_in(id).into_raw_fd()
    }

    fn lookup(&self, fd: BorrowedFd<'_>) -> Option<SocketId> {
        let id = *self.descriptors.get(&fd.as_raw_fd())?;
        let (number, recorded) = self.network.sockets[id].descriptor?;
        (inode(number) == Some(recorded)).then_some(id)
    }

    /// Finds descriptors that their owners have dropped.
    fn notice_closed(&mut self) {
        let is_closed = |(number, id): &(&RawFd, &SocketId)| {
            let recorded = self.network.sockets[**id].descriptor;
            recorded.map(|(_, inode)| inode) != inode(**number)
        };
        let closed: Vec<_> =
            self.descriptors.iter().filter(is_closed).map(|(number, id)| (*number, *id)).collect();
        for (number, id) in closed {
            self.descriptors.remove(&number);
            self.close(id);
        }
    }

    fn close(&mut self, id: SocketId) {
        let mut flights = self.flights.iter();
        if let Some((token, _)) = flights.find(|(_, flight)| flight.socket == id) {
            let text = format!("socket {id} was closed while {:?} was in flight", Token(*token));
            self.violation(text);
        }
        self.network.close(id);
        self.wake_changed();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Attempt { token, serial } => self.attempt(token, serial),
            Event::Reset { socket } => {
                self.network.reset(socket);
                self.wake_changed();
            }
            Event::Close { fd } => {
                let number = fd.as_raw_fd();
                match self.lookup(fd.as_fd()) {
                    Some(id) => {
                        self.descriptors.remove(&number);
                        self.close(id);
                    }
                    None => self.violation(format!("descriptor {number} was closed, and unknown")),
                }
            }
            Event::Cancel { token } => match self.flights.get_mut(&token.0) {
                Some(flight) => {
                    flight.cancelled = true;
                    let serial = flight.serial;
                    self.schedule_attempt(token, serial);
                }
                None => self.ready.push_back(Completion {
                    token: Token::CANCEL,
                    result: -libc::ENOENT,
                    buffer: None,
                    more: false,
                }),
            },
        }
    }

    /// Lets happen what is due.
    fn catch_up(&mut self) {
        while let Some(next) = self.events.first_entry()
            && next.key().0 <= self.now
        {
            let event = next.remove();
            self.happen(event);
        }
    }

    fn lend(&mut self) {
        for (pool, lent) in self.pools.iter().zip(&mut self.lent) {
            while lent.len() < usize::from(self.behaviour.lent)
                && let Some((id, start)) = pool.lend()
            {
                // SAFETY: the buffer was just lent, so it is the driver's alone, and it is
                // `buffer_size` long.
                unsafe { start.write_bytes(POISON, pool.buffer_size() as usize) };
                lent.push_back((id, start));
            }
        }
    }

    /// Lets time pass until there is a completion to take, or the wait is over.
    fn wait(&mut self, wait: Wait) -> io::Result<()> {
        let takeable =
            |simulation: &Simulation| !simulation.ready.is_empty() && !simulation.held_back;
        while !takeable(self) {
            let deadline = match wait {
                Wait::No => return Ok(()),
                Wait::Until(deadline) => deadline.max(self.now),
                Wait::Forever => Nanoseconds::MAX,
            };
            match self.events.first_key_value() {
                Some(((next, _), _)) if *next <= deadline => {
                    self.now = self.now.max(*next);
                    self.catch_up();
                }
                _ if wait == Wait::Forever => return Err(self.deadlock()),
                _ => {
                    self.now = deadline;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn deadlock(&self) -> io::Error {
        let in_flight = self.flights.iter().map(|(token, flight)| {
            let socket = &self.network.sockets[flight.socket];
            format!("\n  {:?} {:?} on {socket:?}", Token(*token).key(), flight.operation)
        });
        let in_flight: String = in_flight.collect();
        io::Error::other(format!("deadlock at {} ns; in flight:{in_flight}", self.now))
    }

    fn hand_over(&mut self, waited: bool, completions: &mut Vec<Completion>) {
        let there = self.ready.len();
        let mut count = if self.held_back { 0 } else { there };
        if count > 0 && self.random.chance(self.behaviour.holds) {
            count = self.random.below(there as u64) as usize;
            count = count.max(usize::from(waited));
        }
        completions.extend(self.ready.drain(..count));
    }
}

/// The inode of an open descriptor.
fn inode(number: RawFd) -> Option<u64> {
    // SAFETY: all of stat's fields are integers, for which zeroes are valid.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: any number may be asked about, and `status` is there to be written to.
    let result = unsafe { libc::fstat(number, &raw mut status) };
    (result == 0).then_some(status.st_ino)
}

/// The driver over a [`World`].
pub(crate) struct SimulatedDriver {
    world: World,
    rung: Arc<Bell>,
}

#[derive(Default)]
struct Bell(AtomicBool);

impl Doorbell for Bell {
    fn ring(&self) -> io::Result<()> {
        self.0.store(true, Ordering::Release);
        Ok(())
    }
}

impl Driver for SimulatedDriver {
    fn start(&mut self, token: Token, fd: BorrowedFd<'_>, operation: Operation) {
        let simulation = &mut *self.world.0.borrow_mut();
        if !token.kind().is_some_and(|kind| flight::fits(kind, &operation)) {
            simulation.violation(format!("{token:?} was used for {operation:?}"));
        }
        let Some(socket) = simulation.lookup(fd) else {
            simulation.violation(format!("{operation:?} was started on a closed descriptor"));
            return;
        };
        simulation.serial += 1;
        let serial = simulation.serial;
        let flight = Flight::new(serial, socket, operation);
        if simulation.flights.insert(token.0, flight).is_some() {
            simulation.violation(format!("{token:?} was used again while it was in flight"));
        }
        simulation.schedule_attempt(token, serial);
    }

    fn cancel(&mut self, token: Token) {
        let simulation = &mut *self.world.0.borrow_mut();
        let now = simulation.now;
        simulation.schedule(now, Event::Cancel { token });
    }

    fn close(&mut self, fd: OwnedFd) {
        let simulation = &mut *self.world.0.borrow_mut();
        let now = simulation.now;
        simulation.schedule(now, Event::Close { fd });
    }

    fn ring(&mut self, token: Token, doorbell: &dyn Doorbell) -> io::Result<()> {
        let simulation = &mut *self.world.0.borrow_mut();
        if !simulation.random.chance(simulation.behaviour.ring_fails) {
            return doorbell.ring();
        }
        let result = -simulation.random.pick(&[libc::ENOMEM, libc::EOVERFLOW, libc::EBADFD]);
        simulation.ready.push_back(Completion { token, result, buffer: None, more: false });
        Ok(())
    }

    fn doorbell(&self) -> Arc<dyn Doorbell> {
        Arc::<Bell>::clone(&self.rung)
    }

    fn turn(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        let simulation = &mut *self.world.0.borrow_mut();
        simulation.turns += 1;
        if simulation.turns > TURNS {
            return Err(io::Error::other(format!("no end after {TURNS} turns")));
        }
        simulation.notice_closed();
        simulation.lend();
        simulation.now += simulation.behaviour.turn;
        simulation.catch_up();
        if self.rung.0.swap(false, Ordering::AcqRel) {
            let token = Token::DOORBELL;
            simulation.ready.push_back(Completion { token, result: 0, buffer: None, more: false });
        }
        let early = wait != Wait::No && simulation.random.chance(simulation.behaviour.wakes_early);
        let wait = if early { Wait::No } else { wait };
        simulation.wait(wait)?;
        simulation.hand_over(wait != Wait::No, completions);
        Ok(())
    }

    fn now(&self) -> Nanoseconds {
        self.world.0.borrow().now
    }

    fn limits_receives(&self) -> bool {
        self.world.0.borrow().behaviour.limits_receives
    }

    fn socket(
        &mut self,
        _destination: SocketAddr,
        _options: &UpstreamOptions,
    ) -> Result<OwnedFd, DialError> {
        Ok(self.world.0.borrow_mut().socket().1)
    }

    fn shutdown_write(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let simulation = &mut *self.world.0.borrow_mut();
        let id = simulation.known(fd)?;
        let ended = simulation.network.end(id);
        simulation.wake_changed();
        ended.map_err(io::Error::from_raw_os_error)
    }

    fn reset_on_close(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let simulation = &mut *self.world.0.borrow_mut();
        let id = simulation.known(fd)?;
        simulation.network.sockets[id].resets_on_close = true;
        Ok(())
    }

    fn local_address(&self, fd: BorrowedFd<'_>) -> io::Result<socket2::SockAddr> {
        let simulation = &mut *self.world.0.borrow_mut();
        let id = simulation.known(fd)?;
        let address = simulation.network.sockets[id].local;
        Ok(address.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0))).into())
    }

    fn peer_address(&self, fd: BorrowedFd<'_>) -> io::Result<socket2::SockAddr> {
        let simulation = &mut *self.world.0.borrow_mut();
        let id = simulation.known(fd)?;
        let address = match simulation.network.was_reset(id) {
            true => None,
            false => simulation.network.sockets[id].remote,
        };
        Ok(address.ok_or(io::Error::from_raw_os_error(libc::ENOTCONN))?.into())
    }
}

impl Simulation {
    fn known(&mut self, fd: BorrowedFd<'_>) -> io::Result<SocketId> {
        self.lookup(fd).ok_or_else(|| {
            self.violation(format!("a call on descriptor {}, which is closed", fd.as_raw_fd()));
            io::Error::from_raw_os_error(libc::EBADF)
        })
    }
}

impl Drop for SimulatedDriver {
    fn drop(&mut self) {
        let simulation = &mut *self.world.0.borrow_mut();
        simulation.catch_up();
        if !simulation.flights.is_empty() {
            let tokens: Vec<_> = simulation.flights.keys().map(|token| Token(*token)).collect();
            simulation.violation(format!("the driver ended with {tokens:?} in flight"));
        }
        let lost = |completion: &&Completion| completion.token.kind() != Some(Kind::Cancel);
        let lost: Vec<_> = simulation.ready.iter().filter(lost).collect();
        if !lost.is_empty() {
            let text = format!("the driver ended with {lost:?} not taken");
            simulation.violation(text);
        }
        for (pool, lent) in simulation.pools.iter().zip(&mut simulation.lent) {
            lent.drain(..).for_each(|(id, _)| pool.take_back(id));
        }
    }
}
