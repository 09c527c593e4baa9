//! The doorbells that this thread rings, until they have rung.
//!
//! In: doorbells of other threads; failures to ring them. Out: the token under which the driver
//! reports a failure; another attempt, by the doorbell's own system call, at once and then before each
//! turn. It owns a share of each doorbell, so that the descriptor that a message names stays
//! that ring's until the message is sent. It never waits, but it bounds how long the driver may.
//!
//! A shard whose bell did not ring sleeps beside a queue with connections in it: whoever rings
//! succeeds, or goes on trying.

use std::{io, sync::Arc, time::Duration};

use super::driver::{Doorbell, Key, Kind, Nanoseconds, Token, Wait};
use crate::telemetry::LogLimit;

/// How long the thread sleeps at most while a doorbell has yet to ring.
const RETRY: Nanoseconds = 1_000_000;

pub(super) struct Doorbells {
    known: Vec<Known>,
    /// Indices of those that have yet to ring.
    silent: Vec<usize>,
    turns: u64,
    log: LogLimit,
}

struct Known {
    doorbell: Arc<dyn Doorbell>,
    /// The turn with which its last message is sent.
    rung: u64,
}

impl Doorbells {
    pub(super) fn new() -> Doorbells {
        Doorbells {
            known: Vec::new(),
            silent: Vec::new(),
            turns: 0,
            log: LogLimit::new(Duration::from_secs(10), 1),
        }
    }

    /// The token under which a doorbell is rung with the coming turn.
    pub(super) fn token(&mut self, doorbell: &Arc<dyn Doorbell>) -> Token {
        let known = |known: &Known| Arc::ptr_eq(&known.doorbell, doorbell);
        let index = match self.known.iter().position(known) {
            Some(index) => index,
            None => self.insert(doorbell),
        };
        self.known[index].rung = self.turns;
        Token::new(Key { index: index as u32, generation: 0 }, Kind::Ring)
    }

    fn insert(&mut self, doorbell: &Arc<dyn Doorbell>) -> usize {
        let entry = Known { doorbell: Arc::clone(doorbell), rung: self.turns };
        // In the place of one that nobody sleeps behind any more, and whose messages are sent.
        let is_left =
            |known: &Known| Arc::strong_count(&known.doorbell) == 1 && known.rung < self.turns;
        match self.known.iter().position(is_left) {
            Some(index) => {
                self.silent.retain(|silent| *silent != index);
                self.known[index] = entry;
                index
            }
            None => {
                self.known.push(entry);
                self.known.len() - 1
            }
        }
    }

    /// A doorbell did not ring by the driver: rings it otherwise.
    pub(super) fn failed(&mut self, token: Token) {
        let index = token.key().index as usize;
        if !self.silent.contains(&index) && self.ring(index).is_err() {
            self.silent.push(index);
        }
    }

    /// Before a turn that is to wait as `wait` says: how long it may.
    pub(super) fn before_turn(&mut self, wait: Wait, now: impl FnOnce() -> Nanoseconds) -> Wait {
        self.turns += 1;
        if self.silent.is_empty() {
            return wait;
        }
        for index in std::mem::take(&mut self.silent) {
            if let Err(error) = self.ring(index) {
                self.silent.push(index);
                if self.log.allow(std::time::Instant::now()) {
                    let suppressed = self.log.take_suppressed();
                    tracing::warn!(suppressed, "a sleeping shard cannot be woken yet: {error}");
                }
            }
        }
        match wait {
            _ if self.silent.is_empty() => wait,
            Wait::No => Wait::No,
            Wait::Until(deadline) => Wait::Until(deadline.min(now() + RETRY)),
            Wait::Forever => Wait::Until(now() + RETRY),
        }
    }

    fn ring(&self, index: usize) -> io::Result<()> {
        self.known.get(index).map_or(Ok(()), |known| known.doorbell.ring())
    }
}
