//! Starting the operations of a stream that are due: after a call of its owner, and after the
//! completion of another.

use crate::ring::{
    driver::{Driver, Key, Kind, Operation, Token},
    slots::{Entry, Slot},
};

/// Arms the receive, if it is due and there is none. Says whether it did.
pub(super) fn arm_receive(entry: &mut Entry, driver: &mut dyn Driver, key: Key) -> bool {
    let armed = entry.in_flight(Kind::Receive);
    let Slot::Stream(stream) = &mut entry.slot else { return false };
    let operation = stream.receive.arm(armed, driver.limits_receives());
    let Some(operation) = operation else { return false };
    entry.started(Kind::Receive);
    let fd = entry.fd().expect("a stream has a descriptor");
    driver.start(Token::new(key, Kind::Receive), fd, operation);
    true
}

/// Polls for the failure of a connection, unless a poll is under way or has seen it.
pub(super) fn start_poll(entry: &mut Entry, driver: &mut dyn Driver, key: Key) {
    let polling = entry.in_flight(Kind::Poll);
    let Slot::Stream(stream) = &mut entry.slot else { return };
    if polling || stream.broken {
        return;
    }
    entry.started(Kind::Poll);
    let fd = entry.fd().expect("a stream has a descriptor");
    driver.start(Token::new(key, Kind::Poll), fd, Operation::PollBroken);
}

pub(super) fn start_send(entry: &mut Entry, driver: &mut dyn Driver, key: Key) {
    let Slot::Stream(stream) = &mut entry.slot else { return };
    if let Some(operation) = stream.send.start() {
        entry.started(Kind::Send);
        let fd = entry.fd().expect("a stream has a descriptor");
        driver.start(Token::new(key, Kind::Send), fd, operation);
        await_if_held_up(entry, driver);
    } else {
        finish_if_due(entry, driver);
    }
}

pub(super) fn finish_if_due(entry: &mut Entry, driver: &mut dyn Driver) {
    let Slot::Stream(stream) = &mut entry.slot else { return };
    if stream.send.take_finish() {
        // It fails only where the connection is gone already, which the other direction reports.
        let fd = entry.fd().expect("a stream has a descriptor");
        let _ = driver.shutdown_write(fd);
    }
    await_if_held_up(entry, driver);
}

/// Tells the driver if the end of the send in flight makes a difference.
pub(super) fn await_if_held_up(entry: &Entry, driver: &mut dyn Driver) {
    if let Slot::Stream(stream) = &entry.slot
        && stream.send.is_held_up()
    {
        driver.await_sends();
    }
}
