//! Taking in completions: the only place where an operation ends.
//!
//! Flows in: what a turn of the driver reported. Flows out: changes of slots, the wakers of who
//! waits for them, and operations that are due now.

use std::{
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
    driver::{Completion, Kind, Token},
    receive::Then,
    slots::Slot,
};

impl Inner {
    /// Takes in one completion: the only place where an operation ends.
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
            Some(Kind::Doorbell | Kind::Cancel | Kind::Close | Kind::Ring) | None => return,
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
    pub(super) fn feed_starved(&mut self, pools: &[Rc<Pool>]) {
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

/// A hang-up alone is no failure: it is raised as soon as both sides have ended their directions,
/// with bytes of the peer's still to be received.
fn failed(events: i32) -> bool {
    events >= 0 && events & i32::from(libc::POLLERR) != 0
}
