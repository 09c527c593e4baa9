//! A shard's side of its driver: starts and cancels operations for streams and listeners, takes in
//! completions, wakes who waits for them.
//!
//! Flows in: what streams and listeners ask for. Flows out: wake-ups, chunks, descriptors. It owns
//! the slots, the driver and the receive pools. It belongs to one thread. It never calls a future:
//! wakers are collected while a batch of completions is taken in, and woken after it.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::{
    buffers::{Chunk, Payload, Pool},
    doorbells::Doorbells,
    driver::{
        Completion, Doorbell, Driver, Key, Kind, Nanoseconds, Operation, Token, Wait, nanoseconds,
    },
    receive::Then,
    slots::{CustomSlot, Entry, ListenerSlot, Slot, Slots, StreamSlot},
};
use crate::sys::dial::{DialError, UpstreamOptions};

/// The pool of small receive buffers, for most traffic.
pub(crate) const SMALL: u16 = 0;
/// The pool of large receive buffers, for bulk.
pub(crate) const LARGE: u16 = 1;

pub(crate) struct Reactor {
    inner: RefCell<Inner>,
    pools: Vec<Rc<Pool>>,
    completions: Cell<Vec<Completion>>,
    wakes: Cell<Vec<Waker>>,
    now: Cell<Nanoseconds>,
    completed: Cell<u64>,
}

struct Inner {
    slots: Slots,
    driver: Box<dyn Driver>,
    doorbells: Doorbells,
    /// Slots whose receive found no small buffer, the one that waits longest first.
    starved: VecDeque<Key>,
    /// What operations of embedders owned: their code, to be dropped when nothing is borrowed.
    ended: Vec<Box<dyn std::any::Any>>,
}

