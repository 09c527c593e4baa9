//! The byte relay: two streams, both directions at once.
//!
//! Chunks are forwarded from the buffers that they were received into. The end of a direction is
//! passed on as such while the other goes on; a reset is passed on as a reset. Backpressure goes
//! from end to end: what one side does not take is not received from the other. A direction that
//! turns out to be bulk changes to large receive buffers, and back.
//!
//! Flows in: two connected streams. Flows out: an [`Ended`]. It never looks at the bytes.

use std::{
    num::NonZeroU64,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use super::outlived::{End, PAUSE, Stage};
use crate::{
    net::Stream,
    ring::{Nanoseconds, nanoseconds},
    runtime::{Sleep, sleep_until},
};

/// How a relay is to end by itself.
///
/// Something moves when bytes are handed over to the kernel, and when a peer acknowledges some that
/// were handed over before: one that reads slowly out of large socket buffers is not idle. Hand-over
/// is noticed at once. Acknowledgement is looked for when the time is up, so a relay whose peer has
/// stopped reading ends up to twice the time after the last byte that it took; so does one whose peer
/// acknowledges nothing at all. A Unix socket's peer acknowledges by reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// When nothing moves in either direction for this long, the relay ends. Default 1 h.
    pub idle: Option<Duration>,
    /// The same once one direction has ended. Default 1 h.
    pub half_close: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        let hour = Some(Duration::from_secs(3600));
        Timeouts { idle: hour, half_close: hour }
    }
}

/// Why a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// Both directions came to their end.
    Done,
    /// The downstream side reset the connection or vanished.
    DownstreamReset,
    /// The upstream side did.
    UpstreamReset,
    /// Nothing moved for the idle timeout.
    IdleTimeout,
    /// Nothing moved for the half-close timeout, with one direction ended.
    HalfCloseTimeout,
    /// The certificates that one of the connections was made with were replaced some time ago.
    Outlived,
}

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// Why.
    pub why: Why,
    /// Bytes from downstream to upstream.
    pub received: u64,
    /// Bytes from upstream to downstream.
    pub sent: u64,
}

/// Told about bytes as they pass.
pub trait Meter {
    /// So many came from downstream and were handed over to upstream.
    fn received(&self, bytes: usize);
    /// So many came from upstream and were handed over to downstream.
    fn sent(&self, bytes: usize);
}

impl Meter for () {
    fn received(&self, _: usize) {}
    fn sent(&self, _: usize) {}
}

/// How long the bytes that arrived before a reset may take to leave.
const LAST_BYTES: Duration = Duration::from_secs(1);

/// Relays between two streams until both directions have ended, one fails, or time runs out. Over TLS
/// it may also end some time after the certificates were replaced, where that is wished for. Both
/// are then to be dropped: where one side has reset its connection, dropping the other resets that.
///
/// # Cancel safety
///
/// Dropping the future loses no bytes: what was received and not forwarded is still there to be
/// received.
pub fn pipe<'a, M: Meter>(
    downstream: &'a mut Stream,
    upstream: &'a mut Stream,
    timeouts: &'a Timeouts,
    meter: &'a M,
) -> impl Future<Output = Ended> + use<'a, M> {
    let end = End::of([downstream, upstream]);
    Pipe {
        moved_at: downstream.now(),
        downstream,
        upstream,
        up: Direction::default(),
        down: Direction::default(),
        timeouts,
        end,
        quiet: Quiet::default(),
        taken: Taken::default(),
        reset: None,
        meter,
    }
}

/// The future of [`pipe`]; written out, since there may be one for each of very many idle
/// connections.
struct Pipe<'a, M> {
    downstream: &'a mut Stream,
    upstream: &'a mut Stream,
    up: Direction,
    down: Direction,
    timeouts: &'a Timeouts,
    moved_at: Nanoseconds,
    end: Option<Box<End>>,
    quiet: Quiet,
    taken: Taken,
    /// One side has reset its connection; what came before that is on its way to the other.
    reset: Option<Why>,
    meter: &'a M,
}

impl<M: Meter> Future for Pipe<'_, M> {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let pipe = &mut *self;
        if pipe.reset.is_none() {
            match pipe.relay(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(why @ (Why::DownstreamReset | Why::UpstreamReset)) => {
                    pipe.reset = Some(why);
                    pipe.moved_at = pipe.downstream.now();
                    pipe.quiet = Quiet::default();
                }
                Poll::Ready(why) => return Poll::Ready(pipe.ended(why)),
            }
        }
        let why = pipe.reset.unwrap_or(Why::DownstreamReset);
        let passed_on = pipe.pass_on_rest(why, cx).is_ready()
            || pipe.quiet.poll(&mut pipe.moved_at, Some(LAST_BYTES), |_| false, cx).is_ready();
        if !passed_on {
            return Poll::Pending;
        }
        match why {
            Why::DownstreamReset => pipe.upstream.reset_on_drop(),
            _ => pipe.downstream.reset_on_drop(),
        }
        Poll::Ready(pipe.ended(why))
    }
}

