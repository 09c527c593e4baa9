//! What of a running proxy several threads look at: its handle, and the admin server's.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use super::sockets::{Bound, Opened, Sockets};
use crate::{
    accept::Command,
    listener::table::ListenerId,
    ring::DriverInUse,
    shard::{self, Mailbox, Shared},
    sync::{Mutex, lock},
    sys::closing::{HANDSHAKE_GRACE, accept_queue, stop_new_handshakes},
    telemetry::{Sink, catalog},
};

/// How long a shard or acceptor may take to answer before it counts as stuck.
const ANSWER: Duration = Duration::from_secs(1);

/// What of the description concerns listeners that come later.
pub(super) struct Settings {
    /// Sockets of a listener: one for each thread that accepts.
    pub(super) per_listener: usize,
    /// The shards accept, and the kernel chooses among them.
    pub(super) kernel: bool,
    /// The shards are guests.
    pub(super) guests: bool,
}

pub(super) struct Running {
    pub(super) shared: Arc<Shared>,
    pub(super) shards: Arc<[Arc<shard::Remote>]>,
    pub(super) acceptors: Vec<Arc<Mailbox<Command>>>,
    pub(super) cpus: Vec<Option<usize>>,
    pub(super) settings: Settings,
    /// Set once all threads have agreed on it.
    pub(super) driver: OnceLock<DriverInUse>,
    pub(super) sockets: Mutex<Sockets>,
    pub(super) draining: AtomicBool,
}

impl Running {
    pub(super) fn new(
        shared: Arc<Shared>,
        shards: Arc<[Arc<shard::Remote>]>,
        acceptors: Vec<Arc<Mailbox<Command>>>,
        cpus: Vec<Option<usize>>,
        settings: Settings,
        sockets: Sockets,
    ) -> Running {
        Running {
            shared,
            shards,
            acceptors,
            cpus,
            settings,
            driver: OnceLock::new(),
            sockets: Mutex::new(sockets),
            draining: AtomicBool::new(false),
        }
    }

    /// What all threads run on. It is set before anybody can ask.
    pub(super) fn driver(&self) -> &DriverInUse {
        self.driver.get().expect("a proxy that was started has a driver")
    }

    /// Whether every shard and acceptor is there and turns.
    pub(super) fn ready(&self) -> Result<(), String> {
        if self.draining.load(Relaxed) {
            return Err("draining".to_owned());
        }
        for shard in self.shards.iter() {
            let load = self.shared.loads.read(shard.index);
            if !load.is_some_and(|load| load.available) {
                return Err(format!("shard {} has died", shard.index));
            }
        }
        self.all_answer()
    }

    fn all_answer(&self) -> Result<(), String> {
        let (from_shards, shards) = mpsc::channel();
        let (from_acceptors, acceptors) = mpsc::channel();
        for shard in self.shards.iter() {
            let _ = shard.control.send(Command::Answer(from_shards.clone()));
        }
        for (index, acceptor) in self.acceptors.iter().enumerate() {
            if acceptor.send(Command::Answer(from_acceptors.clone())).is_err() {
                return Err(format!("acceptor {index} has died"));
            }
        }
        drop((from_shards, from_acceptors));
        let deadline = Instant::now() + ANSWER;
        missing(&shards, self.shards.len(), deadline)
            .map_or(Ok(()), |shard| Err(format!("shard {shard} does not answer")))?;
        missing(&acceptors, self.acceptors.len(), deadline)
            .map_or(Ok(()), |acceptor| Err(format!("acceptor {acceptor} does not answer")))
    }

    /// Tells the threads that accept to begin.
    pub(super) fn open(&self, opened: Opened) {
        for (thread, entrance) in opened {
            if self.settings.kernel {
                let _ = self.shards[thread].control.send(Command::Accept(entrance));
            } else {
                let _ = self.acceptors[thread].send(Command::Accept(entrance));
            }
        }
    }

