//! A connection as a service receives it: the I/O and its load, in one value.
//!
//! *In:* a stream and the guard that counted it. *Out:* the stream's I/O. *Owns:* both. *Never:*
//! lets the two part unnoticed.
//!
//! # Threads
//! As free as the stream inside: it is `Send` where the stream is.

use super::load::LoadGuard;
use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    ops::{Deref, DerefMut},
    os::fd::{AsFd, BorrowedFd},
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
    guard: LoadGuard,
}

impl<S> Balanced<S> {
    /// Ties `io` to the load that was claimed for it.
    pub fn new(io: S, guard: LoadGuard) -> Self {
        Self { io, guard }
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
        &self.guard
    }

    /// Wraps the stream, into a TLS session for instance, and keeps the load with it.
    pub fn map<T>(self, wrap: impl FnOnce(S) -> T) -> Balanced<T> {
        Balanced { io: wrap(self.io), guard: self.guard }
    }

    /// Takes stream and load apart. The connection stops counting as soon as the guard is dropped:
    /// keep it for as long as the stream is served.
    #[must_use = "the guard that is dropped here takes the connection off its shard's load"]
    pub fn into_parts(self) -> (S, LoadGuard) {
        (self.io, self.guard)
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
        self.io.read(into)
    }

    fn read_vectored(&mut self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.io.read_vectored(into)
    }
}

impl<S: Write> Write for Balanced<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.io.write(bytes)
    }

    fn write_vectored(&mut self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        self.io.write_vectored(bytes)
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

        let (stream, guard) = wrapped.into_parts();
        drop(stream);
        assert_eq!(loads.total(), 1, "the guard is what counts");
        drop(guard);
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