impl<M: Meter> Pipe<'_, M> {
    fn ended(&self, why: Why) -> Ended {
        Ended { why, received: self.up.bytes, sent: self.down.bytes }
    }

    /// Forwards what came before a reset.
    fn pass_on_rest(&mut self, why: Why, cx: &mut Context<'_>) -> Poll<()> {
        if why == Why::DownstreamReset {
            let before = self.up.bytes;
            let passed_on = self.up.poll_rest(self.downstream, self.upstream, cx);
            self.meter.received((self.up.bytes - before) as usize);
            return passed_on;
        }
        let before = self.down.bytes;
        let passed_on = self.down.poll_rest(self.upstream, self.downstream, cx);
        self.meter.sent((self.down.bytes - before) as usize);
        passed_on
    }

    fn relay(&mut self, cx: &mut Context<'_>) -> Poll<Why> {
        let before = (self.up.bytes, self.down.bytes);
        let half_closed = self.up.finished || self.down.finished;
        let up = self.up.poll(self.downstream, self.upstream, cx);
        let down = self.down.poll(self.upstream, self.downstream, cx);
        let moved = (self.up.bytes - before.0, self.down.bytes - before.1);
        // The half-close timeout counts from the end of the direction, not from its last byte.
        let half_closes = !half_closed && (self.up.finished || self.down.finished);
        if moved != (0, 0) || half_closes {
            self.moved_at = self.downstream.now();
        }
        if moved.0 > 0 {
            self.meter.received(moved.0 as usize);
        }
        if moved.1 > 0 {
            self.meter.sent(moved.1 as usize);
        }
        match (up, down) {
            (Poll::Ready(Err(Broken::From)), _) | (_, Poll::Ready(Err(Broken::To))) => {
                return Poll::Ready(Why::DownstreamReset);
            }
            (Poll::Ready(Err(Broken::To)), _) | (_, Poll::Ready(Err(Broken::From))) => {
                return Poll::Ready(Why::UpstreamReset);
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Why::Done),
            _ => {}
        }
        // After the end of a direction nothing is received from its source that would tell.
        if self.up.finished && !self.down.finished && self.downstream.poll_broken(cx).is_ready() {
            return Poll::Ready(Why::DownstreamReset);
        }
        if self.down.finished && !self.up.finished && self.upstream.poll_broken(cx).is_ready() {
            return Poll::Ready(Why::UpstreamReset);
        }
        let stage = self.end.as_mut().map_or(Stage::Serves, |end| end.poll(cx));
        let (limit, why) = match (stage, half_closed || half_closes) {
            (Stage::Serves, false) => (self.timeouts.idle, Why::IdleTimeout),
            (Stage::Serves, true) => (self.timeouts.half_close, Why::HalfCloseTimeout),
            (Stage::WaitsForPause, _) => (Some(PAUSE), Why::Outlived),
            (Stage::IsOver, _) => {
                // In the middle of something, which nobody is to take for the whole.
                self.downstream.reset_on_drop();
                self.upstream.reset_on_drop();
                return Poll::Ready(Why::Outlived);
            }
        };
        let (downstream, upstream, taken) = (&*self.downstream, &*self.upstream, &mut self.taken);
        let looks = |just_moved| taken.look(just_moved, [downstream, upstream]);
        ready!(self.quiet.poll(&mut self.moved_at, limit, looks, cx));
        if why == Why::Outlived {
            self.downstream.announce_end();
            self.upstream.announce_end();
        }
        Poll::Ready(why)
    }
}

/// Which end of a direction has failed.
enum Broken {
    From,
    To,
}

#[derive(Default)]
struct Direction {
    bytes: u64,
    finished: bool,
    gear: Gear,
}

impl Direction {
    /// Forwards what there is. Ready when the direction has ended and everything was sent.
    fn poll(
        &mut self,
        from: &mut Stream,
        to: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        while !self.finished {
            match to.poll_send_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::To)),
                Poll::Pending => {
                    return match from.poll_broken(cx) {
                        Poll::Ready(()) => Poll::Ready(Err(Broken::From)),
                        Poll::Pending => Poll::Pending,
                    };
                }
            }
            let chunk = match from.poll_receive(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::From)),
                Poll::Ready(Ok(None)) => {
                    self.finished = true;
                    to.finish();
                    break;
                }
                Poll::Ready(Ok(Some(chunk))) => chunk,
            };
            self.bytes += chunk.len() as u64;
            if let Some(bulk) = self.gear.shift(chunk.len()) {
                from.set_bulk(bulk);
            }
            if to.start_send(chunk).is_err() {
                return Poll::Ready(Err(Broken::To));
            }
        }
        match to.poll_flush(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::To)),
            Poll::Pending => return Poll::Pending,
        }
        Poll::Ready(Ok(()))
    }

    /// Forwards what `from`, which has failed, still has. Ready when it has left, or cannot.
    fn poll_rest(&mut self, from: &mut Stream, to: &mut Stream, cx: &mut Context<'_>) -> Poll<()> {
        while ready!(to.poll_send_ready(cx)).is_ok() {
            let Ok(Some(chunk)) = ready!(from.poll_receive(cx)) else {
                return to.poll_flush(cx).map(drop);
            };
            self.bytes += chunk.len() as u64;
            // It was ready just now; if it fails, the next look tells.
            let _ = to.start_send(chunk);
        }
        Poll::Ready(())
    }
}

