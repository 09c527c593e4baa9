//! A connection as a service receives it: the I/O and its load, in one value.
//!
//! *In:* a stream and what is counted of it, its load first. *Out:* the stream's I/O. *Owns:* both.
//! *Never:* lets the two part unnoticed.
//!
//! # Threads
//! As free as the stream inside: it is `Send` where the stream is.

use super::{Arrived, load::LoadGuard, tally::Tally};
use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    net::SocketAddr,
    ops::{Deref, DerefMut},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// A connection that is counted on its shard for as long as this value lives.
///
/// It is used as if it were the stream `S`. Had the stream and its guard come as a pair, the first
/// `let (stream, _) = …` would take the connection off its shard's load while it is still being
/// served; so the fields are private, and taking the two apart has to be said:
///
/// ```compile_fail
/// # fn take(connection: evenkeel::shard::Balanced<std::net::TcpStream>) {
/// let evenkeel::shard::Balanced { io, .. } = connection;
/// # }
/// ```
///
/// On drop the stream goes first: a shard is not taken to be free of a connection whose fd is still
/// open.
#[derive(Debug)]
pub struct Balanced<S> {
    io: S,
    carried: Carried,
}

/// What a connection carries besides its stream: it counts on its shard, under its listener and
/// under the limits that it was let in by until this is dropped.
///
/// It is `Send`, and may be dropped on any thread.
#[derive(Debug)]
#[must_use = "dropping it takes the connection off its shard's load"]
pub struct Carried {
    /// Of guests' connections; our own keep theirs beside their stream. It goes before the guard,
    /// so that whoever sees a load of zero sees the last counts.
    tally: Option<Box<Tally>>,
    guard: LoadGuard,
}

impl Carried {
    /// The guard: which shard carries the connection, and where its requests are counted.
    pub fn guard(&self) -> &LoadGuard {
        &self.guard
    }
}

impl<S> Balanced<S> {
    /// Ties `io` to the load that was claimed for it.
    pub fn new(io: S, guard: LoadGuard) -> Self {
        Self { io, carried: Carried { tally: None, guard } }
    }

    /// Where the client was connecting to before the connection was redirected here; `None` where
    /// it was not, or the listener does not ask.
    pub fn original_destination(&self) -> Option<SocketAddr> {
        self.carried.tally.as_ref()?.original_destination
    }

    /// The name of the listener that the connection came by. Empty where no listener of a proxy is
    /// behind it, [`new`](Self::new) for instance.
    pub fn listener(&self) -> &str {
        self.carried.tally.as_ref().map_or("", |tally| &tally.listener)
    }

    /// The stream.
    pub fn get_ref(&self) -> &S {
        &self.io
    }

    /// The stream, to change.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.io
    }

    /// The guard: which shard carries the connection, and where its requests are counted.
    pub fn guard(&self) -> &LoadGuard {
        &self.carried.guard
    }

    /// Wraps the stream, into a TLS session for instance, and keeps the load with it.
    pub fn map<T>(self, wrap: impl FnOnce(S) -> T) -> Balanced<T> {
        Balanced { io: wrap(self.io), carried: self.carried }
    }

    /// As [`map`](Self::map), where wrapping can fail; the connection has ended then.
    ///
    /// # Errors
    ///
    /// What `wrap` gave.
    pub fn try_map<T, E>(self, wrap: impl FnOnce(S) -> Result<T, E>) -> Result<Balanced<T>, E> {
        Ok(Balanced { io: wrap(self.io)?, carried: self.carried })
    }

    /// Takes the stream and what it carries apart. The connection stops counting as soon as the
    /// second part is dropped: keep it for as long as the stream is served.
    #[must_use = "what is dropped here takes the connection off its shard's load"]
    pub fn into_parts(self) -> (S, Carried) {
        (self.io, self.carried)
    }

    /// Counts bytes of a guest's connection.
    pub(crate) fn count_received(&self, bytes: usize) {
        if let Some(tally) = &self.carried.tally {
            tally.received(bytes);
        }
    }

    /// Counts bytes of a guest's connection.
    pub(crate) fn count_sent(&self, bytes: usize) {
        if let Some(tally) = &self.carried.tally {
            tally.sent(bytes);
        }
    }
}

impl Balanced<OwnedFd> {
    /// The connection of a guest, served from now on.
    pub(crate) fn arrived(mut arrived: Arrived) -> Self {
        let tally = Some(Box::new(Tally::new(&mut arrived)));
        Balanced { io: arrived.socket, carried: Carried { tally, guard: arrived.guard } }
    }
}

impl<S> Deref for Balanced<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.io
    }
}

impl<S> DerefMut for Balanced<S> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.io
    }
}

impl<S: AsFd> AsFd for Balanced<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

impl<S: Read> Read for Balanced<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let received = self.io.read(into)?;
        self.count_received(received);
        Ok(received)
    }

    fn read_vectored(&mut self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let received = self.io.read_vectored(into)?;
        self.count_received(received);
        Ok(received)
    }
}

impl<S: Write> Write for Balanced<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.io.write(bytes)?;
        self.count_sent(sent);
        Ok(sent)
    }

    fn write_vectored(&mut self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        let sent = self.io.write_vectored(bytes)?;
        self.count_sent(sent);
        Ok(sent)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.io.flush()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::shard::Loads;
    use std::io::Cursor;

    #[test]
    fn a_connection_counts_until_it_is_gone_whatever_was_made_of_it() {
        let loads = Loads::new(2);
        let connection = Balanced::new(Cursor::new(b"hello".to_vec()), loads.claim(1).unwrap());
        let mut wrapped = connection.map(io::BufReader::new);
        assert_eq!(loads.read(1).unwrap().connections, 1);

        let mut text = String::new();
        wrapped.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), wrapped.guard().shard()), ("hello", 1));

        let (stream, carried) = wrapped.into_parts();
        drop(stream);
        assert_eq!(loads.total(), 1, "the guard is what counts");
        drop(carried);
        assert_eq!(loads.total(), 0);
    }

    #[test]
    fn the_stream_is_closed_before_the_load_goes() {
        struct Closing(Loads);
        impl Drop for Closing {
            fn drop(&mut self) {
                assert_eq!(self.0.total(), 1);
            }
        }
        let loads = Loads::new(1);
        drop(Balanced::new(Closing(loads.clone()), loads.claim(0).unwrap()));
        assert_eq!(loads.total(), 0);
    }

    #[test]
    fn methods_of_the_stream_are_methods_of_the_connection() {
        let loads = Loads::new(1);
        let mut connection = Balanced::new(Vec::new(), loads.claim(0).unwrap());
        connection.write_all(b"abc").unwrap();
        connection.push(b'd');
        assert_eq!(connection.get_ref(), b"abcd");
        assert_eq!(connection.len(), 4);
    }
}
