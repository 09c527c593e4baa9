//! The policies over shards of both kinds, by how they take connections: ours all that wait at a time,
//! guests one by one, each when it likes.

use super::*;
use crate::shard::{Mailbox, inbox::Refused};
use std::{
    collections::BTreeSet,
    task::{Context, Poll, Waker},
};

/// A connection: its number, and what counts it.
type Item = (u32, LoadGuard);

const INBOX: usize = 4;

struct TestShard {
    is_guest: bool,
    mailbox: Mailbox<Item>,
    carried: Vec<Item>,
}

struct Stage {
    loads: Loads,
    balancer: Balancer,
    shards: Vec<TestShard>,
    opened: u32,
    /// No inbox had room.
    waiting: Vec<u32>,
    /// No shard was there.
    refused: Vec<u32>,
    closed: Vec<u32>,
}

impl Stage {
    fn new(guests: &[bool], balance: &Balance) -> Stage {
        let loads = Loads::new(guests.len());
        let shard = |&is_guest: &bool| TestShard {
            is_guest,
            mailbox: Mailbox::new(INBOX),
            carried: Vec::new(),
        };
        Stage {
            balancer: Balancer::new(loads.clone(), balance.policy().unwrap()),
            loads,
            shards: guests.iter().map(shard).collect(),
            opened: 0,
            waiting: Vec::new(),
            refused: Vec::new(),
            closed: Vec::new(),
        }
    }

    fn open(&mut self) {
        self.opened += 1;
        self.deal(self.opened, Vec::new());
    }

    /// Places a connection on a shard that has room, none of `excluded`.
    fn deal(&mut self, connection: u32, mut excluded: Vec<usize>) {
        loop {
            let guard = match self.balancer.assign_excluding(&excluded) {
                Ok(guard) => guard,
                Err(NoShard::Excluded) => return self.waiting.push(connection),
                Err(_) => return self.refused.push(connection),
            };
            let shard = guard.shard();
            match self.shards[shard].mailbox.send((connection, guard)) {
                Ok(()) => return,
                Err(Refused { item, .. }) => drop(item),
            }
            excluded.push(shard);
        }
    }

    fn take(&mut self, shard: usize) {
        let TestShard { is_guest, mailbox, carried } = &mut self.shards[shard];
        let cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(item) = mailbox.poll_pop(&cx) {
            carried.push(item);
            if *is_guest {
                break;
            }
        }
    }

    fn close(&mut self, which: usize) {
        let mut open: Vec<_> = self.shards.iter_mut().map(|shard| &mut shard.carried).collect();
        open.retain(|carried| !carried.is_empty());
        if open.is_empty() {
            return;
        }
        let shard = which % open.len();
        let connection = which % open[shard].len();
        let (connection, guard) = open[shard].swap_remove(connection);
        drop(guard);
        self.closed.push(connection);
    }

    fn leave(&mut self, shard: usize) {
        self.loads.set_available(shard, false);
        for (connection, guard) in self.shards[shard].mailbox.close() {
            drop(guard);
            self.deal(connection, vec![shard]);
        }
    }

    /// What shards carry and what waits for them is what their loads say, and every connection is in
    /// one place.
    fn check(&self) -> Result<(), TestCaseError> {
        let carried = |shard: &TestShard| shard.carried.len() + shard.mailbox.len();
        let expected: Vec<u32> = self.shards.iter().map(|shard| carried(shard) as u32).collect();
        prop_assert_eq!(connections(&self.loads), expected);
        let elsewhere = self.waiting.len() + self.refused.len() + self.closed.len();
        prop_assert_eq!(self.loads.total() as usize + elsewhere, self.opened as usize);
        let carried = self.shards.iter().flat_map(|shard| &shard.carried);
        let mut seen = BTreeSet::new();
        for connection in carried
            .map(|(connection, _)| connection)
            .chain(&self.waiting)
            .chain(&self.refused)
            .chain(&self.closed)
        {
            prop_assert!(seen.insert(*connection), "{} is in two places", connection);
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Open,
    Take(usize),
    Close(usize),
    Leave(usize),
}

fn any_balance() -> impl Strategy<Value = Balance> {
    prop_oneof![
        Just(Balance::LeastConnections),
        Just(Balance::LeastBusy),
        Just(Balance::RoundRobin)
    ]
}

proptest! {
    #[test]
    fn no_connection_is_lost_and_no_load_leaks(
        guests in vec(any::<bool>(), 1..8),
        balance in any_balance(),
        steps in vec(
            prop_oneof![
                8 => Just(Step::Open),
                6 => any::<usize>().prop_map(Step::Take),
                3 => any::<usize>().prop_map(Step::Close),
                1 => any::<usize>().prop_map(Step::Leave),
            ],
            1..300,
        ),
    ) {
        let mut stage = Stage::new(&guests, &balance);
        for step in steps {
            match step {
                Step::Open => stage.open(),
                Step::Take(shard) => stage.take(shard % guests.len()),
                Step::Close(which) => stage.close(which),
                Step::Leave(shard) => stage.leave(shard % guests.len()),
            }
            stage.check()?;
        }
        let loads = stage.loads.clone();
        drop(stage);
        prop_assert_eq!(loads.total(), 0);
    }

    #[test]
    fn where_all_take_in_time_the_spread_is_one(
        guests in vec(any::<bool>(), 1..8),
        takes in vec(any::<usize>(), 1..200),
    ) {
        let mut stage = Stage::new(&guests, &Balance::LeastConnections);
        for take in takes {
            stage.open();
            prop_assert!(spread(&stage.loads) <= 1, "{:?}", stage.loads);
            stage.take(take % guests.len());
            // None is let become full.
            for shard in 0..guests.len() {
                while stage.shards[shard].mailbox.len() == INBOX {
                    stage.take(shard);
                }
            }
        }
        prop_assert!(stage.waiting.is_empty() && stage.refused.is_empty());
    }
}
