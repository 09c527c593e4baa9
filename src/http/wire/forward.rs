//! A body from one message to another.

use std::{future::poll_fn, task::Poll};

use super::{BodyFault, Incoming, Outgoing};
use crate::{
    net::{Receiving, Sending},
    relay::Gear,
};

/// Which side a body could not be forwarded for.
#[derive(Debug)]
pub(in crate::http) enum Broken {
    /// The side that it comes from.
    From(BodyFault),
    /// The side that it goes to.
    To,
}

/// Forwards the body of the message that `from` is reading, behind the head that was begun in `to`,
/// and sends both. `see` is shown every piece; where it refuses one, its error ends the body.
///
/// What is there leaves together. A receiver that does not take what it is sent stops the sender: at
/// most a credit's worth of bytes waits between the two, however long the body is.
///
/// # Cancel safety
///
/// None: a message that was begun cannot be taken up again. Both connections are of no use then.
pub(in crate::http) async fn forward(
    (from, receiving): (&mut Incoming, &mut Receiving<'_>),
    (to, sending): (&mut Outgoing, &mut Sending<'_>),
    mut see: impl FnMut(&[u8]) -> Result<(), Broken>,
) -> Result<(), Broken> {
    let mut gear = Gear::default();
    loop {
        let next = poll_fn(|cx| match from.poll_body(receiving, cx) {
            Poll::Ready(next) => Poll::Ready(next.map_err(Broken::From)),
            Poll::Pending => match to.flush(sending) {
                Ok(()) => Poll::Pending,
                Err(_) => Poll::Ready(Err(Broken::To)),
            },
        });
        let Some(piece) = next.await? else { break };
        see(&piece)?;
        if let Some(bulk) = gear.shift(piece.len()) {
            receiving.set_bulk(bulk);
        }
        // What waits for a start would wait for ever if this waited for it.
        poll_fn(|cx| match sending.poll_ready(cx) {
            Poll::Pending => {
                to.flush(sending).map_or_else(|e| Poll::Ready(Err(e)), |()| Poll::Pending)
            }
            ready => ready,
        })
        .await
        .map_err(|_| Broken::To)?;
        to.body(sending, piece).map_err(|_| Broken::To)?;
    }
    to.end(sending, from.trailers());
    to.flush(sending).map_err(|_| Broken::To)
}
