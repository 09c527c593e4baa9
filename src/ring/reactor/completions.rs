//! Taking in completions: the only place where an operation ends.
//!
//! Flows in: what a turn of the driver reported. Flows out: changes of slots, the wakers of who
//! waits for them, and operations that are due now. It owns the order in which streams that found
//! no buffer are served.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{FromRawFd, OwnedFd},
    rc::Rc,
    task::Waker,
};

use super::{
    Inner, SMALL,
    start::{arm_receive, start_poll, start_send},
};
use crate::ring::{
    buffers::Pool,
    driver::{Completion, Driver, Key, Kind, Token},
    receive::Then,
    slots::{Entry, ListenerSlot, Slot},
};

impl Inner {
    pub(super) fn complete(
        &mut self,
        completion: Completion,
        pools: &[Rc<Pool>],
        wakes: &mut Vec<Waker>,
    ) {
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
        let driver = &mut **self.driver;
        match &mut entry.slot {
            Slot::Stream(stream) => match kind {
                Kind::Receive => {
                    let then = stream.receive.complete(completion, pools);
                    if released {
                        stream.receive.clear();
                    } else {
                        wakes.extend(stream.receive.waker.take());
                        if stream.receive.failed() {
                            // A socket reports an error once, so a poll finds nothing any more.
                            wakes.extend(stream.take_control_waker());
                        }
                        if then == Then::Starve {
                            self.starved.add(key, &mut stream.receive.place);
                        }
                        go_on_receiving(then, completion, entry, driver);
                    }
                }
                Kind::Send => complete_send(completion, entry, driver, wakes),
                Kind::Connect => {
                    if let Some(control) = &mut stream.control {
                        control.connected = Some(completion.result);
                        control.address = None;
                    }
                    wakes.extend(stream.take_control_waker());
                }
                Kind::Poll => complete_poll(completion, entry, driver, wakes),
                _ => debug_assert!(false, "no operation of a stream: {completion:?}"),
            },
            Slot::Listener(listener) => {
                let late = complete_accept(completion.result, listener, released);
                if let Some(late) = late {
                    driver.close(late);
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

    /// Arms receives that found no buffer, the one that waits longest first, as many as there are
    /// buffers. True if more wait: those that were armed may have nothing to receive, and then leave
    /// the buffers to those behind them, whose turn is to come before the driver sleeps.
    pub(super) fn feed_starved(&mut self, pools: &[Rc<Pool>]) -> bool {
        if self.starved.is_empty() {
            return false;
        }
        // Sends hold buffers.
        self.driver.await_sends();
        let available = pools.get(SMALL as usize).map_or(0, |pool| pool.available());
        let mut room = available;
        while room > 0 {
            let Some(key) = self.starved.longest() else { return false };
            let Some(entry) = self.slots.entry(key) else { continue };
            if entry.is_released() {
                continue;
            }
            if let Slot::Stream(stream) = &mut entry.slot {
                stream.receive.starved = false;
                room -= usize::from(arm_receive(entry, &mut **self.driver, key));
            }
        }
        available > 0 && !self.starved.is_empty()
    }
}

/// Streams whose receive found no small buffer, in the order in which they first did since they last
/// got one.
#[derive(Default)]
pub(super) struct Starved {
    queue: BTreeMap<u64, Key>,
    /// How many places were given out.
    places: u64,
}

impl Starved {
    fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Queues a stream, at its place if it has one; 0 is none.
    fn add(&mut self, key: Key, place: &mut u64) {
        if *place == 0 {
            self.places += 1;
            *place = self.places;
        }
        self.queue.insert(*place, key);
    }

    fn longest(&mut self) -> Option<Key> {
        self.queue.pop_first().map(|(_, key)| key)
    }
}

fn go_on_receiving(then: Then, completion: Completion, entry: &mut Entry, driver: &mut dyn Driver) {
    match then {
        // Kernels lose the news of a reset that comes right behind bytes: `io_poll_check_events` in
        // io_uring/poll.c takes both wake-ups for one, and the receive stays armed for ever. A poll
        // does see it.
        Then::Nothing if completion.more => {
            if matches!(&entry.slot, Slot::Stream(stream) if stream.watched) {
                start_poll(entry, driver, completion.token.key());
            }
        }
        Then::Nothing | Then::Starve => {}
        Then::Cancel => driver.cancel(completion.token),
    }
}

fn complete_send(
    completion: Completion,
    entry: &mut Entry,
    driver: &mut dyn Driver,
    wakes: &mut Vec<Waker>,
) {
    let released = entry.is_released();
    let Slot::Stream(stream) = &mut entry.slot else { return };
    let in_doubt = stream.send.is_in_doubt();
    stream.send.complete(completion.result);
    if released {
        return;
    }
    if in_doubt {
        wakes.extend(stream.receive.waker.take());
    }
    wakes.extend(stream.send.waker.take());
    if stream.send.failed() {
        // For who waits for a failure: a poll may find nothing any more.
        wakes.extend(stream.take_control_waker());
        wakes.extend(stream.receive.waker.take());
    }
    start_send(entry, driver, completion.token.key());
}

fn complete_poll(
    completion: Completion,
    entry: &mut Entry,
    driver: &mut dyn Driver,
    wakes: &mut Vec<Waker>,
) {
    let released = entry.is_released();
    let receiving = entry.in_flight(Kind::Receive);
    let Slot::Stream(stream) = &mut entry.slot else { return };
    let error = completion.result < 0 && completion.result != -libc::ECANCELED;
    let known = stream.broken;
    stream.broken |= error || failed(completion.result);
    let news = stream.broken && !known && !released;
    if news && !stream.receive.cancelling && receiving {
        // Armed again, it receives what is left, and then the error.
        stream.receive.cancelling = true;
        driver.cancel(Token::new(completion.token.key(), Kind::Receive));
    }
    // One that has ended must be started again by who waits for it.
    if stream.broken || !completion.more {
        wakes.extend(stream.take_control_waker());
    }
}

/// Takes in an accepted descriptor, or gives it back, to be closed, where nobody wants it any more.
fn complete_accept(result: i32, listener: &mut ListenerSlot, released: bool) -> Option<OwnedFd> {
    match result {
        // Stopped on purpose, or nothing at all: armed again when it is wanted.
        error if -error == libc::ECANCELED => {}
        error if error < 0 => {
            listener.accepted.push_back(Err(io::Error::from_raw_os_error(-error)));
        }
        fd => {
            // SAFETY: a completion of an accept with a result that is no error number hands over a
            // descriptor that was opened for it; the driver reports each completion once, so nobody
            // else owns it.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            if released {
                return Some(fd);
            }
            listener.accepted.push_back(Ok(fd));
        }
    }
    None
}

/// A hang-up alone is no failure: it is raised as soon as both sides have ended their directions,
/// with bytes of the peer's still to be received.
fn failed(events: i32) -> bool {
    events >= 0 && events & i32::from(libc::POLLERR) != 0
}