    /// Stops accepting for all listeners, without resetting a connection that the kernel has queued
    /// or is just completing, and closes their sockets.
    pub(super) fn close_listeners(&self) {
        let listeners = std::mem::take(&mut lock(&self.sockets).listeners);
        stop_handshakes(&listeners);
        let ids: Vec<ListenerId> = listeners.iter().map(|bound| bound.id).collect();
        self.stop_accepting(&ids);
        drop(listeners);
    }

    /// Waits until no thread accepts for these any more and what was queued is handed over.
    pub(super) fn stop_accepting(&self, listeners: &[ListenerId]) {
        let (done, all_done) = mpsc::channel();
        for &listener in listeners {
            if self.settings.kernel {
                for shard in self.shards.iter() {
                    let command = Command::StopAccepting(listener, done.clone());
                    let _ = shard.control.send(command);
                }
            }
            for acceptor in &self.acceptors {
                let _ = acceptor.send(Command::StopAccepting(listener, done.clone()));
            }
        }
        drop(done);
        let deadline = Instant::now() + ANSWER;
        // Ends when the last sender is gone: each command was carried out, or dropped with its
        // thread.
        while all_done.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok() {}
    }

    /// Ends all threads, cutting what is still open.
    pub(super) fn stop(&self) {
        for acceptor in &self.acceptors {
            let _ = acceptor.send(Command::Stop);
        }
        for shard in self.shards.iter() {
            let _ = shard.control.send(Command::Stop);
        }
    }

    /// Tells the metrics what lives outside their cells.
    pub(super) fn add_sources(self: &Arc<Running>) {
        let running = Arc::downgrade(self);
        self.shared.registry.add_source(move |sink: &mut dyn Sink| {
            if let Some(running) = Weak::upgrade(&running) {
                running.collect(sink);
            }
        });
        self.shared.registry.add_source(crate::telemetry::Process::new());
    }

    fn collect(&self, sink: &mut dyn Sink) {
        if let Some(driver) = self.driver.get() {
            let labels = [("driver", driver.name()), ("reason", driver.reason())];
            sink.gauge(&catalog::DRIVER_INFO, &labels, 1.0);
        }
        let mut loads = Vec::new();
        self.shared.loads.snapshot(&mut loads);
        for load in loads {
            let shard = load.shard.to_string();
            let labels = [("shard", shard.as_str())];
            let connections = f64::from(load.connections);
            sink.gauge(&catalog::SHARD_CONNECTIONS_ACTIVE, &labels, connections);
            let busy = f64::from(load.busy_permille) / 1000.0;
            sink.gauge(&catalog::SHARD_BUSY_RATIO, &labels, busy);
        }
        for bound in &lock(&self.sockets).listeners {
            let queued: u32 = bound
                .sockets
                .iter()
                .filter_map(|socket| accept_queue(socket).ok())
                .map(|queue| queue.length)
                .sum();
            let labels = [("listener", bound.name.as_str())];
            sink.gauge(&catalog::ACCEPT_QUEUE_LENGTH, &labels, f64::from(queued));
        }
    }
}

/// Lets handshakes that have begun complete, and no others begin.
pub(super) fn stop_handshakes(listeners: &[Bound]) {
    let mut stopped = false;
    for socket in listeners.iter().flat_map(Bound::own_tcp_sockets) {
        match stop_new_handshakes(socket) {
            Ok(_) => stopped = true,
            Err(error) => tracing::warn!("cannot stop new handshakes before closing: {error}"),
        }
    }
    if stopped {
        thread::sleep(HANDSHAKE_GRACE);
    }
}

/// The first of `0..count` that does not answer by the deadline.
fn missing(answers: &mpsc::Receiver<usize>, count: usize, deadline: Instant) -> Option<usize> {
    let mut answered = vec![false; count];
    while !answered.iter().all(|answered| *answered) {
        match answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(index) => answered[index] = true,
            Err(_) => break,
        }
    }
    answered.iter().position(|answered| !answered)
}
