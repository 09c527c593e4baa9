//! What a thread that accepts, acceptor or shard, is told by others, and how it obeys.

use std::{collections::VecDeque, sync::mpsc};

use super::entrance::{Entrance, Entrances, Place};
use crate::{listener::table::ListenerId, shard::Mailbox};

/// What a thread that accepts is told.
pub(crate) enum Command {
    /// Answer with your index, to show that the loop turns.
    Answer(mpsc::Sender<usize>),
    /// Accept on a socket that no other thread has.
    Accept(Entrance),
    /// Stop accepting for a listener, and say so.
    StopAccepting(ListenerId, mpsc::Sender<()>),
    /// Run this there.
    Run(Box<dyn FnOnce() + Send>),
    /// The proxy drains.
    Drain,
    /// End.
    Stop,
    /// Panic, as a test's way to kill.
    Die,
}

impl<P: Place> Entrances<P> {
    /// Does what the acceptor or shard `index` is told, until it is told to stop.
    pub(crate) async fn obey(&self, index: usize, commands: &Mailbox<Command>) {
        let mut received = VecDeque::new();
        loop {
            commands.receive(&mut received).await;
            for command in received.drain(..) {
                match command {
                    Command::Answer(to) => drop(to.send(index)),
                    Command::Accept(entrance) => self.open(entrance),
                    Command::StopAccepting(listener, done) => {
                        self.close(listener).await;
                        let _ = done.send(());
                    }
                    Command::Run(task) => task(),
                    Command::Drain => self.drain(),
                    Command::Stop => return,
                    Command::Die => panic!("told to die"),
                }
            }
        }
    }
}
