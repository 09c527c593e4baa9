//! The simulated kernel: time, and what happens when it comes.
//!
//! Flows in: events, each with its time. Flows out: completions, in the order in which they came
//! about. It owns the clock, the events to come and the operations in flight.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    ptr::NonNull,
    rc::Rc,
    sync::Arc,
};

use super::{
    behaviour::{Behaviour, Random},
    custom::Custom,
    elsewhere::{self, Act, Bell},
    flight::Flight,
    network::{Network, SocketId},
};
use crate::ring::{
    buffers::Pool,
    driver::{Completion, Nanoseconds, Token, Wait},
};

/// What lent buffers are filled with.
pub(super) const POISON: u8 = 0xa5;

pub(super) enum Event {
    Attempt { token: Token, serial: u64 },
    Cancel { token: Token },
    Close { fd: OwnedFd },
    Reset { socket: SocketId },
    Custom { token: Token, serial: u64 },
    Elsewhere { act: Act },
    Doorbell,
}

pub(super) struct Simulation {
    pub(super) now: Nanoseconds,
    pub(super) random: Random,
    pub(super) behaviour: Behaviour,
    pub(super) network: Network,
    /// By the number of their descriptors.
    pub(super) descriptors: BTreeMap<RawFd, SocketId>,
    pub(super) flights: BTreeMap<u64, Flight>,
    pub(super) customs: BTreeMap<u64, Custom>,
    pub(super) bell: Arc<Bell>,
    /// Sends to be tried when the shard hands over, and not again.
    pub(super) at_once: Vec<(Token, u64)>,
    pub(super) sends_awaited: bool,
    /// By time, and in the order in which they were scheduled.
    pub(super) events: BTreeMap<(Nanoseconds, u64), Event>,
    pub(super) serial: u64,
    /// Completions that are there, and were not handed over yet.
    pub(super) ready: VecDeque<Completion>,
    pub(super) held_back: bool,
    pub(super) pools: Vec<Rc<Pool>>,
    pub(super) lent: Vec<VecDeque<(u16, NonNull<u8>)>>,
    pub(super) violations: Vec<String>,
    pub(super) turns: u64,
}

impl Simulation {
    pub(super) fn new(
        mut random: Random,
        behaviour: Behaviour,
        pools: Vec<Rc<Pool>>,
    ) -> Simulation {
        let lent = pools.iter().map(|_| VecDeque::new()).collect();
        Simulation {
            now: random.below(10_000_000_000),
            random,
            behaviour,
            network: Network::default(),
            descriptors: BTreeMap::new(),
            flights: BTreeMap::new(),
            customs: BTreeMap::new(),
            bell: elsewhere::bell(),
            at_once: Vec::new(),
            sends_awaited: false,
            events: BTreeMap::new(),
            serial: 0,
            ready: VecDeque::new(),
            held_back: false,
            pools,
            lent,
            violations: Vec::new(),
            turns: 0,
        }
    }

    pub(super) fn violation(&mut self, what: String) {
        self.violations.push(format!("at {} ns: {what}", self.now));
    }

    pub(super) fn schedule(&mut self, at: Nanoseconds, event: Event) {
        self.serial += 1;
        self.events.insert((at, self.serial), event);
    }

    pub(super) fn soon(&mut self) -> Nanoseconds {
        self.now + self.random.below(self.behaviour.latency + 1)
    }

    pub(super) fn schedule_attempt(&mut self, token: Token, serial: u64) {
        let Some(flight) = self.flights.get_mut(&token.0) else { return };
        if std::mem::replace(&mut flight.scheduled, true) {
            return;
        }
        let at = self.soon();
        self.schedule(at, Event::Attempt { token, serial });
    }

    pub(super) fn schedule_reset(&mut self, socket: SocketId) {
        let at = self.soon();
        self.schedule(at, Event::Reset { socket });
    }

    pub(super) fn happen(&mut self, event: Event) {
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
            Event::Custom { token, serial } => self.complete_custom(token, serial),
            Event::Elsewhere { act } => self.act(act),
            Event::Doorbell => self.doorbell_arrives(),
            Event::Cancel { token } if self.cancel_custom(token) => {}
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
    pub(super) fn catch_up(&mut self) {
        while let Some(next) = self.events.first_entry()
            && next.key().0 <= self.now
        {
            let event = next.remove();
            self.happen(event);
        }
    }

    /// Tries the sends that are to be tried at once. Those that sent everything are no reason not to
    /// wait, unless somebody waits for them. Says whether they are one.
    pub(super) fn send_at_once(&mut self, completions: &mut Vec<Completion>) -> bool {
        let awaited = std::mem::take(&mut self.sends_awaited);
        let before = completions.len();
        for (token, serial) in std::mem::take(&mut self.at_once) {
            let flight = self.flights.get(&token.0);
            let Some(length) = flight.and_then(|flight| flight.operation.at_once()) else {
                continue;
            };
            self.attempt(token, serial);
            let sent_all = |completion: &mut Completion| {
                completion.token == token && completion.result == length as i32
            };
            completions.extend(self.ready.pop_back_if(sent_all));
        }
        awaited && completions.len() > before
    }

    pub(super) fn lend(&mut self) {
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
    pub(super) fn wait(&mut self, wait: Wait) -> io::Result<()> {
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

    pub(super) fn deadlock(&self) -> io::Error {
        let in_flight = self.flights.iter().map(|(token, flight)| {
            let socket = &self.network.sockets[flight.socket];
            format!("\n  {:?} {:?} on {socket:?}", Token(*token).key(), flight.operation)
        });
        let in_flight: String = in_flight.collect();
        io::Error::other(format!("deadlock at {} ns; in flight:{in_flight}", self.now))
    }

    pub(super) fn hand_over(&mut self, waited: bool, completions: &mut Vec<Completion>) {
        let there = self.ready.len();
        let mut count = if self.held_back { 0 } else { there };
        if count > 0 && self.random.chance(self.behaviour.holds) {
            count = self.random.below(there as u64) as usize;
            count = count.max(usize::from(waited));
        }
        completions.extend(self.ready.drain(..count));
    }
}
