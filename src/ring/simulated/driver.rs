//! The seam's side: what the slots ask of a driver, passed on to the simulated kernel.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use io_uring::squeue::Entry;

use super::{
    Simulation, World,
    elsewhere::Bell,
    flight::{self, Flight},
    kernel::Event,
    network::SocketId,
};
use crate::{
    ring::driver::{Completion, Doorbell, Driver, Kind, Nanoseconds, Operation, Token, Wait},
    sys::{
        delivery::Delivery,
        dial::{DialError, UpstreamOptions},
    },
};

/// More turns than any simulation needs that gets anywhere.
const TURNS: u64 = 2_000_000;

/// The driver over a [`World`].
pub(crate) struct SimulatedDriver {
    world: World,
}

impl SimulatedDriver {
    pub(super) fn new(world: World) -> SimulatedDriver {
        SimulatedDriver { world }
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
        let at_once = operation.at_once().is_some();
        let flight = Flight::new(serial, socket, operation);
        if simulation.flights.insert(token.0, flight).is_some() {
            simulation.violation(format!("{token:?} was used again while it was in flight"));
        }
        if at_once {
            simulation.at_once.push((token, serial));
        } else {
            simulation.schedule_attempt(token, serial);
        }
    }

    fn await_sends(&mut self) {
        self.world.0.borrow_mut().sends_awaited = true;
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
        Arc::<Bell>::clone(&self.world.0.borrow().bell)
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
        simulation.hear();
        let due = simulation.send_at_once(completions);
        simulation.catch_up();
        let early = wait != Wait::No && simulation.random.chance(simulation.behaviour.wakes_early);
        let wait = if early || due { Wait::No } else { wait };
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

    fn start_custom(&mut self, token: Token, entry: Entry) -> Result<(), Entry> {
        self.world.0.borrow_mut().start_custom(token, entry)
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

    fn delivery(&self, fd: BorrowedFd<'_>) -> io::Result<Delivery> {
        let simulation = &mut *self.world.0.borrow_mut();
        let id = simulation.known(fd)?;
        let (acknowledged, outstanding) = simulation.network.acknowledged(id);
        Ok(Delivery { mark: acknowledged, outstanding: outstanding > 0 })
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
        if !simulation.customs.is_empty() {
            simulation.violation("the driver ended with custom operations in flight".to_owned());
        }
        let lost = |completion: &&Completion| {
            !matches!(completion.token.kind(), Some(Kind::Cancel | Kind::Doorbell))
        };
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