/// A released or unknown key. The handles that hold keys release them when they are dropped, so
/// nobody can meet this but by a mistake in this crate.
fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl Reactor {
    pub(crate) fn new(driver: Box<dyn Driver>, pools: Vec<Rc<Pool>>) -> Reactor {
        let now = driver.now();
        Reactor {
            inner: RefCell::new(Inner {
                slots: Slots::new(),
                driver,
                doorbells: Doorbells::new(),
                starved: VecDeque::new(),
                ended: Vec::new(),
            }),
            pools,
            completions: Cell::default(),
            wakes: Cell::default(),
            now: Cell::new(now),
            completed: Cell::new(0),
        }
    }

    /// The time at which the last turn ended.
    pub(crate) fn now(&self) -> Nanoseconds {
        self.now.get()
    }

    /// The time that the driver's clock shows.
    pub(crate) fn clock(&self) -> Nanoseconds {
        self.inner.borrow().driver.now()
    }

    pub(crate) fn doorbell(&self) -> Arc<dyn Doorbell> {
        self.inner.borrow().driver.doorbell()
    }

    /// Rings another thread's doorbell with the next turn.
    pub(crate) fn ring(&self, doorbell: &Arc<dyn Doorbell>) {
        let inner = &mut *self.inner.borrow_mut();
        let token = inner.doorbells.token(doorbell);
        if inner.driver.ring(token, &**doorbell).is_err() {
            inner.doorbells.failed(token);
        }
    }

    /// Small receive buffers that hold nothing.
    pub(crate) fn free_buffers(&self) -> usize {
        self.pools.first().map_or(0, |pool| pool.available())
    }

    pub(crate) fn overflows(&self) -> u64 {
        self.inner.borrow().driver.overflows()
    }

    /// Completions taken in by all turns so far.
    pub(crate) fn completed(&self) -> u64 {
        self.completed.get()
    }

    /// Slots that own a descriptor or memory.
    pub(crate) fn occupied(&self) -> usize {
        self.inner.borrow().slots.occupied()
    }

    /// One turn: starts what was asked for, waits, takes in what completed, wakes who waited.
    pub(crate) fn turn(&self, wait: Wait) -> io::Result<()> {
        let mut completions = self.completions.take();
        let mut wakes = self.wakes.take();
        let (result, ended) = {
            let inner = &mut *self.inner.borrow_mut();
            // Before the driver sleeps: buffers may have come back since the last turn.
            inner.feed_starved(&self.pools);
            let wait = inner.doorbells.before_turn(wait, || inner.driver.now());
            let result = inner.driver.turn(wait, &mut completions);
            self.now.set(inner.driver.now());
            self.completed.set(self.completed.get() + completions.len() as u64);
            for completion in completions.drain(..) {
                inner.complete(completion, &self.pools, &mut wakes);
            }
            (result, std::mem::take(&mut inner.ended))
        };
        drop(ended);
        for waker in wakes.drain(..) {
            waker.wake();
        }
        self.completions.set(completions);
        self.wakes.set(wakes);
        result
    }

    /// Cancels everything, whoever holds it, and turns until nothing is in flight or `bound` has
    /// passed. Returns how many slots are left.
    pub(crate) fn wind_down(&self, bound: Duration) -> usize {
        for key in self.inner.borrow().slots.held() {
            self.release(key);
        }
        let deadline = self.clock().saturating_add(nanoseconds(bound));
        while self.occupied() > 0 && self.clock() < deadline {
            if self.turn(Wait::Until(deadline)).is_err() {
                break;
            }
        }
        // One more, for closes that were asked for last.
        let _ = self.turn(Wait::No);
        self.occupied()
    }

    // Streams.

    pub(crate) fn adopt_stream(&self, fd: OwnedFd, credit: u32) -> Key {
        let slot = Slot::Stream(StreamSlot::new(credit, false));
        self.inner.borrow_mut().slots.insert(Some(fd), slot)
    }

    /// Makes a socket and starts to connect it.
    pub(crate) fn connect(
        &self,
        destination: SocketAddr,
        options: &UpstreamOptions,
        credit: u32,
    ) -> Result<Key, DialError> {
        let inner = &mut *self.inner.borrow_mut();
        let fd = inner.driver.socket(destination, options)?;
        Ok(inner.start_connect(fd, destination.into(), credit))
    }

    pub(crate) fn poll_connected(&self, key: Key, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with_stream(key, |stream| match stream.connected {
            Some(0) => Poll::Ready(Ok(())),
            Some(error) => Poll::Ready(Err(io::Error::from_raw_os_error(-error))),
            None => {
                register(&mut stream.control_waker, cx);
                Poll::Pending
            }
        })
        .unwrap_or_else(|error| Poll::Ready(Err(error)))
    }

    pub(crate) fn poll_receive(
        &self,
        key: Key,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Chunk>>> {
        let inner = &mut *self.inner.borrow_mut();
        let Some((entry, driver)) = inner.entry(key) else { return Poll::Ready(Err(gone())) };
        let Slot::Stream(stream) = &mut entry.slot else { return Poll::Ready(Err(gone())) };
        let mut taken = stream.receive.take();
        if matches!(taken, Some(Ok(None))) {
            // A socket reports an error once (`sock_error` in Linux's `include/net/sock.h`). Where
            // a send took it, a receive gets the end of the stream, which was cut off in truth.
            if stream.send.is_in_doubt() {
                taken = None;
            } else if let Some(error) = stream.send.lost_connection() {
                taken = Some(Err(error));
            }
        }
        if taken.is_none() {
            register(&mut stream.receive.waker, cx);
        }
        arm_receive(entry, driver, key);
        taken.map_or(Poll::Pending, Poll::Ready)
    }

    /// Puts a chunk back, in front of what waits.
    pub(crate) fn unreceive(&self, key: Key, chunk: Chunk) {
        let _ = self.with_stream(key, |stream| stream.receive.put_back(chunk));
    }

    /// Receives into another pool from the next time that the receive is armed, which is now where
    /// the driver can be made to.
    pub(crate) fn use_pool(&self, key: Key, pool: u16, credit: u32) {
        let inner = &mut *self.inner.borrow_mut();
        let Some((entry, driver)) = inner.entry(key) else { return };
        let armed = entry.in_flight(Kind::Receive);
        let Slot::Stream(stream) = &mut entry.slot else { return };
        stream.receive.use_pool(pool, credit);
        if armed && !std::mem::replace(&mut stream.receive.cancelling, true) {
            driver.cancel(Token::new(key, Kind::Receive));
        }
    }

    /// Hands bytes over to be sent, in order, behind what was handed over before.
    pub(crate) fn send(&self, key: Key, payload: Payload) -> io::Result<()> {
        let inner = &mut *self.inner.borrow_mut();
        let Some((entry, driver)) = inner.entry(key) else { return Err(gone()) };
        let Slot::Stream(stream) = &mut entry.slot else { return Err(gone()) };
        stream.send.push(payload)?;
        start_send(entry, driver, key);
        Ok(())
    }

    /// Ready when fewer than `limit` bytes that were handed over, in few enough pieces, are not sent
    /// yet; with a limit of 1, when all are sent.
    pub(crate) fn poll_sent(
        &self,
        key: Key,
        limit: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.with_stream(key, |stream| match stream.send.queued() {
            Err(error) => Poll::Ready(Err(error)),
            Ok(0) => Poll::Ready(Ok(())),
            Ok(queued) if queued < limit && !stream.send.is_full() => Poll::Ready(Ok(())),
            Ok(_) => {
                register(&mut stream.send.waker, cx);
                Poll::Pending
            }
        })
        .unwrap_or_else(|error| Poll::Ready(Err(error)))
    }

    /// Ends the sending direction after what was handed over.
    pub(crate) fn finish(&self, key: Key) {
        let inner = &mut *self.inner.borrow_mut();
        let Some((entry, driver)) = inner.entry(key) else { return };
        if let Slot::Stream(stream) = &mut entry.slot {
            stream.send.finish();
        }
        finish_if_due(entry, driver);
    }

    /// Ready when the connection has failed. While a receive is armed it reports that; otherwise
    /// (after the end of the stream, or with its credit used up) a poll for errors does.
    pub(crate) fn poll_broken(&self, key: Key, cx: &mut Context<'_>) -> Poll<()> {
        let inner = &mut *self.inner.borrow_mut();
        let Some((entry, driver)) = inner.entry(key) else { return Poll::Ready(()) };
        let receiving = entry.in_flight(Kind::Receive);
        let Slot::Stream(stream) = &mut entry.slot else { return Poll::Ready(()) };
        if stream.receive.failed() || stream.send.failed() || stream.broken {
            return Poll::Ready(());
        }
        if receiving {
            register(&mut stream.receive.waker, cx);
            return Poll::Pending;
        }
        register(&mut stream.control_waker, cx);
        start_poll(entry, driver, key);
        Poll::Pending
    }

    pub(crate) fn reset_on_close(&self, key: Key) -> io::Result<()> {
        self.with_fd(key, |driver, fd| driver.reset_on_close(fd))
    }

    pub(crate) fn local_address(&self, key: Key) -> io::Result<socket2::SockAddr> {
        self.with_fd(key, |driver, fd| driver.local_address(fd))
    }

    pub(crate) fn peer_address(&self, key: Key) -> io::Result<socket2::SockAddr> {
        self.with_fd(key, |driver, fd| driver.peer_address(fd))
    }

    /// Calls with the descriptor of a slot, with nothing borrowed: `call` may be an embedder's.
    pub(crate) fn call_with_fd<T>(
        &self,
        key: Key,
        call: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        let fd = self.with_fd(key, |_, fd| Ok(fd.as_raw_fd()))?;
        // SAFETY: the slot keeps the descriptor open until it is released, which only the handle
        // that called this does, and it is borrowed for the call.
        call(unsafe { BorrowedFd::borrow_raw(fd) })
    }

    /// Calls the driver with the descriptor of a slot.
    pub(crate) fn with_fd<T>(
        &self,
        key: Key,
        call: impl FnOnce(&mut dyn Driver, BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        let inner = &mut *self.inner.borrow_mut();
        let (entry, driver) = inner.entry(key).ok_or_else(gone)?;
        call(driver, entry.fd().ok_or_else(gone)?)
    }

    fn with_stream<T>(&self, key: Key, call: impl FnOnce(&mut StreamSlot) -> T) -> io::Result<T> {
        let inner = &mut *self.inner.borrow_mut();
        match inner.slots.entry(key) {
            Some(Entry { slot: Slot::Stream(stream), .. }) => Ok(call(stream)),
            _ => Err(gone()),
        }
    }

    // Listeners.

    pub(crate) fn adopt_listener(&self, fd: OwnedFd) -> Key {
        self.inner.borrow_mut().slots.insert(Some(fd), Slot::Listener(ListenerSlot::default()))
    }

    /// The next accepted descriptor. An accept is armed by this, and stays armed.
    pub(crate) fn poll_accept(&self, key: Key, cx: &mut Context<'_>) -> Poll<io::Result<OwnedFd>> {
        let inner = &mut *self.inner.borrow_mut();
        let Some((entry, driver)) = inner.entry(key) else { return Poll::Ready(Err(gone())) };
        let armed = entry.in_flight(Kind::Accept);
        let Slot::Listener(listener) = &mut entry.slot else { return Poll::Ready(Err(gone())) };
        if let Some(accepted) = listener.accepted.pop_front() {
            if listener.accepted.is_empty() && listener.accepted.capacity() > 64 {
                listener.accepted = VecDeque::new();
            }
            return Poll::Ready(accepted);
        }
        register(&mut listener.waker, cx);
        if !armed {
            entry.started(Kind::Accept);
            let fd = entry.fd().expect("a listener has a descriptor");
            driver.start(Token::new(key, Kind::Accept), fd, Operation::Accept);
        }
        Poll::Pending
    }

    /// Stops accepting. Ready when no accept is in flight; what was accepted until then is still
    /// there to be taken.
    pub(crate) fn poll_stop_accepting(&self, key: Key, cx: &mut Context<'_>) -> Poll<()> {
        let inner = &mut *self.inner.borrow_mut();
        let Some((entry, driver)) = inner.entry(key) else { return Poll::Ready(()) };
        let armed = entry.in_flight(Kind::Accept);
        let Slot::Listener(listener) = &mut entry.slot else { return Poll::Ready(()) };
        if !armed {
            return Poll::Ready(());
        }
        register(&mut listener.waker, cx);
        driver.cancel(Token::new(key, Kind::Accept));
        Poll::Pending
    }

    /// An accepted descriptor that is there already.
    pub(crate) fn take_accepted(&self, key: Key) -> Option<io::Result<OwnedFd>> {
        let inner = &mut *self.inner.borrow_mut();
        match inner.slots.entry(key) {
            Some(Entry { slot: Slot::Listener(listener), .. }) => listener.accepted.pop_front(),
            _ => None,
        }
    }

    // Operations of an embedder's own.

    /// Starts `entry`, keeping `owned` until its completion.
    pub(crate) fn start_custom(
        &self,
        entry: io_uring::squeue::Entry,
        owned: Box<dyn std::any::Any>,
    ) -> io::Result<Key> {
        let inner = &mut *self.inner.borrow_mut();
        let slot = Slot::Custom(CustomSlot { result: None, owned, waker: None });
        let key = inner.slots.insert(None, slot);
        let (slot, driver) = inner.entry(key).ok_or_else(gone)?;
        match driver.start_custom(Token::new(key, Kind::Custom), entry) {
            Ok(()) => {
                slot.started(Kind::Custom);
                Ok(key)
            }
            Err(_) => {
                inner.release(key);
                Err(io::ErrorKind::Unsupported.into())
            }
        }
    }

    pub(crate) fn poll_custom(
        &self,
        key: Key,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(i32, Box<dyn std::any::Any>)>> {
        let inner = &mut *self.inner.borrow_mut();
        let Some((entry, _)) = inner.entry(key) else { return Poll::Ready(Err(gone())) };
        let Slot::Custom(custom) = &mut entry.slot else { return Poll::Ready(Err(gone())) };
        match custom.result.take() {
            Some(result) => {
                let owned = std::mem::replace(&mut custom.owned, Box::new(()));
                Poll::Ready(Ok((result, owned)))
            }
            None => {
                register(&mut custom.waker, cx);
                Poll::Pending
            }
        }
    }

    /// The handle of a slot is gone: cancels what is in flight, and closes the descriptor when the
    /// last of it has completed.
    pub(crate) fn release(&self, key: Key) {
        let ended = {
            let inner = &mut *self.inner.borrow_mut();
            inner.release(key);
            std::mem::take(&mut inner.ended)
        };
        drop(ended);
    }
}

impl Inner {
    fn entry(&mut self, key: Key) -> Option<(&mut Entry, &mut dyn Driver)> {
        Some((self.slots.entry(key)?, &mut *self.driver))
    }

    fn start_connect(&mut self, fd: OwnedFd, address: socket2::SockAddr, credit: u32) -> Key {
        let mut stream = StreamSlot::new(credit, true);
        let address: *const socket2::SockAddr =
            &raw const **stream.address.insert(Box::new(address));
        let key = self.slots.insert(Some(fd), Slot::Stream(stream));
        if let Some((entry, driver)) = self.entry(key) {
            entry.started(Kind::Connect);
            let fd = entry.fd().expect("it was just given");
            driver.start(Token::new(key, Kind::Connect), fd, Operation::Connect { address });
        }
        key
    }

    fn release(&mut self, key: Key) {
        // A peer that is not sent everything must not take what it got for the whole.
        if let Some((entry, driver)) = self.entry(key)
            && let Slot::Stream(stream) = &entry.slot
            && stream.send.queued().is_ok_and(|queued| queued > 0)
            && let Some(fd) = entry.fd()
        {
            let _ = driver.reset_on_close(fd);
        }
        for token in self.slots.release(key) {
            self.driver.cancel(token);
        }
        self.reclaim(key);
    }

    fn reclaim(&mut self, key: Key) {
        let Some((fd, slot)) = self.slots.reclaim(key) else { return };
        if let Some(fd) = fd {
            self.driver.close(fd);
        }
        if let Slot::Custom(custom) = slot {
            self.ended.push(custom.owned);
        }
    }

    /// Takes in one completion: the only place where an operation ends.
    fn complete(&mut self, completion: Completion, pools: &[Rc<Pool>], wakes: &mut Vec<Waker>) {
        let token = completion.token;
        let key = token.key();
        let kind = match token.kind() {
            // A doorbell ends the sleep; what it was rung for lies in a queue.
            Some(Kind::Doorbell | Kind::Cancel | Kind::Close) | None => return,
            Some(Kind::Ring) => return self.doorbells.failed(token),
            Some(kind) => kind,
        };
        let Some(entry) = self.slots.entry(key) else {
            debug_assert!(false, "a completion for a slot that is gone: {completion:?}");
            return;
        };
        if !completion.more {
            entry.ended(kind);
        }
        let released = entry.is_released();
        let receiving = entry.in_flight(Kind::Receive);
        match &mut entry.slot {
            Slot::Stream(stream) => match kind {
                Kind::Receive => {
                    let then = stream.receive.complete(completion, pools);
                    if released {
                        stream.receive.clear();
                    } else {
                        match then {
                            // Kernels lose the news of a reset that comes right behind bytes:
                            // `io_poll_check_events` in io_uring/poll.c takes both wake-ups for
                            // one, and the receive stays armed for ever. A poll does see it.
                            Then::Nothing if completion.more => {
                                start_poll(entry, &mut *self.driver, key);
                            }
                            Then::Nothing => {}
                            Then::Cancel => self.driver.cancel(token),
                            Then::Starve => self.starved.push_back(key),
                        }
                        if let Slot::Stream(stream) = &mut entry.slot {
                            wakes.extend(stream.receive.waker.take());
                        }
                    }
                }
                Kind::Send => {
                    let in_doubt = stream.send.is_in_doubt();
                    stream.send.complete(completion.result);
                    if !released {
                        if in_doubt {
                            wakes.extend(stream.receive.waker.take());
                        }
                        wakes.extend(stream.send.waker.take());
                        if stream.send.failed() {
                            // For who waits for a failure: a poll may find nothing any more.
                            wakes.extend(stream.control_waker.take());
                            wakes.extend(stream.receive.waker.take());
                        }
                        start_send(entry, &mut *self.driver, key);
                    }
                }
                Kind::Connect => {
                    stream.connected = Some(completion.result);
                    stream.address = None;
                    wakes.extend(stream.control_waker.take());
                }
                Kind::Poll => {
                    let error = completion.result < 0 && completion.result != -libc::ECANCELED;
                    let known = stream.broken;
                    stream.broken |= error || failed(completion.result);
                    let news = stream.broken && !known && !released;
                    if news && !stream.receive.cancelling && receiving {
                        // Armed again, it receives what is left, and then the error.
                        stream.receive.cancelling = true;
                        self.driver.cancel(Token::new(key, Kind::Receive));
                    }
                    // One that has ended must be started again by who waits for it.
                    if stream.broken || !completion.more {
                        wakes.extend(stream.control_waker.take());
                    }
                }
                _ => debug_assert!(false, "no operation of a stream: {completion:?}"),
            },
            Slot::Listener(listener) => {
                match completion.result {
                    // Stopped on purpose, or nothing at all: armed again when it is wanted.
                    error if -error == libc::ECANCELED => {}
                    error if error < 0 => {
                        listener.accepted.push_back(Err(io::Error::from_raw_os_error(-error)));
                    }
                    fd => {
                        // SAFETY: the completion of an accept hands over a new descriptor, once.
                        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                        if released {
                            self.driver.close(fd);
                        } else {
                            listener.accepted.push_back(Ok(fd));
                        }
                    }
                }
                wakes.extend(listener.waker.take());
            }
            Slot::Custom(custom) => {
                custom.result = Some(completion.result);
                wakes.extend(custom.waker.take());
            }
            Slot::Vacant { .. } => {}
        }
        if released {
            self.reclaim(key);
        }
    }

    /// Arms receives that found no buffer, in the order in which they did, while there are some.
    fn feed_starved(&mut self, pools: &[Rc<Pool>]) {
        if self.starved.is_empty() {
            return;
        }
        // Each takes at least one buffer; more than there are would starve again at once.
        let mut room = pools.get(SMALL as usize).map_or(0, |pool| pool.available());
        while room > 0 {
            let Some(key) = self.starved.pop_front() else { break };
            let Some(entry) = self.slots.entry(key) else { continue };
            if entry.is_released() {
                continue;
            }
            if let Slot::Stream(stream) = &mut entry.slot {
                stream.receive.starved = false;
                arm_receive(entry, &mut *self.driver, key);
                room -= 1;
            }
        }
    }
}

fn arm_receive(entry: &mut Entry, driver: &mut dyn Driver, key: Key) {
    let armed = entry.in_flight(Kind::Receive);
    let Slot::Stream(stream) = &mut entry.slot else { return };
    if let Some(operation) = stream.receive.arm(armed, driver.limits_receives()) {
        entry.started(Kind::Receive);
        let fd = entry.fd().expect("a stream has a descriptor");
        driver.start(Token::new(key, Kind::Receive), fd, operation);
    }
}

/// Polls for the failure of a connection, unless a poll is under way or has seen it.
fn start_poll(entry: &mut Entry, driver: &mut dyn Driver, key: Key) {
    let polling = entry.in_flight(Kind::Poll);
    let Slot::Stream(stream) = &mut entry.slot else { return };
    if polling || stream.broken {
        return;
    }
    entry.started(Kind::Poll);
    let fd = entry.fd().expect("a stream has a descriptor");
    driver.start(Token::new(key, Kind::Poll), fd, Operation::PollBroken);
}

fn start_send(entry: &mut Entry, driver: &mut dyn Driver, key: Key) {
    let Slot::Stream(stream) = &mut entry.slot else { return };
    if let Some(operation) = stream.send.start() {
        entry.started(Kind::Send);
        let fd = entry.fd().expect("a stream has a descriptor");
        driver.start(Token::new(key, Kind::Send), fd, operation);
    } else {
        finish_if_due(entry, driver);
    }
}

fn finish_if_due(entry: &mut Entry, driver: &mut dyn Driver) {
    let Slot::Stream(stream) = &mut entry.slot else { return };
    if stream.send.take_finish() {
        // It fails only where the connection is gone already, which the other direction reports.
        let fd = entry.fd().expect("a stream has a descriptor");
        let _ = driver.shutdown_write(fd);
    }
}

/// A hang-up alone is no failure: it is raised as soon as both sides have ended their directions,
/// with bytes of the peer's still to be received.
fn failed(events: i32) -> bool {
    events >= 0 && events & i32::from(libc::POLLERR) != 0
}

fn register(slot: &mut Option<Waker>, cx: &mut Context<'_>) {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *slot = Some(cx.waker().clone()),
    }
}