/// Tells bulk from messages by how full the chunks are.
#[derive(Default)]
pub(crate) struct Gear {
    bulk: bool,
    run: u32,
}

impl Gear {
    /// A chunk that fills a small buffer, or most of one.
    const FULL: usize = 4096;
    /// So many of them in a row are bulk: 256 KiB.
    const TO_BULK: u32 = 64;
    /// A chunk that small buffers would have held as well.
    const SMALL: usize = 16 << 10;
    const TO_MESSAGES: u32 = 16;

    /// Takes in the length of a chunk. `Some` when the gear changes.
    pub(crate) fn shift(&mut self, length: usize) -> Option<bool> {
        let (counts, enough) = match self.bulk {
            false => (length >= Gear::FULL, Gear::TO_BULK),
            true => (length < Gear::SMALL, Gear::TO_MESSAGES),
        };
        self.run = if counts { self.run + 1 } else { 0 };
        if self.run < enough {
            return None;
        }
        self.run = 0;
        self.bulk = !self.bulk;
        Some(self.bulk)
    }
}

/// How far the peers were at the last look, in one number, as there may be very many idle relays;
/// none where that was not settled.
#[derive(Default)]
struct Taken(Option<NonZeroU64>);

impl Taken {
    /// The bit that says that some of what was handed over had not been taken.
    const OUTSTANDING: u64 = 2;

    /// Whether a peer is taking what was handed over earlier: it has taken some since the last look,
    /// and was not done then or is not now. Without a look before, whether there is any to take.
    ///
    /// Bytes that were handed over just now are on their way: a look settles nothing.
    fn look(&mut self, just_moved: bool, peers: [&Stream; 2]) -> bool {
        if just_moved {
            self.0 = None;
            return false;
        }
        // It fails for a connection that is gone, which its own end tells.
        let peers = peers.map(|peer| peer.delivery().unwrap_or_default());
        let outstanding = peers.iter().any(|peer| peer.outstanding);
        // Spread, so that a step of one peer is never undone by one of the other.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let marks = peers[0].mark.wrapping_mul(SPREAD).wrapping_add(peers[1].mark);
        // The highest bits go, for one that makes it no 0 and one that says what is outstanding.
        let now = NonZeroU64::MIN | (marks << 2) | (u64::from(outstanding) * Self::OUTSTANDING);
        match self.0.replace(now) {
            Some(before) => {
                let moved = (before.get() ^ now.get()) & !Self::OUTSTANDING != 0;
                moved && (before | now).get() & Self::OUTSTANDING != 0
            }
            None => outstanding,
        }
    }
}

/// Finds out that nothing has moved for a time. Its timer is not touched when something moves: it
/// looks at the time of the last movement when it fires, and is set for what is left.
#[derive(Default)]
struct Quiet {
    timer: Option<(Sleep, Nanoseconds)>,
}

impl Quiet {
    /// Ready when nothing has moved for `limit`. Each time that the timer fires, `looks` is asked
    /// whether something has moved unnoticed since it was asked last; it is told whether something
    /// has moved this very moment.
    fn poll(
        &mut self,
        moved_at: &mut Nanoseconds,
        limit: Option<Duration>,
        mut looks: impl FnMut(bool) -> bool,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let Some(limit) = limit else {
            self.timer = None;
            return Poll::Pending;
        };
        let limit = nanoseconds(limit);
        let deadline = |moved_at: Nanoseconds| moved_at.saturating_add(limit);
        if self.timer.as_ref().is_none_or(|(_, of)| *of != limit) {
            self.timer = Some((sleep_until(deadline(*moved_at)), limit));
        }
        let Some((timer, _)) = &mut self.timer else { return Poll::Pending };
        while Pin::new(&mut *timer).poll(cx).is_ready() {
            let now = timer.now();
            // At every look, not only when time is up: so the next conclusion rests on the whole of it.
            if looks(*moved_at == now) {
                *moved_at = now;
            }
            if deadline(*moved_at) <= now {
                return Poll::Ready(());
            }
            timer.reset_until(deadline(*moved_at));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gears_change_after_runs_only() {
        let mut gear = Gear::default();
        for _ in 0..Gear::TO_BULK - 1 {
            assert_eq!(gear.shift(4096), None);
        }
        assert_eq!(gear.shift(100), None, "a small chunk ends the run");
        let shifts: Vec<_> = (0..Gear::TO_BULK).filter_map(|_| gear.shift(4096)).collect();
        assert_eq!(shifts, [true]);
        assert_eq!(gear.shift(1 << 20), None);
        let shifts: Vec<_> = (0..Gear::TO_MESSAGES).filter_map(|_| gear.shift(24)).collect();
        assert_eq!(shifts, [false]);
    }
}
