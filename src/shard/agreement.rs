//! All threads of a proxy run on the same driver.
//!
//! In: the driver that is to be, and each thread's word on whether it could make it. Out: an executor
//! for each thread, all of one kind, or the error that keeps the proxy from starting. A ring that
//! some threads can make and others cannot, for want of locked memory, makes all of them use epoll
//! where that is allowed. Nobody serves before all have agreed.

use std::{
    rc::Rc,
    sync::mpsc::{self, Receiver, Sender},
};

use crate::{
    error::Error,
    ring::{
        Capabilities, Driver, DriverInUse, EpollDriver, Pool, Reactor, Restrictions, RingDriver,
        RingRefused, Selected,
    },
    runtime::Executor,
};

/// Receive buffers of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Buffers {
    pub(crate) small: u16,
    pub(crate) small_size: u32,
    pub(crate) large: u16,
    pub(crate) large_size: u32,
}

impl Default for Buffers {
    /// 4 MiB of small buffers, 8 MiB of large ones; only those that were used are resident.
    fn default() -> Buffers {
        Buffers { small: 1024, small_size: 4 << 10, large: 8, large_size: 1 << 20 }
    }
}

/// How the drivers of a proxy are made.
#[derive(Clone)]
pub(crate) struct DriverSettings {
    pub(crate) driver: Driver,
    /// What rings use at most.
    pub(crate) mask: Capabilities,
    pub(crate) restrictions: Restrictions,
    pub(crate) buffers: Buffers,
}

impl DriverSettings {
    /// Makes the executor of the calling thread. `receives` says whether it needs buffers.
    fn executor(&self, selected: Selected, receives: bool) -> Result<Rc<Executor>, Error> {
        let Buffers { small, small_size, large, large_size } = self.buffers;
        let mut pools = Vec::new();
        if receives {
            let failed = "mapping receive buffers";
            pools.push(Pool::new(small, small_size).map_err(Error::system(failed))?);
            pools.push(Pool::new(large, large_size).map_err(Error::system(failed))?);
        }
        let reactor = match selected {
            Selected::IoUring(capabilities) => {
                let driver = RingDriver::new(capabilities, &self.restrictions, &pools)?;
                Reactor::new(Box::new(driver), pools)
            }
            Selected::Epoll => {
                let failed = "making an epoll instance and its eventfd";
                let driver = EpollDriver::new(&pools).map_err(Error::system(failed))?;
                Reactor::new(Box::new(driver), pools)
            }
        };
        Ok(Executor::new(reactor))
    }
}

enum Word {
    Make(Selected),
    Begin,
}

/// The side of who starts the threads.
pub(crate) struct Agreement {
    settings: DriverSettings,
    seats: Vec<Sender<Word>>,
    made: Receiver<Result<(), Error>>,
    to_make: Sender<Result<(), Error>>,
}

/// A thread's side.
pub(crate) struct Seat {
    settings: DriverSettings,
    word: Receiver<Word>,
    made: Sender<Result<(), Error>>,
}

impl Agreement {
    pub(crate) fn new(settings: DriverSettings) -> Agreement {
        let (to_make, made) = mpsc::channel();
        Agreement { settings, seats: Vec::new(), made, to_make }
    }

    /// The place of one more thread.
    pub(crate) fn seat(&mut self) -> Seat {
        let (sender, word) = mpsc::channel();
        self.seats.push(sender);
        Seat { settings: self.settings.clone(), word, made: self.to_make.clone() }
    }

    /// Lets all threads make their drivers, and begin.
    ///
    /// # Errors
    /// A driver could not be made, nor another one in its place. The threads end.
    pub(crate) fn conclude(self) -> Result<DriverInUse, Error> {
        let Agreement { settings, seats, made, to_make } = self;
        // From here on the threads alone can say something.
        drop(to_make);
        let driver = settings.driver;
        let propose = |selected| make(&seats, &made, selected);
        let selected = driver.select(settings.mask).map_err(Error::Ring);
        let refused = match selected.and_then(propose) {
            Ok(()) => None,
            Err(Error::Ring(refused)) if driver == Driver::Auto => {
                propose(Selected::Epoll)?;
                Some(refused)
            }
            Err(error) => return Err(error),
        };
        for seat in &seats {
            let _ = seat.send(Word::Begin);
        }
        // Each thread leaves its seat when it is ready to serve.
        while made.recv().is_ok() {}
        let in_use = DriverInUse::new(driver, refused);
        tell(&in_use);
        Ok(in_use)
    }
}

/// Lets each thread make its driver, and waits for all.
fn make(
    seats: &[Sender<Word>],
    made: &Receiver<Result<(), Error>>,
    selected: Selected,
) -> Result<(), Error> {
    for seat in seats {
        seat.send(Word::Make(selected)).map_err(|_| died())?;
    }
    let mut result = Ok(());
    for _ in seats {
        if let Err(error) = made.recv().map_err(|_| died())? {
            // One that another driver may help with is told before others.
            let helped = matches!(result, Err(Error::Ring(_)));
            result = if helped { result } else { Err(error) };
        }
    }
    result
}

impl Seat {
    /// Makes the executor of this thread on which all agree; `None`: the proxy does not start. What
    /// started the thread waits until the seat is dropped.
    pub(crate) fn executor(&self, receives: bool) -> Option<Rc<Executor>> {
        let mut executor = None;
        loop {
            match self.word.recv().ok()? {
                Word::Begin => return executor,
                Word::Make(selected) => {
                    // The ring of before goes first, with the memory that it locks.
                    drop(executor.take());
                    let made = self.settings.executor(selected, receives);
                    self.made.send(made.map(|made| executor = Some(made))).ok()?;
                }
            }
        }
    }
}

fn died() -> Error {
    Error::Invalid("a thread of the proxy ended while it started".to_owned())
}

/// Once for a proxy that has to do without the ring that it would have used.
fn tell(in_use: &DriverInUse) {
    if let Some(refused) = in_use.refused() {
        tracing::warn!(
            reason = RingRefused::cause(refused),
            "the proxy runs on epoll, with more CPU time a request, because io_uring is not to be \
             had: {refused}"
        );
    }
}
