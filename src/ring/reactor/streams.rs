//! What the tasks of a shard ask of their streams.
//!
//! Flows in: calls of a stream's owner. Flows out: operations to the driver, and what has come of
//! earlier ones. It never waits: what is not there yet registers the caller's waker in the slot.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    task::{Context, Poll},
};

use super::{
    Inner, LARGE, Reactor, SMALL, gone, register,
    start::{arm_receive, await_if_held_up, finish_if_due, start_poll, start_send},
};
use crate::{
    ring::{
        buffers::Chunk,
        driver::{Driver, Key, Kind, Operation, Token},
        payload::Payload,
        slots::{Entry, Slot, StreamSlot},
    },
    sys::{
        delivery::Delivery,
        dial::{DialError, UpstreamOptions},
    },
};

/// Bytes that may wait on either side of a stream: received and not taken, or handed over and not
/// sent. In user space; the kernel's socket buffers come on top.
pub(crate) const CREDIT: u32 = 64 << 10;
/// The same in the bulk gear.
const BULK_CREDIT: u32 = 2 << 20;

impl Reactor {
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
        self.with_stream(key, |stream| {
            let Some(control) = &mut stream.control else { return Poll::Ready(Ok(())) };
            match control.connected {
                Some(0) => {
                    stream.control = None;
                    Poll::Ready(Ok(()))
                }
                Some(error) => Poll::Ready(Err(io::Error::from_raw_os_error(-error))),
                None => {
                    register(&mut control.waker, cx);
                    Poll::Pending
                }
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
                driver.await_sends();
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

    /// Receives into few large buffers, or many small ones, from the next time that the receive is
    /// armed, which is now where the driver can be made to.
    pub(crate) fn set_bulk(&self, key: Key, bulk: bool) {
        let inner = &mut *self.inner.borrow_mut();
        let Some((entry, driver)) = inner.entry(key) else { return };
        let armed = entry.in_flight(Kind::Receive);
        let Slot::Stream(stream) = &mut entry.slot else { return };
        if std::mem::replace(&mut stream.bulk, bulk) == bulk {
            return;
        }
        let (pool, credit) = if bulk { (LARGE, BULK_CREDIT) } else { (SMALL, CREDIT) };
        stream.receive.use_pool(pool, credit);
        if armed && !std::mem::replace(&mut stream.receive.cancelling, true) {
            driver.cancel(Token::new(key, Kind::Receive));
        }
    }

    /// Whether a poll looks out for a reset that comes right behind bytes.
    pub(crate) fn watch(&self, key: Key, watched: bool) {
        // A stream that is gone needs none.
        let _ = self.with_stream(key, |stream| stream.watched = watched);
    }

    /// Hands bytes over that leave along with the next ones that are sent.
    pub(crate) fn queue(&self, key: Key, payload: Payload) -> io::Result<()> {
        self.with_stream(key, |stream| stream.send.push(payload))?
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

    /// Ready when more may be handed over: few enough bytes, in few enough pieces, wait to be sent.
    pub(crate) fn poll_sendable(&self, key: Key, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_sent(key, cx, |stream, queued| {
            let limit = if stream.bulk { BULK_CREDIT } else { CREDIT };
            queued < limit as usize && !stream.send.is_full()
        })
    }

    /// Ready when all that was handed over is sent.
    pub(crate) fn poll_flushed(&self, key: Key, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_sent(key, cx, |_, _| false)
    }

    fn poll_sent(
        &self,
        key: Key,
        cx: &mut Context<'_>,
        is_enough: impl FnOnce(&StreamSlot, usize) -> bool,
    ) -> Poll<io::Result<()>> {
        let inner = &mut *self.inner.borrow_mut();
        let Some((entry, driver)) = inner.entry(key) else { return Poll::Ready(Err(gone())) };
        let Slot::Stream(stream) = &mut entry.slot else { return Poll::Ready(Err(gone())) };
        match stream.send.queued() {
            Err(error) => Poll::Ready(Err(error)),
            Ok(queued) if queued == 0 || is_enough(stream, queued) => Poll::Ready(Ok(())),
            Ok(_) => {
                register(&mut stream.send.waker, cx);
                await_if_held_up(entry, driver);
                Poll::Pending
            }
        }
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
        register(&mut stream.control.get_or_insert_default().waker, cx);
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

    /// How far the peer has taken what was handed over.
    pub(crate) fn delivery(&self, key: Key) -> io::Result<Delivery> {
        let inner = &mut *self.inner.borrow_mut();
        let (entry, driver) = inner.entry(key).ok_or_else(gone)?;
        let mut delivery = driver.delivery(entry.fd().ok_or_else(gone)?)?;
        if let Slot::Stream(stream) = &entry.slot {
            delivery.outstanding |= stream.send.queued()? > 0;
        }
        Ok(delivery)
    }

    /// Calls with the descriptor of a slot, with nothing borrowed: `call` may be an embedder's.
    pub(crate) fn call_with_fd<T>(
        &self,
        key: Key,
        call: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        let fd = self.with_fd(key, |_, fd| Ok(fd.as_raw_fd()))?;
        // SAFETY: the slot owns the descriptor and closes it only after it was released. Its handle
        // does that when it is dropped, and is borrowed here until `call` returns; the executor does
        // it at its end, which cannot come while a task, or its destructor, is in this call.
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
}

impl Inner {
    fn start_connect(&mut self, fd: OwnedFd, address: socket2::SockAddr, credit: u32) -> Key {
        let mut stream = StreamSlot::new(credit, true);
        let control = stream.control.get_or_insert_default();
        let address: *const socket2::SockAddr =
            &raw const **control.address.insert(Box::new(address));
        let key = self.slots.insert(Some(fd), Slot::Stream(stream));
        if let Some((entry, driver)) = self.entry(key) {
            entry.started(Kind::Connect);
            let fd = entry.fd().expect("it was just given");
            driver.start(Token::new(key, Kind::Connect), fd, Operation::Connect { address });
        }
        key
    }
}
